"""Keeping the encoded pictures near: in memory, or in a file."""

import dataclasses
import hashlib
import pathlib
import tempfile

import tensorflow as tf

from efficientnetv2_tf.data.sources import DataError

_AT_ONCE = 16  # files that are read
_UNREAD = b"\0unread\0"  # before a name that takes the place of its picture; no picture begins like this


def cached(split, where, folder, shard):
    """A split whose pictures are read once.

    Args:
        split: a `Split`.
        where: "none" reads them each epoch; "memory" keeps them, encoded, from the first epoch on; "disk" copies them
            to `folder` before the first, which pays where the data are far away.
        folder: for "disk"; None is ~/.cache/efficientnetv2_tf. A copy is used again by later runs, until the
            split's fingerprint is another.
        shard: (index, number), of which only the examples are kept.

    Returns:
        A `Split` that gives the same examples, in one order. A file that cannot be read is tried again whenever its
        turn comes, as without a cache.

    Raises:
        DataError: the copy cannot be written, or the data set breaks off meanwhile.
    """
    if where == "none":
        return split

    if where == "memory":
        kept = _pictures(split, shard).cache()
    else:
        kept = _copied(split, pathlib.Path(folder or "~/.cache/efficientnetv2_tf").expanduser(), shard)

    def open_cached(shard=shard, seed=None):
        return kept

    cached_split = split.reading(open_cached)
    return dataclasses.replace(cached_split, read=_or_read(split.read)) if split.named_items else cached_split


def _pictures(split, shard):
    """The examples, with encoded pictures for items, and with names where a file cannot be read."""
    if not split.named_items:
        return split.open(shard)

    def read(key, item, label):
        picture = tf.data.Dataset.from_tensors(item).map(split.read).ignore_errors()
        picture = picture.concatenate(tf.data.Dataset.from_tensors(_UNREAD + item)).take(1)
        return picture.map(lambda picture: (key, picture, label))

    return split.open(shard).interleave(read, cycle_length=_AT_ONCE, num_parallel_calls=_AT_ONCE, deterministic=True)


def _or_read(read):
    """From what `_pictures` gives for an item to the picture, which is read where it is not there yet."""

    def picture(item):
        unread = tf.strings.substr(item, 0, len(_UNREAD)) == _UNREAD
        name = tf.strings.substr(item, tf.minimum(len(_UNREAD), tf.strings.length(item)), tf.strings.length(item))
        return tf.cond(unread, lambda: read(name), lambda: item)

    return picture


def _copied(split, folder, shard):
    identity = f"{split.fingerprint} {split.count} {shard}"
    path = folder / hashlib.sha256(identity.encode()).hexdigest()[:16]
    if not path.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=folder) as temporary:
                copy = pathlib.Path(temporary, "copy")
                _save(_pictures(split, shard), copy)
                _move(copy, path)
        except (OSError, tf.errors.OpError) as error:
            raise DataError(
                f"The data could not be copied to {path}: {error}. Free some space, or choose another data.cache_dir "
                "or data.cache=none."
            ) from error
    return tf.data.Dataset.load(str(path))


def _save(examples, path):
    errors = []

    def until_error():
        try:
            yield from examples
        except tf.errors.OpError as error:  # of which `save` would hang
            errors.append(error)

    whole = tf.data.Dataset.from_generator(until_error, output_signature=examples.element_spec)
    # One shard, so that the order stays.
    whole.save(str(path), shard_func=lambda *_: tf.constant(0, tf.int64))
    if errors:
        raise DataError(
            f"The data cannot be copied, because they cannot be read: {errors[0].message}. Mend or fetch them anew; "
            "data.cache=none shows how far they go."
        ) from errors[0]


def _move(copy, path):
    try:
        copy.rename(path)
    except OSError:
        if not path.exists():  # else another process has made the same copy meanwhile
            raise
