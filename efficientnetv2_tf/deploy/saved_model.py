"""The SavedModel that TF Serving loads: signatures from encoded pictures, pixels or the network's input.

| signature | takes | gives |
|---|---|---|
| `serving_default` | `image_bytes`: string [batch] | `probabilities`, `classes`, `scores` |
| `images` | `images`: uint8 [batch, height, width, 3] | the same |
| `preprocessed` | `preprocessed`: float32 [batch, size, size, 3] | `logits` |
| `features` | `image_bytes` | `features`, the means of the last feature maps |
| `explain` | `image_bytes` | `probabilities`, `classes`, `scores`, `heatmap`, `region` |

`classes` are the names of the five likeliest classes and `scores` their probabilities, best first; with fewer classes
there are as many. `heatmap` [batch, h, w] in 0..1 says where the likeliest class was found, at the resolution of the
last feature maps (1 / 32 of the size), and `region` [batch, 4] which part of the picture it covers: top, left, bottom
and right as shares of height and width.

`image_bytes` may mix JPEG, PNG, GIF, BMP and WebP of any size. A picture that cannot be decoded (see
`decoding.read_pictures`) does not disturb the others: its row has zeros, and "" for `classes`. Only if no picture of a
call can be decoded, the call is an error (INVALID_ARGUMENT; over REST status 400). Where a server joins the requests of
several clients, a call is what it joined.

Outputs are float32 and string. Nothing needs XLA, and nothing is random.
"""

import functools

import tensorflow as tf

from efficientnetv2_tf.data import decode
from efficientnetv2_tf.data.image_formats import MAX_PIXELS
from efficientnetv2_tf.deploy.decoding import read_pictures
from efficientnetv2_tf.deploy.explain import check_classifier, class_heatmaps, forward_network, looked_at
from efficientnetv2_tf.networks.folding import fold_normalization

SIGNATURES = ("serving_default", "images", "preprocessed", "features", "explain")
TOP = 5  # classes that are named
_NO_PICTURE = (
    "No image could be decoded. Expected image_bytes of whole JPEG, PNG, GIF, BMP or WebP files of at most "
    f"{MAX_PIXELS:,} pixels each."
)


def write_saved_model(bundle, folder):
    """Writes a network and its preprocessing as a SavedModel with the signatures above.

    Args:
        bundle: a `Bundle`.
        folder: path to write to.

    Raises:
        ConfigError: the network has no classifier.
    """
    servable, module = Servable(bundle), tf.Module()
    # keras.export.ExportArchive would write each of them twice.
    module.weights = [variable.value for variable in servable.network.weights]
    tf.saved_model.save(module, str(folder), signatures={name: servable.signature(name) for name in SIGNATURES})


def probabilities_of(logits, multi_label):
    """float32 [batch, classes] in 0..1: sigmoids where a picture may have several classes, else a softmax."""
    return tf.sigmoid(logits) if multi_label else tf.nn.softmax(logits)


class Servable:
    """What the signatures compute.

    Args:
        bundle: a `Bundle`.

    Attributes:
        network: the bundle's, with its batch normalisation folded into the convolutions.

    Raises:
        ConfigError: the network has no classifier.
    """

    def __init__(self, bundle):
        check_classifier(bundle.network)
        self._bundle = bundle
        self.network = fold_normalization(bundle.network)
        forward = forward_network(self.network)
        self._kernel = self.network.get_layer("classifier").kernel

        # One function that all signatures call, so that the file holds the network's graph once.
        @tf.function(input_signature=[tf.TensorSpec([None, bundle.image_size, bundle.image_size, 3], tf.float32)])
        def run(preprocessed):
            outputs = forward(preprocessed, training=False)
            return {key: tf.cast(value, tf.float32) for key, value in outputs.items()}

        self._run = run

    def signature(self, name):
        """A signature as a function.

        Args:
            name: one of `SIGNATURES`.

        Returns:
            A `tf.types.experimental.ConcreteFunction`, called with its input by name.
        """
        size = self._bundle.image_size
        specs = {
            "images": tf.TensorSpec([None, None, None, 3], tf.uint8, name="images"),
            "preprocessed": tf.TensorSpec([None, size, size, 3], tf.float32, name="preprocessed"),
        }
        spec = specs.get(name, tf.TensorSpec([None], tf.string, name="image_bytes"))
        return tf.function(getattr(self, f"_{name}")).get_concrete_function(spec)

    def _serving_default(self, image_bytes):
        spread, outputs, _ = self._read(image_bytes)
        return spread(self._answer(outputs["logits"]))

    def _features(self, image_bytes):
        spread, outputs, _ = self._read(image_bytes)
        return spread({"features": outputs["features"]})

    def _explain(self, image_bytes):
        spread, outputs, sides = self._read(image_bytes)
        logits, bundle = outputs["logits"], self._bundle
        heatmap = class_heatmaps(outputs["maps"], self._kernel, tf.argmax(logits, axis=1))
        region = looked_at(sides, bundle.image_size, bundle.style, bundle.crop)
        return spread({**self._answer(logits), "heatmap": heatmap, "region": region})

    def _images(self, images):
        size, style = self._bundle.image_size, self._bundle.style
        resized = tf.map_fn(
            lambda image: decode.resize_for_eval(image, size, style, crop=self._bundle.crop),
            tf.ensure_shape(images, [None, None, None, 3]),
            fn_output_signature=tf.TensorSpec([size, size, 3], tf.float32),
        )
        return self._answer(self._run(decode.normalize(resized, style))["logits"])

    def _preprocessed(self, preprocessed):
        size = self._bundle.image_size
        return {"logits": self._run(tf.ensure_shape(preprocessed, [None, size, size, 3]))["logits"]}

    def _read(self, image_bytes):
        """(what spreads outputs over all rows, the network's outputs for the good pictures, their sides)."""
        bundle, image_bytes = self._bundle, tf.ensure_shape(image_bytes, [None])
        rows, images, sides = read_pictures(image_bytes, bundle.image_size, bundle.style, bundle.crop)
        with tf.control_dependencies([tf.debugging.Assert(tf.size(rows) > 0, [_NO_PICTURE])]):
            outputs = self._run(decode.normalize(images, bundle.style))
        return functools.partial(_spread, rows=rows, count=tf.size(image_bytes)), outputs, sides

    def _answer(self, logits):
        names = self._bundle.class_names
        probabilities = probabilities_of(logits, self._bundle.multi_label)
        top = tf.math.top_k(probabilities, min(TOP, len(names)))
        return {"probabilities": probabilities, "classes": tf.gather(names, top.indices), "scores": top.values}


def _spread(outputs, rows, count):
    """Each output [good, ...] with `count` rows: its own where `rows` says, zeros or "" in the others."""

    def spread(values):
        shape = tf.concat([[count], tf.shape(values)[1:]], axis=0)
        return tf.ensure_shape(tf.scatter_nd(rows[:, None], values, shape), [None, *values.shape[1:]])

    return {key: spread(values) for key, values in outputs.items()}
