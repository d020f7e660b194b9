"""Every record exactly once: in any order, with any number of shards, and from damaged files."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from efficientnetv2_tf.data.record_files import count_records, find_files
from efficientnetv2_tf.data.record_split import Records

COUNTS = [40, 0, 3, 17, 60, 1, 25, 25, 33, 90, 2]  # records of each file, very unlike each other
EVEN = [30] * 24


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """Writes files with these numbers of records, "FILE.RECORD", and gives them as `Records`."""

    def _make(counts, compression=""):
        folder = tmp_path_factory.mktemp("records")
        for file, count in enumerate(counts):
            with tf.io.TFRecordWriter(str(folder / f"{file:03d}"), compression) as writer:
                for record in range(count):
                    writer.write(b"%d.%d" % (file, record))
        files = find_files([f"{folder}/*"])
        counted = np.array(count_records(files, compression), np.int64)
        return Records(files, counted, compression, lambda record: (record, tf.strings.length(record)), "test")

    return _make


@pytest.fixture(scope="module")
def uneven(make):
    return make(COUNTS)


@pytest.fixture(scope="module")
def even(make):
    return make(EVEN)


def keys_of(dataset):
    return [int(key) for key, *_ in dataset.as_numpy_iterator()]


def every_key(counts):
    return [(file << 32) + record for file, count in enumerate(counts) for record in range(count)]


def seed_of(*numbers):
    return tf.constant(numbers, tf.int64)


# --- order ---


@pytest.mark.parametrize("compression", ["", "GZIP", "ZLIB"])
def test_plain_order_keys_and_places(make, compression):
    records = make([4, 0, 2], compression)
    split = records.split()
    assert split.count == 6
    examples = list(split.open().as_numpy_iterator())
    assert [key for key, *_ in examples] == every_key([4, 0, 2])
    assert [image for _, image, _ in examples] == [b"0.0", b"0.1", b"0.2", b"0.3", b"2.0", b"2.1"]
    assert split.where(examples[5][0]) == f"{records.files[2].path}, record 1"
    assert split.read(tf.constant(b"x")) == b"x"


def test_seeds_give_orders_that_differ_and_come_again(even):
    seed = tf.Variable([7, 0], dtype=tf.int64)  # known only when an iterator is made, as in a training
    dataset = tf.data.Dataset.range(1).flat_map(lambda _: even.split().open((0, 1), seed))

    def order_of(epoch):
        seed.assign([7, epoch])
        return keys_of(dataset)

    orders = [order_of(epoch) for epoch in (0, 1, 0)]
    assert orders[0] == orders[2]
    assert orders[0] != orders[1] and orders[0] != every_key(EVEN)
    for order in orders:
        assert sorted(order) == every_key(EVEN)
        assert len({key >> 32 for key in order[:128]}) == 8  # files that are read at once
    assert len({order_of(epoch)[0] >> 32 for epoch in range(6)}) > 3  # files that an epoch begins with
    assert orders[1] == keys_of(even.split().open((0, 1), seed_of(7, 1)))


# --- shards ---


@pytest.mark.parametrize(
    ("counts", "shards", "seed"),
    [("uneven", 2, (1, 2)), ("uneven", 5, (1, 2)), ("uneven", 13, None), ("even", 7, (1, 2)), ("even", 5, None)],
)
def test_shards_have_every_record_once_and_the_sizes_they_say(counts, shards, seed, request):
    records = request.getfixturevalue(counts)
    split = records.split()
    parts = [keys_of(split.open((index, shards), seed and seed_of(*seed))) for index in range(shards)]
    assert [len(part) for part in parts] == split.shard_sizes(shards)
    assert sorted(key for part in parts for key in part) == every_key(records.counts)
    if seed is None:
        assert all(part == sorted(part) for part in parts)


@pytest.mark.parametrize("shards, files", [(2, 12), (3, 8), (24, 1), (7, 4)])
def test_by_file_where_there_are_enough(even, shards, files):
    split = even.split()
    assert {key >> 32 for key in keys_of(split.open((1, shards)))} == set(range(1, 24, shards))
    assert max(split.shard_sizes(shards)) == 30 * files


@pytest.mark.parametrize("shards", [9, 16, 25, 100])
def test_by_record_where_there_are_not(even, shards):
    """With 9 shards some would have 2 files and some 3, and training would leave out a third of those."""
    sizes = even.split().shard_sizes(shards)
    assert max(sizes) - min(sizes) <= 1 and sum(sizes) == 720


def test_one_huge_file_is_shared_out(make):
    assert make([1000, 1, 1]).split().shard_sizes(3) == [334, 334, 334]


# --- a part put aside ---


@pytest.mark.parametrize(("counts", "shards"), [("uneven", 1), ("uneven", 3), ("even", 4)])
def test_parts_are_disjoint_and_whole_with_any_shards(counts, shards, request):
    records = request.getfixturevalue(counts)
    total = sum(records.counts)
    parts = [part.split() for part in records.parted(0.1, 0)]
    assert [part.count for part in parts] == [total - round(total / 10), round(total / 10)]
    keys = []
    for part in parts:
        read = [keys_of(part.open((index, shards))) for index in range(shards)]
        assert [len(shard) for shard in read] == part.shard_sizes(shards)
        keys.append({key for shard in read for key in shard})
        assert len(keys[-1]) == part.count
    assert not keys[0] & keys[1] and sorted(keys[0] | keys[1]) == every_key(records.counts)


def test_the_part_is_drawn_by_the_seed_from_all_files(even):
    drawn = [keys_of(even.parted(0.1, seed)[1].split().open()) for seed in (0, 1, 0)]
    assert drawn[0] == drawn[2] != drawn[1]
    assert len({key >> 32 for key in drawn[0]}) > 15
    assert drawn[0][:3] == [7, 15, 22]  # the same ones in ten years


def test_both_parts_have_something(make):
    assert [part.split().count for part in make([2]).parted(0.01, 0)] == [1, 1]
    assert [part.split().count for part in make([2]).parted(0.99, 0)] == [1, 1]
    with pytest.raises(ValueError, match="has one record"):
        make([1]).parted(0.5, 0)


# --- damage ---


def damaged(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize("at", [0, 8, 12, 15], ids=["length", "its checksum", "record", "checksum"])
def test_damaged_records_keep_their_places(make, at):
    """What cannot be read comes as empty, so that the pipeline can name it, and no count is wrong."""
    records = make([3, 5, 3])
    damaged(records.files[1].path, 2 * (16 + len("1.0")) + at)
    split = records.split()
    for shards, seed in ((1, seed_of(1, 2)), (4, None)):  # by file and by record
        parts = [split.open((index, shards), seed) for index in range(shards)]
        examples = {key: image for part in parts for key, image, _ in part.as_numpy_iterator()}
        assert sorted(examples) == every_key([3, 5, 3])
        empty = [split.where(key) for key in sorted(examples) if not examples[key]]
        assert empty == [f"{records.files[1].path}, record {number}" for number in (2, 3, 4)]


def test_records_that_cannot_be_parsed_keep_their_places(make):
    """Those at a file's beginning and end too, and several in a row."""
    odd = [b"0.0", b"1.2", b"1.3", b"2.2"]

    def parse(record):
        checks = [tf.debugging.assert_none_equal(record, text) for text in odd]
        with tf.control_dependencies(checks):
            return tf.identity(record), tf.strings.length(record)

    records = dataclasses.replace(make([3, 5, 3]), parse=parse)
    for part, shards, seed in ((records, 1, seed_of(1, 2)), (records, 4, None), (records.parted(0.3, 0)[0], 1, None)):
        split = part.split()
        parts = [split.open((index, shards), seed) for index in range(shards)]
        examples = {key: rest for part in parts for key, *rest in part.as_numpy_iterator()}
        assert len(examples) == split.count
        for key, rest in examples.items():
            text = b"%d.%d" % divmod(key, 1 << 32)
            text = b"" if text in odd else text
            assert rest == [text, len(text)]


# --- identity ---


def test_fingerprints(make):
    records = make([3, 4])
    rest, share = records.parted(0.5, 0)
    prints = [part.split().fingerprint for part in (records, rest, share, *records.parted(0.5, 1))]
    assert len(set(prints)) == 5
    assert records.split().fingerprint == prints[0] and records.parted(0.5, 0)[1].split().fingerprint == prints[2]
    newer = [file._replace(mtime=file.mtime + 1) for file in records.files]
    other = Records(newer, records.counts, "", records.parse, "test")
    assert other.split().fingerprint != prints[0]
