"""int8 with the sensitive parts of a network in float32: what is done where quantisation costs too much.

Which parts those are is measured: one part alone is quantised (stem, one of the blocks, head, classifier), and the
change of the probabilities is its sensitivity. That finds what an error within the layer cannot show, such as a channel
that is a hundred times larger than those that share its scale.
"""

import dataclasses
import re
import warnings

import numpy as np
import tensorflow as tf

from efficientnetv2_tf.deploy.tflite_file import check_operators, schema
from efficientnetv2_tf.deploy.tflite_model import make_interpreter
from efficientnetv2_tf.training.startup import hidden_stderr

_PART = re.compile(r"stem|blocks_\d+|head|classifier")
_PROBES = 32  # calibration pictures on which sensitivities are measured
_MOST = 0.5  # of the parts stay in float at most: with more, the file is no quantised network any more


@dataclasses.dataclass(frozen=True)
class Mixed:
    """A partly quantised network.

    Attributes:
        content: bytes of the .tflite file, with float32 input and output.
        float_parts: what stayed in float32, the most sensitive first.
        parts: how many parts there are.
        agreement: share of the calibration pictures with the float network's top class.
    """

    content: bytes
    float_parts: tuple[str, ...]
    parts: int
    agreement: float


def convert_mixed(converter, expected, target, console):
    """Keeps 1, 2, 3, 5, 8 ... of the most sensitive parts in float32, until the float network is matched well enough.

    Args:
        converter: a `Converter` with calibration pictures.
        expected: float32 [n, classes], the float network's probabilities of the calibration pictures.
        target: agreement with the float network on them that is enough, in (0, 1].
        console: a `rich.console.Console` for what happens.

    Returns:
        A `Mixed`; the one that agrees most if none is good enough.
    """
    images = converter.calibration_images
    quantizer = _Quantizer(converter, images)
    console.print(f"Measuring which of {len(quantizer.parts)} parts of the network int8 hurts most ...")
    order = quantizer.most_sensitive_first(images[:_PROBES], expected[:_PROBES])
    best, count = None, 1
    while count <= max(1, _MOST * len(order)):
        content = quantizer.quantize(set(order) - {*order[:count]})
        agreement = float(np.mean(_outputs(content, images).argmax(1) == expected.argmax(1)))
        if best is None or agreement > best.agreement:
            best = Mixed(content, tuple(order[:count]), len(order), agreement)
        if agreement >= target:
            break
        count += (count + 1) // 2
    check_operators(best.content)
    return best


class _Quantizer:
    """Quantises any choice of a network's parts; calibrates once."""

    def __init__(self, converter, images):
        self._options = tf.lite.experimental.QuantizationDebugOptions()
        with hidden_stderr(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"\s*Warning: tf.lite.Interpreter is deprecated")  # its own
            self._debugger = tf.lite.experimental.QuantizationDebugger(
                converter=converter.prepare("int8"),
                debug_dataset=lambda: ([image[None]] for image in images[:1]),
                debug_options=self._options,
            )
        self._names = _part_names(self._debugger.calibrated_model)
        self.parts = list(self._names)

    def quantize(self, parts):
        """Bytes of the file in which these parts are int8."""
        self._options.denylisted_nodes = [
            name for part, names in self._names.items() if part not in parts for name in names
        ]
        with hidden_stderr():
            return self._debugger.get_nondebug_quantized_model()

    def most_sensitive_first(self, images, expected):
        """The parts by how much the probabilities change where a part alone is quantised."""

        def change(part):
            return np.abs(_outputs(self.quantize({part}), images) - expected).sum()

        return sorted(self.parts, key=change, reverse=True)


def _part_names(content):
    """{part: names of its operators' outputs}, in the order of the network."""
    tflite = schema()
    model = tflite.ModelT.InitFromObj(tflite.Model.GetRootAs(content, 0))
    names = {}
    for graph in model.subgraphs:
        for tensor in (graph.tensors[index] for operator in graph.operators for index in operator.outputs):
            name = tensor.name.decode()
            if part := _PART.search(name):
                names.setdefault(part[0], []).append(name)
    return names


def _outputs(content, images):
    """float32 [images, classes]"""
    interpreter = make_interpreter(content, threads=2)
    source, target = (d[0]["index"] for d in (interpreter.get_input_details(), interpreter.get_output_details()))
    rows = []
    for image in images:
        interpreter.set_tensor(source, image[None])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(target)[0])
    return np.stack(rows)
