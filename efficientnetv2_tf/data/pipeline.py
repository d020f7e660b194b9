"""From examples to batches, with everything random drawn from (seed, epoch, example)."""

import os

import tensorflow as tf

from efficientnetv2_tf.data import augment, decode, mixing
from efficientnetv2_tf.data.bad_images import BadImages, usable
from efficientnetv2_tf.data.cache import cached

_MIXING = 1  # folded into an example's seed where a batch needs one of its own
_PREFETCH = 2  # batches
# Pictures that one thread prepares in a row. A data set for each one takes half as long as decoding it; with many in a
# row an epoch's first batch waits for a single thread.
_WINDOW = 16
_IN_FLIGHT = 2**28  # bytes of pictures that are prepared, or wait for those before them


def train_dataset(source, config, controls, *, style, seed, shard=(0, 1), bad_images=None):
    """One epoch of training batches; every new iterator reads `controls` anew.

    The order is shuffled by (seed, epoch), each picture is cropped and augmented by (seed, epoch, its key in the data
    set), so the same run gives the same batches anywhere, epochs differ, and after a restart `controls.first_batch`
    leaves out just what was trained on.

    Shards take turns in the shuffled order, so that together they have the batches of a single pipeline (but each mixes
    within its own part), as long as all examples are shuffled at once: where they are names of files, or no more than
    `config.shuffle_buffer`. Each shard then reads all, and decodes its part. Larger data sets are shared out by file
    where there are enough, and the batches are other ones.

    Bad images are dropped. So that every epoch and every shard has its number of batches, the first pictures
    of the data set come once more at the end where it falls short.

    Args:
        source: a `Source`.
        config: a `DataConfig`.
        controls: the `StageControls` with image size, magnitude, alphas and epoch.
        style: preprocessing, one of `decode.STYLES`.
        seed: of the run.
        shard: (index, number) of the input pipelines that share the work, each with its part of the global batch.
        bad_images: a `BadImages`; None makes one as configured.

    Returns:
        A finite `tf.data.Dataset` of (images: float32 [batch / shards, size, size, 3], labels: float32 [batch / shards,
        classes]), `source.train.count // batch` of them less `controls.first_batch`.

    Raises:
        ValueError: the batch is larger than the data set, or cannot be shared out evenly.
    """
    _check_batch(config, source, shard)
    in_turns = source.train.named_items or source.train.count <= config.shuffle_buffer
    read = (0, 1) if in_turns else shard
    split = cached(source.train, config.cache, config.cache_dir, read)
    bad_images = bad_images or _bad_images(config)
    batch_size = config.batch_size // shard[1]

    @tf.autograph.experimental.do_not_convert
    def order(_):
        epoch_seed = tf.random.experimental.stateless_fold_in(tf.constant([seed, 0], tf.int64), controls.epoch)
        # Names are light, so all of them are shuffled; of pictures, as many as are to be held in memory.
        buffer_size = split.count if split.named_items else config.shuffle_buffer
        examples = _shuffled(split.open(read, epoch_seed), buffer_size, epoch_seed).concatenate(split.open(read))
        if in_turns:
            examples = _turns(examples, batch_size, shard)
        examples = _without(bad_images.known("train"), examples)
        return examples.skip(controls.first_batch * batch_size)

    def prepare(key, item, label):
        seeds = tf.random.experimental.stateless_fold_in(tf.constant([seed, 1], tf.int64), controls.epoch)
        seeds = tf.cast(tf.random.experimental.stateless_fold_in(seeds, key), tf.int32)
        return _train_image(split.read(item), config, controls, style, seeds), _label(label, source), seeds

    def finish(images, labels, seeds):
        images = decode.normalize_bytes(images, style)
        batch_seed = tf.random.experimental.stateless_fold_in(seeds[0], _MIXING)
        return mixing.mix(images, labels, controls.mixup_alpha, controls.cutmix_alpha, batch_seed)

    # Made anew for each iterator, because a shuffle's seed is fixed when the data set is made.
    examples = tf.data.Dataset.range(1).flat_map(order)
    report = usable(bad_images, "train", split, source.num_classes)
    # Training pictures are about as large as evaluation's, at the end.
    examples = _attempted(examples, prepare, report, 3 * (config.eval_image_size or 224) ** 2)
    examples = examples.filter(lambda good, _: good).map(lambda _, prepared: prepared)
    batches = examples.batch(batch_size, drop_remainder=True)
    batches = _at_most(batches, lambda: source.train.count // config.batch_size - controls.first_batch)
    return _without_autotune(_parallel(batches, finish))


def eval_dataset(source, config, *, image_size, batch_size, style, shard=None, bad_images=None):
    """All evaluation pictures, each once, in a fixed order.

    Args:
        source: a `Source`.
        config: a `DataConfig`.
        image_size: side in pixels.
        batch_size: pictures of a batch (of one shard).
        style: preprocessing, one of `decode.STYLES`.
        shard: None, or (index, number) of the input pipelines that share the work.
        bad_images: a `BadImages`; None makes one as configured.

    Returns:
        A `tf.data.Dataset` of (images: float32 [batch, image_size, image_size, 3], labels: float32 [batch, classes],
        weights: float32 [batch]). A bad image is black, without a label, and has weight 0; all others have 1. The last
        batch may be smaller; with `shard` all are full, and as many in each shard, filled up with weight 0.
    """
    split = source.eval
    bad_images = bad_images or _bad_images(config)

    def prepare(key, item, label):
        image = decode.preprocess_eval(split.read(item), image_size, style, crop=config.crop != "none")
        image.set_shape([image_size, image_size, 3])
        return image, _label(label, source)

    count = max(split.shard_sizes(shard[1])) if shard else split.count
    rows = -(-count // batch_size) * batch_size if shard else count
    report = usable(bad_images, "eval", split, source.num_classes)
    examples = _attempted(split.open(shard or (0, 1)), prepare, report, 4 * 3 * image_size**2)
    examples = examples.map(lambda good, prepared: (*prepared, tf.cast(good, tf.float32)))
    nothing = tf.nest.map_structure(_nothing, examples.element_spec)
    examples = examples.concatenate(tf.data.Dataset.from_tensors(nothing).repeat(rows)).take(rows)
    # With their number known, Keras does not take the end of the data for a lack of them.
    batches = examples.batch(batch_size).apply(tf.data.experimental.assert_cardinality(-(-rows // batch_size)))
    return _without_autotune(batches)


def _bad_images(config):
    return BadImages(on_bad_image=config.on_bad_image, limit=config.bad_image_limit)


def _check_batch(config, source, shard):
    if config.batch_size > source.train.count:
        raise ValueError(
            f"data.batch_size: expected at most the {source.train.count} training images of {source.name!r}. "
            f"Received: {config.batch_size}"
        )
    if config.batch_size % shard[1]:
        raise ValueError(
            f"data.batch_size: expected a multiple of the {shard[1]} input pipelines. Received: {config.batch_size}"
        )


def _attempted(examples, prepare, is_usable, bytes_each):
    """(good: bool, `prepare` of the example) for each example, in parallel and in their order.

    Args:
        examples: data set of (key, item, label).
        prepare: from these to the tuple of tensors that is wanted. Where it fails, they are zeros, and `good` is False.
        is_usable: of `usable`.
        bytes_each: about as many has what `prepare` gives.
    """

    @tf.autograph.experimental.do_not_convert
    def run(first, example):
        specs = None

        def prepared_example():
            nonlocal specs
            # A call of a traced function would cost 0.2 s with each iterator, which makes its kernels anew.
            prepared = prepare(*example)
            specs = tf.nest.map_structure(tf.TensorSpec.from_tensor, prepared)
            return prepared

        prepared = tf.cond(first, prepared_example, lambda: tf.nest.map_structure(_nothing, specs))
        tf.nest.map_structure(lambda tensor, spec: tensor.set_shape(spec.shape), prepared, specs)
        return first, example, prepared

    def without_answered(was_first, element):
        return element[0], (element[0] | ~was_first, element)

    def attempt(*parts):
        # Of a failure nothing is left but the gap. So each example comes twice: to be prepared, and as it is, which is
        # kept where it does not follow the prepared one.
        twice = tf.data.Dataset.zip(parts).flat_map(
            lambda *example: tf.data.Dataset.from_tensors((True, example)).concatenate(
                tf.data.Dataset.from_tensors((False, example))
            )
        )
        tried = twice.map(run).ignore_errors().scan(False, without_answered)
        return tried.filter(lambda wanted, _: wanted)

    workers = os.cpu_count() or 1
    # Examples that were read already, so that an error in reading is not ignored as well.
    waiting = 3 * workers  # TensorFlow begins twice as many as it takes turns with
    window = min(max(_IN_FLIGHT // (waiting * bytes_each), 4), _WINDOW)
    attempts = examples.window(window).interleave(
        attempt, cycle_length=workers, block_length=window, num_parallel_calls=workers, deterministic=True
    )
    return attempts.map(lambda _, element: (is_usable(element[0], *element[1]), element[2]))


def _nothing(spec):
    return tf.zeros([side or 0 for side in spec.shape], spec.dtype)


def _parallel(dataset, function):
    return dataset.map(function, num_parallel_calls=os.cpu_count() or 1, deterministic=True)


def _turns(examples, number, shard):
    """Of so many examples in a row for each shard, this one's."""
    index, shards = shard
    if shards == 1:
        return examples
    mine = examples.enumerate().filter(lambda position, _: position // number % shards == index)
    return mine.map(lambda _, example: example)


def _at_most(dataset, number):
    """`take`, of a number that `number()` gives when the iterator is made."""
    counter = tf.data.Dataset.range(1).flat_map(lambda _: tf.data.Dataset.range(number()))
    return tf.data.Dataset.zip((counter, dataset)).map(lambda _, elements: elements)


def _without(keys, examples):
    """The examples but those with one of the keys."""
    if not keys:
        return examples
    keys = tf.constant(keys, tf.int64)
    return examples.filter(lambda key, *_: tf.reduce_all(keys != key))


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


def geometry_of(config):
    """The keywords of `decode.decode_for_training` that a `DataConfig` has."""
    return {"crop": config.crop != "none", "flip": config.flip, "crop_min_area": config.crop_min_area}


def _train_image(encoded, config, controls, style, seed):
    """Decoded, cut, resized and augmented: uint8 [size, size, 3]."""
    geometry, operations = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    image = decode.decode_for_training(encoded, controls.image_size, geometry, style, **geometry_of(config))
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
    """float32 [classes]: 1 for the example's class, or for each of its classes.

    A label that is no class fails, so that the example counts as a bad one.
    """
    with tf.control_dependencies(
        [
            tf.debugging.assert_less(label, tf.cast(source.num_classes, tf.int64)),
            tf.debugging.assert_non_negative(label),
        ]
    ):
        hot = tf.one_hot(label, source.num_classes, dtype=tf.float32)
    return tf.minimum(tf.reduce_sum(hot, axis=0), 1.0) if source.multi_label else hot
