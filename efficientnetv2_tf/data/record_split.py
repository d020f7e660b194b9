"""The records of TFRecord files as a `Split`: in which order they come, and who reads which."""

import dataclasses
import hashlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from efficientnetv2_tf.data.record_examples import check_examples, parser
from efficientnetv2_tf.data.record_files import RecordFile, count_records, first_records
from efficientnetv2_tf.data.sources import DataError, Split

_LOOKED_AT = 10  # records
_FILES_AT_ONCE, _RECORDS_IN_A_ROW = 8, 16  # where the files are in another order
_READ_BUFFER = 8 << 20  # bytes a file, as in the release
_ENOUGH = 0.75  # of the largest shard
_KEY = 1 << 32  # a key is file * _KEY + record


@dataclasses.dataclass(frozen=True)
class Records:
    """The records of a split.

    Attributes:
        files: `RecordFile`s, sorted.
        counts: int64 [files], how many records each has.
        compression: of the files, "", "GZIP" or "ZLIB".
        parse: from a record to (picture, label). Where it fails, it is given an empty record in place of that one.
        identity: what else tells the split from others.
        chosen: bool [records], which of them are in the split; None is all.
    """

    files: list[RecordFile]
    counts: np.ndarray
    compression: str
    parse: Callable
    identity: str
    chosen: np.ndarray | None = None

    @classmethod
    def of(cls, files, features, class_names):
        """Looks into the files, and counts their records.

        Args:
            files: `RecordFile`s, sorted.
            features: `Features` of the records.
            class_names: in the order of the labels.

        Raises:
            DataError: a file or its first records are not what they should be.
        """
        file, records, compression = first_records(files, _LOOKED_AT)
        label_type = check_examples(records, file.path, features, class_names)
        counts = np.array(count_records(files, compression), np.int64)
        names = class_names if label_type == tf.string else ()
        return cls(files, counts, compression, parser(features, class_names, label_type), f"{features} {names}")

    def parted(self, fraction, seed):
        """[the records without a share of them, that share], drawn by a seed."""
        count = int(self.counts.sum())
        if count < 2:
            raise DataError(f"{self.files[0].path} has one record, of which no part can be put aside for evaluation.")
        number = min(max(1, round(count * fraction)), count - 1)
        # RandomState, because its numbers stay the same from one NumPy to the next.
        chosen = np.random.RandomState(seed).permutation(count) < number
        return [
            dataclasses.replace(self, chosen=part, identity=f"{self.identity} {name} {number} {seed}")
            for name, part in (("rest", ~chosen), ("share", chosen))
        ]

    def split(self):
        """The records as a `Split`. With a seed, several of the files are read at once, in a fixed order."""
        identity = f"{[tuple(file) for file in self.files]} {self.identity}"
        return Split(
            count=sum(self._shard_sizes(1)),
            open=self._open,
            shard_sizes=self._shard_sizes,
            where=lambda key: f"{self.files[key // _KEY].path}, record {key % _KEY}",
            fingerprint=hashlib.sha256(identity.encode()).hexdigest(),
        )

    def _shard_sizes(self, shards):
        by_file = self._sizes_by_file(shards)
        if _are_even(by_file):
            return by_file
        chosen = np.ones(self.counts.sum(), bool) if self.chosen is None else self.chosen
        return [int(chosen[index::shards].sum()) for index in range(shards)]

    def _sizes_by_file(self, shards):
        sizes = self.counts
        if self.chosen is not None:
            sizes = np.array([part.sum() for part in np.split(self.chosen, np.cumsum(self.counts)[:-1])])
        return [int(sizes[index::shards].sum()) for index in range(shards)]

    def _open(self, shard=(0, 1), seed=None):
        numbers = np.arange(len(self.files))
        by_file = _are_even(self._sizes_by_file(shard[1]))
        examples = self._reader(None if by_file else shard)
        if by_file:
            numbers = numbers[shard[0] :: shard[1]]
        if seed is None:
            return tf.data.Dataset.from_tensor_slices(numbers).flat_map(examples)
        order = tf.random.experimental.stateless_shuffle(numbers, seed)
        return tf.data.Dataset.from_tensor_slices(order).interleave(
            examples,
            cycle_length=_FILES_AT_ONCE,
            block_length=_RECORDS_IN_A_ROW,
            num_parallel_calls=_FILES_AT_ONCE,
            deterministic=True,
        )

    def _reader(self, shard):
        """A function from the number of a file to its examples; with a shard, only to those of it."""
        paths, counts = tf.constant([file.path for file in self.files]), tf.constant(self.counts)
        starts = tf.cumsum(counts, exclusive=True)
        chosen = None if self.chosen is None else tf.constant(self.chosen)

        def examples(file):
            records = _whole_file(paths[file], counts[file], self.compression).enumerate()
            if shard:
                records = records.shard(shard[1], (shard[0] - starts[file]) % shard[1])
            if chosen is not None:
                records = records.filter(lambda number, _: chosen[starts[file] + number])
            return _parsed(records, self.parse).map(lambda number, *example: (file * _KEY + number, *example))

        return examples


def _are_even(sizes):
    return min(sizes) >= _ENOUGH * max(sizes)


def _parsed(records, parse):
    """(number, picture, label) of each (number, record); one that cannot be parsed gives what an empty one does."""
    # Of a failure nothing is left but the gap. So each record has an empty one behind it, which is kept where it does
    # not follow its like.
    followed = records.map(lambda number, record: ([number, number], [record, b""])).unbatch()
    parsed = followed.map(lambda number, record: (number, *parse(record))).ignore_errors()
    none = tf.constant(-1, tf.int64)
    parsed = parsed.scan(none, lambda last, example: (example[0], (example[0] != last, example)))
    return parsed.filter(lambda wanted, _: wanted).map(lambda _, example: example)


def _whole_file(path, count, compression):
    """As many records as were counted: a damaged one, and all behind it, are empty, so that each keeps its number."""
    records = tf.data.TFRecordDataset(path, compression, _READ_BUFFER).ignore_errors()
    return records.concatenate(tf.data.Dataset.from_tensors(b"").repeat()).take(count)
