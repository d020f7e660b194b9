"""From a network to the bytes of .tflite files, in each of the modes.

A file has one signature, `classify`: `pixels` [1, size, size, channels] in 0..255 to `probabilities` [1, classes].
Scaling of the pixels and softmax (sigmoid with several labels a picture) are inside, so that nothing can be done wrong
outside but the resizing. The batch is 1, because phones' accelerators want fixed shapes.

Source of the arithmetic: Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference
(Jacob et al., CVPR 2018).
"""

import contextlib
import tempfile

import numpy as np
import tensorflow as tf

from efficientnetv2_tf.deploy.saved_model import probabilities_of
from efficientnetv2_tf.deploy.tflite_file import check_operators
from efficientnetv2_tf.networks.preprocessing import normalize
from efficientnetv2_tf.training.hparams import ConfigError
from efficientnetv2_tf.training.startup import hidden_stderr

SIGNATURE = "classify"
_LONGEST_REASON = 300  # characters; MLIR prints whole functions


def classify_function(bundle, batch_size=None):
    """The network as a `tf.function` from pixels to probabilities.

    Args:
        bundle: a `Bundle`.
        batch_size: of its input; None for any.

    Returns:
        A function of float32 [batch, size, size, channels], 0..255, that gives {"probabilities": float32 [batch,
        classes]}.
    """
    channels = bundle.network.inputs[0].shape[-1]
    spec = tf.TensorSpec([batch_size, bundle.image_size, bundle.image_size, channels], tf.float32, name="pixels")

    @tf.function(autograph=False, input_signature=[spec])
    def classify(pixels):
        logits = bundle.network(normalize(pixels, bundle.style, channels), training=False)
        return {"probabilities": probabilities_of(logits, bundle.multi_label)}

    return classify


@contextlib.contextmanager
def converter_of(bundle, calibration_images=None, *, uint8_io=False):
    """Gives a `Converter` of a network, which works as long as the block lasts.

    Args:
        bundle: a `Bundle`.
        calibration_images: as in `Converter`.
        uint8_io: likewise.
    """
    function = classify_function(bundle, batch_size=1)
    module = tf.Module()
    # The variables themselves: the converter freezes what it finds here, and not what a Keras model holds.
    module.weights = [variable.value for variable in bundle.network.variables]
    with tempfile.TemporaryDirectory(prefix="tflite-") as folder:
        tf.saved_model.save(module, folder, signatures={SIGNATURE: function})
        yield Converter(folder, calibration_images, uint8_io=uint8_io)


class Converter:
    """Converts one network; `converter_of` makes it.

    Args:
        saved_model: folder of the network with the signature `classify`.
        calibration_images: float32 [n, size, size, channels], 0..255: pictures of the kind that the network will see,
            whose activations' ranges the integer modes take; the others ignore them.
        uint8_io: whether the mode "int8" takes and gives uint8 instead of float32.
    """

    def __init__(self, saved_model, calibration_images=None, *, uint8_io=False):
        self._saved_model = saved_model
        self.calibration_images = calibration_images
        self._uint8_io = uint8_io

    def convert(self, mode):
        """The bytes of a .tflite file.

        Args:
            mode: of `tflite.MODES`, but "int8_mixed" (see `tflite_mixed`).

        Raises:
            ConfigError: the network does not convert, or not with TFLite's builtin operators alone.
        """
        with _told(mode), hidden_stderr():
            content = self.prepare(mode, uint8_io=self._uint8_io and mode == "int8").convert()
        check_operators(content)
        return content

    def prepare(self, mode, *, uint8_io=False):
        """The `tf.lite.TFLiteConverter` of a mode, ready to go."""
        converter, sets = tf.lite.TFLiteConverter.from_saved_model(self._saved_model, [SIGNATURE]), tf.lite.OpsSet
        if mode != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if mode == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if mode in ("int8", "int16x8"):
            # With one of these alone, an operator that has no integer form is an error and does not stay in float.
            sixteen = sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
            converter.target_spec.supported_ops = [sixteen if mode == "int16x8" else sets.TFLITE_BUILTINS_INT8]
            images = _as_uint8_sees(self.calibration_images) if uint8_io else self.calibration_images
            converter.representative_dataset = lambda: ([image[None]] for image in images)
        if uint8_io:
            converter.inference_input_type = converter.inference_output_type = tf.uint8
        return converter


def _as_uint8_sees(images):
    """Calibration pictures in whole numbers of 0..255, with both ends among them: the input's scale is 1 then.

    Bicubic resizing leaves 0..255, which would make the input's scale more than 1. Two corners of one picture are the
    price for pictures of which none is quite black or quite white.
    """
    images = np.clip(np.round(images), 0, 255).astype(np.float32)
    images[0, 0, 0], images[0, -1, -1] = 0, 255
    return images


@contextlib.contextmanager
def _told(mode):
    """Makes a message of what the converter throws, for which TensorFlow has no public type."""
    try:
        yield
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ConfigError(
            f"TensorFlow Lite cannot convert this network to {mode}: {reason[0][:_LONGEST_REASON]} Leave {mode} out; "
            "float32 and float16 ask the least of a network."
        ) from error
