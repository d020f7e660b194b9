"""Runs a .tflite file with LiteRT's interpreter, `ai-edge-litert`. TensorFlow is not needed."""

import numpy as np

from efficientnetv2_tf.deploy.tflite_file import INSTALL, read_file, read_info
from efficientnetv2_tf.training.hparams import ConfigError
from efficientnetv2_tf.training.startup import hidden_stderr


class TFLiteModel:
    """A classifier in a .tflite file that `export_tflite` wrote.

    Args:
        file: its path, or its bytes.
        threads: number of CPU threads, at least 1.

    Attributes:
        info: what the file says of itself: `name`, `mode`, `image_size`, `style` and `crop` (as in
            `data.decode.resize_for_eval`), `multi_label` and more.
        class_names: in the order of the probabilities.

    Raises:
        ConfigError: the file is missing or not one of ours, or ai-edge-litert is not installed.
    """

    def __init__(self, file, threads=1):
        content = file if isinstance(file, bytes) else read_file(file)
        self.info, self.class_names = read_info(content)
        self._interpreter = make_interpreter(content, threads)
        (self._input,) = self._interpreter.get_input_details()
        (self._output,) = self._interpreter.get_output_details()

    def predict(self, pixels):
        """Probabilities of pictures, which run one by one.

        Args:
            pixels: [pictures, image_size, image_size, channels], numbers in 0..255 of any type, resized as
                `data.decode.resize_for_eval` does and not normalised. An integer input rounds and clips them.

        Returns:
            float32 [pictures, classes] in 0..1.

        Raises:
            ValueError: the pictures have another size.
        """
        expected = tuple(self._input["shape"][1:])
        if np.ndim(pixels) != 4 or np.shape(pixels)[1:] != expected:
            expected = ", ".join(map(str, expected))
            raise ValueError(f"`pixels` should be [pictures, {expected}]. Received: {np.shape(pixels)}")
        rows = [self.run(image) for image in self.as_input(pixels)]
        return np.stack(rows) if rows else np.zeros([0, self._output["shape"][-1]], np.float32)

    def as_input(self, pixels):
        """`pixels` of `predict` in the type that the file takes."""
        if self._input["dtype"] == np.uint8:  # its scale is 1, its zero point 0
            pixels = np.clip(np.round(pixels), 0, 255)
        return np.asarray(pixels).astype(self._input["dtype"])

    def run(self, image):
        """Probabilities of one picture.

        Args:
            image: [image_size, image_size, channels] of `as_input`.

        Returns:
            float32 [classes].
        """
        self._interpreter.set_tensor(self._input["index"], image[None])
        self._interpreter.invoke()
        values = self._interpreter.get_tensor(self._output["index"])[0]
        if values.dtype == np.float32:
            return values
        scale, zero_point = self._output["quantization"]
        return (values.astype(np.float32) - zero_point) * np.float32(scale)

    @property
    def dtypes(self):
        """Names of the NumPy types of input and output."""
        return tuple(np.dtype(details["dtype"]).name for details in (self._input, self._output))


def make_interpreter(content, threads=1):
    """LiteRT's interpreter of a file's bytes, ready to run.

    Args:
        content: bytes of a .tflite file.
        threads: number of CPU threads.

    Raises:
        ConfigError: ai-edge-litert is not installed.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise ConfigError(f"TFLite files run with ai-edge-litert, which is not installed: {INSTALL}") from error
    with hidden_stderr():  # it writes which delegate it made
        interpreter = Interpreter(model_content=content, num_threads=threads)
        interpreter.allocate_tensors()
    return interpreter
