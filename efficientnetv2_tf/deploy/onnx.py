"""Export to ONNX, for onnxruntime and what else reads it. Importing this needs neither."""

import importlib.util
import json

from efficientnetv2_tf.training.hparams import ConfigError

INPUT, OUTPUT = "pixels", "probabilities"
INSTALL = "pip install 'efficientnetv2_tf[onnx]'"
_NEEDED = ("tf2onnx", "onnx", "onnxruntime")
_OPSET = 17  # onnxruntime reads it since 1.12


def check_onnx(packages=_NEEDED):
    """Raises a `ConfigError` where one of the packages is missing; all are what an export and its check need."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"ONNX needs packages that are not installed: {', '.join(missing)}. {INSTALL} installs them.")


def write_onnx(bundle, path):
    """Writes a network as ONNX: `pixels`, float32 [batch, size, size, 3], to `probabilities`, float32 [batch, classes].

    Pixels are in 0..255 of the resized picture, red, green, blue; they are normalised inside. What else has to be
    known, the names of the classes too, is in the file's metadata (see `OnnxModel`).

    Args:
        bundle: a `Bundle`.
        path: of the file to write.

    Raises:
        ConfigError: a package is missing, or tf2onnx cannot convert the network's activation (gelu and celu).
    """
    check_onnx()
    import onnx
    import tensorflow as tf
    import tf2onnx

    from efficientnetv2_tf.data import decode
    from efficientnetv2_tf.deploy.saved_model import probabilities_of

    shape = [None, bundle.image_size, bundle.image_size, 3]

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, name=INPUT)])
    def classify(pixels):
        logits = bundle.network(decode.normalize(pixels, bundle.style), training=False)
        return {OUTPUT: probabilities_of(tf.cast(logits, tf.float32), bundle.multi_label)}

    model, _ = tf2onnx.convert.from_function(classify, classify.input_signature, opset=_OPSET)
    _check_operators(model)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"  # tf2onnx makes up a name for each
    onnx.helper.set_model_props(model, {key: json.dumps(value) for key, value in _info(bundle).items()})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def _check_operators(model):
    """What tf2onnx cannot convert it leaves as it was, with no more than a line in the log."""
    import onnx

    left = sorted({node.op_type for node in model.graph.node if not onnx.defs.has(node.op_type, node.domain)})
    if left:
        raise ConfigError(
            f"The network cannot be written as ONNX, which has nothing for TensorFlow's {', '.join(left)}. The "
            "activations gelu and celu cause this; silu, relu and most others can be written."
        )


def _info(bundle):
    return {
        "class_names": list(bundle.class_names),
        "image_size": bundle.image_size,
        "style": bundle.style,
        "crop": bundle.crop,
        "multi_label": bundle.multi_label,
    }


class OnnxModel:
    """A classifier in a file that `write_onnx` wrote, run by onnxruntime on the CPU.

    Args:
        path: of the file.

    Attributes:
        info: `image_size`, `style` and `crop` (as in `data.decode.resize_for_eval`), and `multi_label`.
        class_names: in the order of the probabilities.

    Raises:
        ConfigError: onnxruntime is not installed, or the file is not one of ours.
    """

    def __init__(self, path):
        check_onnx(["onnxruntime"])
        import onnxruntime

        try:
            self._session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # of onnxruntime's own kinds, which it does not export
            raise ConfigError(f"{path} cannot be read as ONNX: {error}") from error
        properties = self._session.get_modelmeta().custom_metadata_map
        if "class_names" not in properties:
            raise ConfigError(f"{path} does not say how to feed it. Expected an .onnx file that --mode=export wrote.")
        self.info = {key: json.loads(value) for key, value in properties.items()}
        self.class_names = tuple(self.info.pop("class_names"))

    def predict(self, pixels):
        """Probabilities of pictures.

        Args:
            pixels: float32 [pictures, image_size, image_size, 3], 0..255, not normalised.

        Returns:
            float32 [pictures, classes].
        """
        return self._session.run([OUTPUT], {INPUT: pixels})[0]
