r"""Writes the SavedModels that the tests of serving ask: tiny and echo, of which requests.json tells, and pictures.

    python tests/deploy/serving/make_models.py MODELS

With Docker, a real TF Serving then takes the place of the stand-in:

    docker run -d -p 8501:8501 -v "$PWD/MODELS:/models" tensorflow/serving:2.20.0 \
        --model_config_file=/models/models.config
    TFS_URL=http://127.0.0.1:8501 pytest tests/deploy/serving/test_requests.py
"""

import pathlib
import sys

import numpy as np
import tensorflow as tf

INTEGERS = tf.TensorSpec([None], tf.int64, name="k")
COLOURS = {
    "rot": (255, 0, 0),
    "grün": (0, 255, 0),
    "blau": (0, 0, 255),
    "weiß": (255, 255, 255),
    "schwarz": (0, 0, 0),
    "grau": (128, 128, 128),
}


class Tiny(tf.Module):
    """Encoded images -> probabilities of four classes, from the mean colour."""

    def __init__(self):
        super().__init__()
        self.kernel = tf.Variable(np.linspace(-1, 1, 12).reshape(3, 4).astype("float32"))
        self.names = tf.constant(["a", "b", "c", "d"])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def classify(self, image_bytes):
        spec = tf.TensorSpec([32, 32, 3], tf.float32)
        mean = tf.reduce_mean(tf.map_fn(self._decode, image_bytes, fn_output_signature=spec), [1, 2])
        probabilities = tf.nn.softmax(mean @ self.kernel)
        best = tf.gather(self.names, tf.math.top_k(probabilities, 2).indices)
        return {"probabilities": probabilities, "top_classes": best, "mean": mean}

    @tf.function(input_signature=[tf.TensorSpec([None, 32, 32, 3], tf.float32, name="images")])
    def classify_decoded(self, images):
        return {"probabilities": tf.nn.softmax(tf.reduce_mean(images, [1, 2]) @ self.kernel)}

    @staticmethod
    def _decode(encoded):
        image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
        return tf.image.resize(tf.image.convert_image_dtype(image, tf.float32), [32, 32], antialias=True)

    def signatures(self):
        return {"serving_default": self.classify, "tensors": self.classify_decoded}


class Echo(tf.Module):
    """Several inputs and outputs, of several types."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="img"), INTEGERS])
    def echo(self, img, k):
        return {"echo": img, "echo_bytes": img, "k2": 2 * k, "d": tf.cast(k, tf.float64) / 3}

    @tf.function(input_signature=[INTEGERS])
    def scalar(self, k):
        return {"scalar": tf.reduce_sum(k)}

    @tf.function(input_signature=[INTEGERS])
    def half(self, k):
        return {"half": tf.cast(k, tf.float16)}

    def signatures(self):
        return {"serving_default": self.echo, "scalar": self.scalar, "half": self.half}


class Pictures(tf.Module):
    """What the page wants: the nearest of six colours, and how bright each part is, drawn over the middle half."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def classify(self, image_bytes):
        mean = tf.reduce_mean(self._decode(image_bytes), [1, 2])
        distances = tf.norm(mean[:, None] - tf.constant([*COLOURS.values()], tf.float32), axis=-1)
        probabilities = tf.nn.softmax(-distances / 50)
        scores, order = tf.math.top_k(probabilities, 5)
        return {"probabilities": probabilities, "classes": tf.gather([*COLOURS], order), "scores": scores}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def explain(self, image_bytes):
        heatmap = tf.reduce_mean(self._decode(image_bytes), 3) / 255
        region = tf.ones_like(heatmap)[:, 0, :] * [0.0, 0.25, 1.0, 0.75]
        return {**self.classify(image_bytes), "heatmap": heatmap, "region": region}

    @staticmethod
    def _decode(image_bytes):
        def decode(encoded):
            image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
            return tf.image.resize(image, [4, 4], method="area")

        return tf.map_fn(decode, image_bytes, fn_output_signature=tf.TensorSpec([4, 4, 3], tf.float32))

    def signatures(self):
        return {"serving_default": self.classify, "explain": self.explain}


def save(module, path):
    """Saves one of the classes above as a SavedModel."""
    tf.saved_model.save(module, str(path), signatures=module.signatures())


def save_all(base):
    """Saves all of them as BASE/NAME/1, and a configuration for TF Serving beside them."""
    entries = []
    for module in (Tiny(), Echo(), Pictures()):
        name = type(module).__name__.lower()
        save(module, pathlib.Path(base) / name / "1")
        entries.append(f'config {{ name: "{name}" base_path: "/models/{name}" model_platform: "tensorflow" }}')
    (pathlib.Path(base) / "models.config").write_text("model_config_list {\n" + "\n".join(entries) + "\n}\n")


if __name__ == "__main__":
    save_all(sys.argv[1])
