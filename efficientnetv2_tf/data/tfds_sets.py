"""TensorFlow Datasets as sources, the digits that come in packages among them."""

import contextlib
import difflib
import io

import tensorflow_datasets as tfds
from absl import logging
from tensorflow_datasets.core.download import downloader

from efficientnetv2_tf.data.sources import EMBEDDED_SETS, TFDS_SETS, DataError, Source, Split

_DOWNLOAD_RETRIES = 4  # with doubling pauses, 6 s in all


def open_tfds(name, *, data_dir=None, train_split=None, eval_split=None):
    """Opens a data set of TensorFlow Datasets, and makes or downloads it where it is not there.

    Args:
        name: a key of `EMBEDDED_SETS` or of `TFDS_SETS`, or "tfds:NAME" or "tfds:NAME/CONFIG".
        data_dir: TensorFlow Datasets' folder; None is its own.
        train_split: TFDS split string; None is the data set's own.
        eval_split: likewise.

    Returns:
        A `Source`. Its shards are runs of neighbouring examples, so that each reads its own files, or take turns where
        a split is a sum of others.

    Raises:
        DataError: there is no such data set or split, or it is neither there nor to be had.
    """
    if name in EMBEDDED_SETS:
        from efficientnetv2_tf.data import digits

        builders = {"digits": digits.Digits, "mnist5k": digits.Mnist5k}
        splits, builder = ("train", "test"), builders[name](data_dir=data_dir)
        with _silence():  # nothing is downloaded, and it takes seconds
            _prepare(builder)
    else:
        tfds_name, *splits = TFDS_SETS.get(name, (name.removeprefix("tfds:"), "train", "test"))
        builder = _builder(tfds_name, data_dir)
        _prepare(builder)
    _check_features(name, builder)
    return Source(
        name=name,
        class_names=tuple(builder.info.features["label"].names),
        train=_split(name, builder, "train_split", train_split or splits[0]),
        eval=_split(name, builder, "eval_split", eval_split or splits[1]),
    )


def _builder(tfds_name, data_dir):
    try:
        return tfds.builder(tfds_name, data_dir=data_dir, try_gcs=False)
    except tfds.core.DatasetNotFoundError as error:
        known = tfds.list_builders(with_community_datasets=False)  # those are listed in the cloud
        near = difflib.get_close_matches(tfds_name.split("/")[0], known, n=3, cutoff=0.6)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise DataError(f"TensorFlow Datasets has no {tfds_name!r}.{hint}") from error


def _check_features(name, builder):
    features = builder.info.features
    has_both = isinstance(features, dict | tfds.features.FeaturesDict) and {"image", "label"} <= set(features)
    if not has_both or not isinstance(features["label"], tfds.features.ClassLabel):
        raise DataError(
            f"The data set {name!r} should have the features 'image' and 'label' (a class). It has: {features}"
        )


def _split(name, builder, key, split):
    try:
        images = builder.info.splits[split].num_examples
    except (KeyError, ValueError) as error:
        raise DataError(
            f"data.{key}: expected a split of {name!r}, of {', '.join(builder.info.splits)}. Received: {split!r}"
        ) from error
    if not images:
        raise DataError(f"data.{key}: expected images. Received: {split!r} of {name!r}, which has none.")

    def shard_sizes(shards):
        if _joined(split):
            return [len(range(index, images, shards)) for index in range(shards)]
        return [builder.info.splits[part].num_examples for part in tfds.even_splits(split, shards)]

    def examples(shard=(0, 1), seed=None):
        index, shards = shard
        if shards == 1 or _joined(split):
            return _examples(builder, split).shard(shards, index)
        return _examples(builder, tfds.even_splits(split, shards)[index], first=sum(shard_sizes(shards)[:index]))

    name = f"{builder.info.full_name} {split}"
    return Split(
        images, examples, shard_sizes, lambda key: f"{name}, example {key}", fingerprint=str(builder.data_path) + split
    )


def _joined(split):
    """Whether it is a sum of splits: a part of it is then no run of neighbours."""
    return "+" in split


def _examples(builder, split, first=0):
    examples = builder.as_dataset(
        split=split,
        shuffle_files=False,
        decoders={"image": tfds.decode.SkipDecoding()},
        # Interleaving files in parallel must not change their order: a restart counts on it.
        read_config=tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False, add_tfds_id=False),
    )
    return examples.enumerate(first).map(lambda index, example: (index, example["image"], example["label"]))


def _prepare(builder):
    """Makes or downloads the data set, if it is not there."""
    if builder.data_path.exists():
        return
    try:
        # try_download_gcs would ask a cloud bucket first, and hang where there is no network.
        with _few_retries():
            builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    except Exception as error:  # whatever a builder's download raises
        raise DataError(
            f"The data set {builder.info.full_name!r} is not in {builder.data_path} and could not be made or "
            f"downloaded: {type(error).__name__}: {error}. Prepare it there (tfds build {builder.name}) or give "
            "its folder with --data_dir."
        ) from error


@contextlib.contextmanager
def _few_retries():
    """Without a network, TFDS' own ten retries would take three and a half minutes; there is no argument for it."""
    before = downloader.MAX_RETRIES
    downloader.MAX_RETRIES = _DOWNLOAD_RETRIES
    try:
        yield
    finally:
        downloader.MAX_RETRIES = before


@contextlib.contextmanager
def _silence():
    """Hides TFDS' progress bars and notes."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.set_verbosity(verbosity)
