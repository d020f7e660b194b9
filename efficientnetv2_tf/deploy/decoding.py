"""Encoded pictures to a network's input inside a graph, where a broken one must not stop the others.

A graph has no try, but tf.data has `ignore_errors`; `get_single_element` makes one operation of a data set, which any
server of SavedModels runs.
"""

import tensorflow as tf

from efficientnetv2_tf.data import decode

_PARALLEL = 8  # pictures decoded at once, if the machine has the threads


def read_pictures(image_bytes, image_size, style, crop):
    """Decodes and resizes what can be decoded, as `data.decode.preprocess_eval` does.

    Args:
        image_bytes: string [pictures].
        image_size: side in pixels, a Python number.
        style: one of `data.decode.STYLES`.
        crop: whether to look at the centre.

    Returns:
        (rows, images, sides) of the pictures for which `data.decode.decode` raises no error: int32 [good], their places
        in `image_bytes` in ascending order; float32 [good, image_size, image_size, 3], 0..255 and not normalised; int32
        [good, 2], height and width as decoded.
    """
    count = tf.size(image_bytes)

    def read(row, encoded):
        picture = decode.decode(encoded)
        image = decode.resize_for_eval(picture, image_size, style, crop=crop)
        return row, tf.ensure_shape(image, [image_size, image_size, 3]), tf.shape(picture)[:2]

    examples = tf.data.Dataset.from_tensor_slices((tf.range(count), image_bytes))
    good = examples.map(read, num_parallel_calls=_PARALLEL, deterministic=True).ignore_errors()
    # One more, so that there is a batch even where nothing is good.
    extra = tf.nest.map_structure(lambda spec: tf.zeros(spec.shape, spec.dtype), good.element_spec)
    batch = good.concatenate(tf.data.Dataset.from_tensors(extra)).batch(tf.cast(count, tf.int64) + 1)
    return tf.nest.map_structure(lambda values: values[:-1], batch.with_options(_options()).get_single_element())


def _options():
    """Each call makes a data set of its own, which is too short-lived to be tuned or rewritten."""
    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    return options
