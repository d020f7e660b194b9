"""The inside of a .tflite file, with files that are made by hand."""

import io
import json
import zipfile

import flatbuffers
import pytest

from efficientnetv2_tf.deploy.tflite_file import (
    check_operators,
    operators,
    read_file,
    read_info,
    schema,
    with_metadata,
)
from efficientnetv2_tf.training.hparams import ConfigError

pytest.importorskip("ai_edge_litert")
INFO = {"name": "net", "description": "int8: small", "image_size": 48, "mode": "int8"}


def file_with(*names):
    """A file whose graph has these operators, and nothing else."""
    tflite = schema()
    model, graph = tflite.ModelT(), tflite.SubGraphT()
    model.version, model.buffers, model.subgraphs, model.operatorCodes = 3, [tflite.BufferT()], [graph], []
    graph.operators, graph.tensors, graph.inputs, graph.outputs = [], [], [], []
    for index, name in enumerate(names):
        code, operator = tflite.OperatorCodeT(), tflite.OperatorT()
        code.builtinCode = getattr(tflite.BuiltinOperator, name, tflite.BuiltinOperator.CUSTOM)
        code.customCode = None if hasattr(tflite.BuiltinOperator, name) else name
        operator.opcodeIndex, operator.inputs, operator.outputs = index, [], []
        model.operatorCodes.append(code)
        graph.operators.append(operator)
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def test_operators_are_counted_by_name():
    assert operators(file_with("CONV_2D", "ADD", "CONV_2D")) == {"CONV_2D": 2, "ADD": 1}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("FlexErf", "CUSTOM FlexErf"),
        ("MyOwn", "CUSTOM MyOwn"),
        ("RANDOM_UNIFORM", "RANDOM_UNIFORM"),
        ("READ_VARIABLE", "READ_VARIABLE"),
    ],
)
def test_what_not_every_interpreter_runs_is_refused(name, shown):
    check_operators(file_with("CONV_2D"))
    with pytest.raises(ConfigError, match=f"builtin operators alone.*Received: {shown}\\."):
        check_operators(file_with("CONV_2D", name))


def test_labels_and_information_come_back_and_any_unzip_reads_them():
    content = with_metadata(file_with("CONV_2D"), INFO, ["cat", "big\ndog", "Ünï"])
    assert read_info(content) == (INFO, ("cat", "big dog", "Ünï"))
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        assert archive.read("labels.txt").decode() == "cat\nbig dog\nÜnï\n"
        assert json.loads(archive.read("model.json")) == INFO
        # Places count from the beginning of the file, where not every reader looks for the archive's own.
        assert all(content[item.header_offset :].startswith(b"PK\x03\x04") for item in archive.infolist())
    assert operators(content) == {"CONV_2D": 1}
    assert content == with_metadata(file_with("CONV_2D"), INFO, ["cat", "big\ndog", "Ünï"])


class Table:
    """Reads a flatbuffer's table field by field; numbers are the fields' places in the schema."""

    def __init__(self, content, position):
        self._table = flatbuffers.table.Table(content, position)

    def at(self, slot):
        offset = self._table.Offset(4 + 2 * slot)
        assert offset, f"no field {slot}"
        return self._table.Pos + offset

    def text(self, slot):
        return self._table.String(self.at(slot)).decode()

    def number(self, slot, kind=flatbuffers.number_types.Int8Flags):
        return self._table.Get(kind, self.at(slot))

    def table(self, slot):
        return Table(self._table.Bytes, self._table.Indirect(self.at(slot)))

    def first(self, slot):
        """The table that is all that a vector has."""
        offset = self._table.Offset(4 + 2 * slot)
        assert self._table.VectorLen(offset) == 1
        return Table(self._table.Bytes, self._table.Indirect(self._table.Vector(offset)))

    def floats(self, slot):
        return self._table.GetVectorAsNumpy(flatbuffers.number_types.Float32Flags, self._table.Offset(4 + 2 * slot))


def test_metadata_is_where_readers_of_the_schema_m001_look():
    content = with_metadata(file_with("CONV_2D"), INFO, ["cat", "dog"])
    tflite = schema()
    model = tflite.ModelT.InitFromObj(tflite.Model.GetRootAs(content, 0))
    assert model.description == b"net: int8: small"
    (entry,) = model.metadata
    assert entry.name == b"TFLITE_METADATA"
    metadata = bytes(model.buffers[entry.buffer].data)
    assert metadata[4:8] == b"M001"
    root = Table(bytearray(metadata), flatbuffers.encode.Get(flatbuffers.packer.uoffset, metadata, 0))
    assert (root.text(0), root.text(1), root.text(7)) == ("net", "int8: small", "1.0.0")
    graph = root.first(3)
    pixels, probabilities = graph.first(2), graph.first(3)
    assert (pixels.text(0), probabilities.text(0)) == ("pixels", "probabilities")
    image = pixels.table(3)
    assert image.number(0) == 2  # of the union of contents: an image
    assert image.table(1).number(0) == 1  # RGB
    size = image.table(1).table(1)
    assert [size.number(slot, flatbuffers.number_types.Uint32Flags) for slot in (0, 1)] == [48, 48]
    unit = pixels.first(4)
    assert unit.number(0) == 1  # of the union of processing units: normalisation
    assert (unit.table(1).floats(0), unit.table(1).floats(1)) == ([0], [1])  # nothing left to do
    assert (pixels.table(5).floats(0), pixels.table(5).floats(1)) == ([255], [0])
    labels = probabilities.first(6)
    assert (labels.text(0), labels.number(2)) == ("labels.txt", 2)  # labels of an axis


def test_a_file_without_our_information_is_refused():
    with pytest.raises(ConfigError, match=r"does not say how to feed it.*labels\.txt and model\.json"):
        read_info(file_with("CONV_2D"))


def test_what_is_no_tflite_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.tflite was not found"):
        read_file(tmp_path / "none.tflite")
    (tmp_path / "text.tflite").write_text("not a model")
    with pytest.raises(ConfigError, match=r"text\.tflite is no TFLite file"):
        read_file(tmp_path / "text.tflite")
    (tmp_path / "good.tflite").write_bytes(file_with("ADD"))
    assert read_file(tmp_path / "good.tflite") == file_with("ADD")
