"""The inside of a .tflite file: its operators, and the labels and metadata that go with it.

A file carries its metadata in two places that other software knows as well. A flatbuffer (schema "M001" of TensorFlow
Lite's model metadata, which MediaPipe Tasks, Android Studio and the Task Library read) says what goes in and comes out.
A zip archive behind the model holds `labels.txt`, one class a line, and `model.json`, what else has to be known to
use the file: any unzip opens it, and interpreters stop reading before it.
"""

import collections
import io
import json
import pathlib
import zipfile

import flatbuffers
import numpy as np

from efficientnetv2_tf.training.hparams import ConfigError

LABELS, INFO = "labels.txt", "model.json"
INSTALL = "pip install 'efficientnetv2_tf[tflite]'"
_FILE_IDENTIFIER, _METADATA_IDENTIFIER, _METADATA_NAME = b"TFL3", b"M001", "TFLITE_METADATA"
# Weights that were not frozen, and what differs from call to call, have no place in a file for inference.
_UNFIT = {"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "RANDOM_UNIFORM", "RANDOM_STANDARD_NORMAL", "MULTINOMIAL"}
# Values of the metadata's schema.
_FEATURE, _IMAGE, _NORMALIZATION, _RGB, _AXIS_LABELS = 1, 2, 1, 1, 2
_OFFSET = flatbuffers.Builder.PrependUOffsetTRelativeSlot
_BYTE, _UBYTE = flatbuffers.Builder.PrependInt8Slot, flatbuffers.Builder.PrependUint8Slot
_UINT = flatbuffers.Builder.PrependUint32Slot


def schema():
    """The generated classes of the .tflite format.

    Raises:
        ConfigError: ai-edge-litert, which brings them and the interpreter, is not installed.
    """
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise ConfigError(f"TFLite files need ai-edge-litert, which is not installed: {INSTALL}") from error
    return schema_py_generated


def read_file(path):
    """The bytes of a .tflite file.

    Raises:
        ConfigError: it is missing, or no TFLite file.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ConfigError(f"{path} was not found. Expected a .tflite file; --mode=export writes them.")
    content = path.read_bytes()
    if content[4:8] != _FILE_IDENTIFIER:
        raise ConfigError(f"{path} is no TFLite file. Expected one that --mode=export wrote.")
    return content


def operators(content):
    """How often a file uses each operator.

    Args:
        content: bytes of the file.

    Returns:
        A `collections.Counter` from names to numbers: builtin ones as in TFLite's schema, such as "CONV_2D"; custom
        and Flex ones by their own names behind "CUSTOM ".
    """
    tflite = schema()
    names = {number: name for name, number in vars(tflite.BuiltinOperator).items() if isinstance(number, int)}
    model = tflite.ModelT.InitFromObj(tflite.Model.GetRootAs(content, 0))
    codes = [
        f"CUSTOM {code.customCode.decode()}" if code.customCode else names[code.builtinCode]
        for code in model.operatorCodes
    ]
    return collections.Counter(codes[o.opcodeIndex] for graph in model.subgraphs for o in graph.operators)


def check_operators(content):
    """Refuses a file that not every TFLite interpreter runs, or that is not pure inference.

    Args:
        content: bytes of the file.

    Raises:
        ConfigError: there are custom, Flex, random or variable operators in it.
    """
    found = [name for name in operators(content) if name.startswith("CUSTOM ") or name in _UNFIT]
    if found:
        raise ConfigError(
            f"The network cannot be written with TFLite's builtin operators alone. Expected no custom, Flex, random or "
            f"variable operators. Received: {', '.join(sorted(found))}. The usual cause is an activation or a layer of "
            "your own."
        )


def with_metadata(content, info, class_names):
    """A file with labels and metadata in it.

    Args:
        content: bytes of a file with one input, pixels, and one output, probabilities.
        info: dictionary for `model.json`, with `name`, `description` and `image_size`.
        class_names: in the order of the probabilities.
    """
    tflite = schema()
    model = tflite.ModelT.InitFromObj(tflite.Model.GetRootAs(content, 0))
    model.description = f"{info['name']}: {info['description']}"
    buffer = tflite.BufferT()
    buffer.data = np.frombuffer(_metadata(info), np.uint8)
    model.buffers.append(buffer)
    entry = tflite.MetadataT()
    entry.name, entry.buffer = _METADATA_NAME, len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    builder = flatbuffers.Builder(len(content) + 2**16)
    builder.Finish(model.Pack(builder), file_identifier=_FILE_IDENTIFIER)
    labels = "".join(f"{' '.join(name.split())}\n" for name in class_names)
    return _with_archive(bytes(builder.Output()), {LABELS: labels, INFO: json.dumps(info, indent=2) + "\n"})


def read_info(content):
    """(info, class names) that `with_metadata` put into a file.

    Args:
        content: bytes of the file.

    Raises:
        ConfigError: there are none in it.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            info = json.loads(archive.read(INFO))
            return info, tuple(archive.read(LABELS).decode("utf-8").splitlines())
    except (zipfile.BadZipFile, KeyError) as error:
        raise ConfigError(
            f"The TFLite file does not say how to feed it: expected {LABELS} and {INFO} inside, as --mode=export "
            "writes them."
        ) from error


def _metadata(info):
    """The metadata's flatbuffer. Numbers are the fields' places in its schema."""
    builder = flatbuffers.Builder(1024)
    inputs, outputs = _input(builder, info["image_size"]), _output(builder)
    graph = _table(builder, {2: _vector(builder, inputs), 3: _vector(builder, outputs)})
    texts = {0: info["name"], 1: info["description"], 7: "1.0.0"}  # 7: the oldest reader that understands it
    fields = {slot: builder.CreateString(text) for slot, text in texts.items()}
    model = _table(builder, {**fields, 3: _vector(builder, graph)})
    builder.Finish(model, file_identifier=_METADATA_IDENTIFIER)
    return bytes(builder.Output())


def _input(builder, image_size):
    size = _table(builder, {0: (_UINT, image_size), 1: (_UINT, image_size)})
    picture = _table(builder, {0: (_BYTE, _RGB), 1: size})
    content = _table(builder, {0: (_UBYTE, _IMAGE), 1: picture})
    # The network scales its pixels by itself: (pixel - 0) / 1 is all that is to be done before.
    scaling = _table(builder, {0: _floats(builder, 0.0), 1: _floats(builder, 1.0)})
    unit = _table(builder, {0: (_UBYTE, _NORMALIZATION), 1: scaling})
    stats = _table(builder, {0: _floats(builder, 255.0), 1: _floats(builder, 0.0)})
    name = builder.CreateString("pixels")
    description = builder.CreateString("RGB pixels in 0..255 of the resized picture; they are normalised inside.")
    return _table(builder, {0: name, 1: description, 3: content, 4: _vector(builder, unit), 5: stats})


def _output(builder):
    labels = {0: builder.CreateString(LABELS), 1: builder.CreateString("Names of the classes, one a line.")}
    labels = _table(builder, {**labels, 2: (_BYTE, _AXIS_LABELS)})
    content = _table(builder, {0: (_UBYTE, _FEATURE), 1: _table(builder, {})})
    stats = _table(builder, {0: _floats(builder, 1.0), 1: _floats(builder, 0.0)})
    name = builder.CreateString("probabilities")
    description = builder.CreateString("Probability of each class.")
    return _table(builder, {0: name, 1: description, 3: content, 5: stats, 6: _vector(builder, labels)})


def _table(builder, fields):
    """A table; fields are offsets, or (how to write it, number), by their places."""
    builder.StartObject(max(fields, default=-1) + 1)
    for slot, field in fields.items():
        write, value = field if isinstance(field, tuple) else (_OFFSET, field)
        write(builder, slot, value, 0)
    return builder.EndObject()


def _vector(builder, table):
    """A vector with one table."""
    builder.StartVector(4, 1, 4)
    builder.PrependUOffsetTRelative(table)
    return builder.EndVector()


def _floats(builder, value):
    return builder.CreateNumpyVector(np.array([value], np.float32))


def _with_archive(content, files):
    """`content` and a zip archive of texts behind it, uncompressed as readers of the metadata want it."""
    file = io.BytesIO(content)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_STORED) as archive:  # places in it count from the file's beginning
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)  # dated 1980: the same texts give the same bytes
    return file.getvalue()
