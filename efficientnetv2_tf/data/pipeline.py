"""From examples to batches, with everything random drawn from (seed, epoch, example)."""

import os

import tensorflow as tf

from efficientnetv2_tf.data import augment, decode, mixing

_MIXING = 1  # folded into an example's seed where a batch needs one of its own
_PREFETCH = 2  # batches


def train_dataset(source, config, controls, *, style, seed):
    """One epoch of training batches; every new iterator reads `controls` anew.

    The order is shuffled by (seed, epoch), each picture is cropped and augmented by (seed, epoch, its number in the
    data set), so the same run gives the same batches anywhere, epochs differ, and after a restart
    `controls.first_batch` leaves out just what was trained on.

    Args:
        source: a `Source`.
        config: a `DataConfig`.
        controls: the `StageControls` with image size, magnitude, alphas and epoch.
        style: preprocessing, one of `decode.STYLES`.
        seed: of the run.

    Returns:
        A finite `tf.data.Dataset` of (images: float32 [batch, size, size, 3], labels: float32 [batch, classes]).
        A last batch that is not full is left out.

    Raises:
        ValueError: the batch is larger than the data set.
    """
    if config.batch_size > source.num_train:
        raise ValueError(
            f"data.batch_size: expected at most the {source.num_train} training images of {source.name!r}. "
            f"Received: {config.batch_size}"
        )
    examples = source.train().enumerate()
    if config.cache == "memory":
        examples = examples.cache()

    def shuffled(_):
        epoch_seed = tf.random.experimental.stateless_fold_in(tf.constant([seed, 0], tf.int64), controls.epoch)
        order = _shuffled(examples, config.shuffle_buffer, epoch_seed)
        return order.skip(controls.first_batch * config.batch_size)

    def prepare(index, example):
        image, label = example
        seeds = tf.random.experimental.stateless_fold_in(tf.constant([seed, 1], tf.int64), controls.epoch)
        seeds = tf.cast(tf.random.experimental.stateless_fold_in(seeds, index), tf.int32)
        return _train_image(image, config, controls, style, seeds), _label(label, source), seeds

    def finish(images, labels, seeds):
        images = decode.normalize(images, style)
        batch_seed = tf.random.experimental.stateless_fold_in(seeds[0], _MIXING)
        return mixing.mix(images, labels, controls.mixup_alpha, controls.cutmix_alpha, batch_seed)

    # Made anew for each iterator, because a shuffle's seed is fixed when the data set is made.
    batches = tf.data.Dataset.range(1).flat_map(shuffled)
    batches = _parallel(batches, prepare).batch(config.batch_size, drop_remainder=True)
    return _without_autotune(_parallel(batches, finish))


def eval_dataset(source, config, *, image_size, batch_size, style):
    """All evaluation pictures, each once, in a fixed order; the last batch may be smaller.

    Args:
        source: a `Source`.
        config: a `DataConfig`.
        image_size: side in pixels.
        batch_size: pictures of a batch.
        style: preprocessing, one of `decode.STYLES`.

    Returns:
        A `tf.data.Dataset` of (images: float32 [batch, image_size, image_size, 3], labels: float32 [batch, classes]).
    """

    def prepare(image, label):
        image = decode.preprocess_eval(image, image_size, style, crop=config.crop != "none")
        return image, _label(label, source)

    return _without_autotune(_parallel(source.eval(), prepare).batch(batch_size))


def _parallel(dataset, function):
    return dataset.map(function, num_parallel_calls=os.cpu_count() or 1, deterministic=True)


def _without_autotune(dataset):
    """The data set with a fixed prefetch, and without tf.data's tuning of itself.

    Its tuning runs in a thread that sleeps for longer and longer, up to a minute. An iterator that is deleted waits
    for that thread, so with a new iterator each epoch the next epoch's first step stood still for 17 to 32 s.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.prefetch(_PREFETCH).with_options(options)


def _shuffled(dataset, buffer_size, seed):
    """`dataset.shuffle` with a seed that is a tensor (int64 [2]); the method takes numbers only."""
    specs = tf.nest.flatten(dataset.element_spec)
    variant = tf.raw_ops.ShuffleDataset(
        input_dataset=tf.data.experimental.to_variant(dataset),
        buffer_size=tf.constant(buffer_size, tf.int64),
        seed=seed[0],
        seed2=seed[1],
        output_types=[spec.dtype for spec in specs],
        output_shapes=[spec.shape for spec in specs],
        reshuffle_each_iteration=False,
    )
    return tf.data.experimental.from_variant(variant, dataset.element_spec)


def _train_image(image, config, controls, style, seed):
    """Decoded, cut, resized and augmented: uint8 [size, size, 3]."""
    geometry, operations = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    image = decode.resize_for_training(
        decode.decode(image), controls.image_size, geometry, style, crop=config.crop != "none", flip=config.flip
    )
    scale = config.randaugment_scale_pixels
    if config.augment == "randaugment":
        # At magnitude 0 the release's operations are strong (Solarize inverts, Brightness is 0.1); 0 is off here.
        image = tf.cond(
            controls.magnitude > 0,
            lambda: augment.randaugment(
                image,
                controls.magnitude,
                operations,
                num_layers=config.randaugment_layers,
                scale_pixels=scale,
                exclude=config.randaugment_exclude,
            ),
            lambda: image,
        )
    elif config.augment == "autoaugment":
        image = augment.autoaugment(image, operations, scale_pixels=scale)
    elif config.augment == "erase":
        image = augment.random_erase(image, operations)
    image.set_shape([None, None, 3])
    return image


def _label(label, source):
    return tf.one_hot(label, source.num_classes, dtype=tf.float32)
