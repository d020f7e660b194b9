"""Pictures as a .tflite file takes them: resized as in evaluation, and not normalised."""

import os

import numpy as np
import tensorflow as tf

from efficientnetv2_tf.data import decode
from efficientnetv2_tf.data.sources import DataError

_WINDOW = 20  # pictures that are read for each that is drawn, where reading all would take long


def calibration_images(task, bundle, count=200, seed=0):
    """Training pictures from the evaluation's path, drawn at random; bad ones are passed over.

    Args:
        task: a `Task`.
        bundle: the `Bundle` that is to be calibrated.
        count: how many, at most.
        seed: of the draw: from all of them where items are names of files or there are few, else from the first
            20 * count.

    Returns:
        float32 [at most count, image_size, image_size, 3], 0..255 (bicubic resizing leaves that by a little).

    Raises:
        DataError: none of them can be decoded.
    """
    split = task.source.train
    window = split.count if split.named_items else min(split.count, _WINDOW * count)
    chosen = np.sort(np.random.default_rng(seed).choice(window, min(count, window), replace=False))
    examples = split.open((0, 1), tf.constant([seed, 0], tf.int64)).take(window).enumerate()
    examples = examples.filter(lambda position, _: tf.reduce_any(position == chosen)).map(lambda _, example: example)
    images = [image for image, _ in _pictures(examples, split, bundle).as_numpy_iterator()]
    if not images:
        raise DataError(f"None of {len(chosen)} training pictures of {task.source.name!r} can be decoded.")
    return np.stack(images)


def evaluation_batches(task, bundle, limit=None):
    """The evaluation pictures, each once, in their order; bad ones are passed over.

    Args:
        task: a `Task`.
        bundle: the `Bundle` that is evaluated.
        limit: how many pictures, at most; None takes all.

    Returns:
        A `tf.data.Dataset` of (pixels: float32 [batch, image_size, image_size, 3], 0..255; labels: float32 [batch,
        classes], 1 for the classes of a picture).
    """
    split, classes = task.source.eval, task.source.num_classes

    def hot(label):
        labels = tf.one_hot(label, classes)
        return tf.reduce_max(labels, axis=0) if task.source.multi_label else labels

    pictures = _pictures(split.open((0, 1)).take(-1 if limit is None else limit), split, bundle)
    return pictures.map(lambda image, label: (image, hot(label))).batch(task.config.data.eval_batch_size)


def _pictures(examples, split, bundle):
    """(image, label) of (key, item, label)."""

    def picture(_, item, label):
        image = decode.decode(split.read(item))
        image = decode.resize_for_eval(image, bundle.image_size, bundle.style, crop=bundle.crop)
        return tf.ensure_shape(image, [bundle.image_size, bundle.image_size, 3]), label

    options = tf.data.Options()
    options.autotune.enabled = False  # its thread sleeps, and deleting the iterator waits for it
    pictures = examples.map(picture, num_parallel_calls=os.cpu_count() or 1, deterministic=True).ignore_errors()
    return pictures.with_options(options)
