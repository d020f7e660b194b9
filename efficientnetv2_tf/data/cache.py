"""Keeping the encoded pictures near: in memory, or in a file."""

import hashlib
import pathlib
import tempfile

import tensorflow as tf

from efficientnetv2_tf.data.sources import DataError


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
        A `Split` that gives the same examples, in one order.

    Raises:
        DataError: the copy cannot be written.
    """
    if where == "none":
        return split

    def examples(shard=shard, seed=None):
        return split.open(shard).map(lambda key, item, label: (key, split.read(item), label))

    if where == "memory":
        kept = examples().cache()
    else:
        kept = _copied(examples, split, pathlib.Path(folder or "~/.cache/efficientnetv2_tf").expanduser(), shard)

    def open_cached(shard=shard, seed=None):
        return kept

    return split.reading(open_cached)


def _copied(examples, split, folder, shard):
    identity = f"{split.fingerprint} {split.count} {shard}"
    path = folder / hashlib.sha256(identity.encode()).hexdigest()[:16]
    if not path.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=folder) as temporary:
                # One shard, so that the order stays.
                examples().save(f"{temporary}/copy", shard_func=lambda *_: tf.constant(0, tf.int64))
                pathlib.Path(temporary, "copy").rename(path)
        except (OSError, tf.errors.OpError) as error:
            raise DataError(
                f"The data could not be copied to {path}: {error}. Free some space, or choose another data.cache_dir "
                "or data.cache=none."
            ) from error
    return tf.data.Dataset.load(str(path))
