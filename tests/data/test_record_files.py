"""Finding TFRecord files, telling how they are packed, and counting their records."""

import json
import os

import pytest
import tensorflow as tf

from efficientnetv2_tf.data import record_files
from efficientnetv2_tf.data.record_files import count_records, describe_folder, find_files, first_records
from efficientnetv2_tf.data.sources import DataError


@pytest.fixture
def write(tmp_path):
    """Writes records into a file of `tmp_path` and gives its `RecordFile`."""

    def _write(name, records, compression=""):
        path = tmp_path / name
        with tf.io.TFRecordWriter(str(path), compression) as writer:
            for record in records:
                writer.write(record)
        return find_files([str(path)])[0]

    return _write


def numbered(count):
    return [b"%03d" % i * (1 + 20 * i) for i in range(count)]


# --- finding ---


def test_files_are_sorted_and_folders_left_out(tmp_path, write):
    for name in ("train-2", "train-0", "train-1", "other"):
        write(name, [b"x"] * len(name))
    (tmp_path / "train").mkdir()
    files = find_files([str(tmp_path / "train*")])
    assert [os.path.basename(file.path) for file in files] == ["train-0", "train-1", "train-2"]
    assert [file.size for file in files] == [os.path.getsize(file.path) for file in files]


def test_the_first_pattern_that_matches_counts(tmp_path, write):
    (tmp_path / "train").mkdir()
    patterns = [str(tmp_path / "train*"), str(tmp_path / "train" / "train*")]
    assert find_files(patterns) == []
    inner = write("train/train-0", [b"x"])
    assert find_files(patterns) == [inner]
    outer = write("train-0", [b"x"])
    assert find_files(patterns) == [outer]


def test_home_is_known(tmp_path, write, monkeypatch):
    file = write("a", [b"x"])
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_files(["~/a*"]) == [file]


def test_what_cannot_be_looked_for_is_named():
    with pytest.raises(DataError, match=r"nosuch://bucket/train\* cannot be looked for: .*nosuch"):
        find_files(["nosuch://bucket/train*"])


def test_describing_folders(tmp_path):
    assert describe_folder(str(tmp_path / "no")) == f"There is no folder {tmp_path / 'no'}."
    assert describe_folder(str(tmp_path)) == f"The folder {tmp_path} is empty."
    for number in range(7):
        (tmp_path / f"f{number}").touch()
    assert describe_folder(str(tmp_path)) == f"The folder {tmp_path} has: f0, f1, f2, f3, f4 and 2 more."


# --- packing ---


@pytest.mark.parametrize("compression", ["", "GZIP", "ZLIB"])
def test_packing_is_found_out(write, compression):
    empty, file = write("a", []), write("b", numbered(5), compression)
    assert first_records([empty, file], 3) == (file, numbered(3), compression)
    assert count_records([file], compression) == [5]


def test_a_record_as_long_as_the_beginning_of_gzip_reads(write):
    """Its length, 559,903 bytes, is written as gzip's first bytes are."""
    file = write("a", [bytes(559_903)])
    with open(file.path, "rb") as opened:
        assert opened.read(3) == b"\x1f\x8b\x08"
    assert first_records([file], 1)[2] == ""


def test_files_without_records(write):
    with pytest.raises(DataError, match=r"There are no records in .*/a and the others\."):
        first_records([write("a", []), write("b", [])], 1)


def test_other_files_are_named(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(100))
    with pytest.raises(DataError, match=r"photo\.jpg should be a TFRecord file.*Name only such files"):
        first_records(find_files([str(tmp_path / "*")]), 1)


# --- counting ---


def test_counts_of_many_files(write):
    counts = [3, 0, 1, 7, *range(30)]
    files = [write(f"{index:02d}", numbered(count)) for index, count in enumerate(counts)]
    assert count_records(files) == counts


def test_counting_does_not_read_the_records(write):
    """Only lengths: a file with a hole in the place of its record, 64 GB, takes no time."""
    file = write("a", numbered(2))
    length = 1 << 36
    with open(file.path, "ab") as opened:
        opened.write(length.to_bytes(8, "little") + bytes(4))
        opened.truncate(file.size + 16 + length)
    assert count_records(find_files([file.path])) == [3]


@pytest.mark.parametrize("rest", [1, 7, 8, 50])
def test_a_cut_file_is_named_with_the_place(write, rest):
    file = write("a", numbered(4))
    starts = [0]
    for record in numbered(4):
        starts.append(starts[-1] + 16 + len(record))
    os.truncate(file.path, starts[3] + rest)
    with pytest.raises(DataError) as caught:
        count_records(find_files([file.path]))
    assert f"{file.path} is cut off" in str(caught.value)
    assert f"its record 3, from byte {starts[3]} on" in str(caught.value)
    assert f"the file ends at {starts[3] + rest}" in str(caught.value)


@pytest.mark.parametrize("compression", ["GZIP", "ZLIB"])
def test_a_cut_packed_file_is_named(write, compression):
    file = write("a", [os.urandom(100_000) for _ in range(5)], compression)
    os.truncate(file.path, 350_000)
    with pytest.raises(DataError, match=r"/a is cut off or damaged at its record 3"):
        count_records(find_files([file.path]), compression)


def test_files_that_went_are_named(write):
    file = write("a", [b"x"])
    os.remove(file.path)
    with pytest.raises(DataError, match=r"/a cannot be read: .*No such file"):
        count_records([file])


# --- what is kept ---


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """The path of the kept numbers, in a home of their own, and numbers of any counting are kept."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(record_files, "_WORTH_KEEPING", 0.0)
    return tmp_path / "home" / ".cache" / "efficientnetv2_tf" / "record_counts.json"


def test_numbers_are_kept_until_the_file_changes(kept, write, monkeypatch):
    files = [write("a", numbered(3)), write("b", numbered(4))]
    assert count_records(files) == [3, 4]
    assert {path: row[-1] for path, row in json.loads(kept.read_text()).items()} == {
        files[0].path: 3,
        files[1].path: 4,
    }
    counted = []
    count = record_files._count
    monkeypatch.setattr(record_files, "_count", lambda file, packed: counted.append(file) or count(file, packed))
    assert count_records(files) == [3, 4] and counted == []
    longer = write("b", numbered(5))
    assert count_records([files[0], longer]) == [3, 5] and counted == [longer]
    same_size = longer._replace(mtime=longer.mtime + 1)
    assert count_records([same_size]) == [5] and counted == [longer, same_size]


def test_short_counts_leave_nothing_behind(kept, write, monkeypatch):
    monkeypatch.setattr(record_files, "_WORTH_KEEPING", 60.0)
    assert count_records([write("a", numbered(3))]) == [3]
    assert not kept.exists()


def test_damaged_or_forbidden_keeping_does_no_harm(kept, write):
    file = write("a", numbered(3))
    kept.parent.mkdir(parents=True)
    kept.write_text('{"half')
    assert count_records([file]) == [3]
    assert json.loads(kept.read_text())[file.path][-1] == 3
    kept.unlink()
    kept.parent.rmdir()
    kept.parent.write_text("in the way")
    assert count_records([file]) == [3]


def test_long_counts_are_told(write, monkeypatch, caplog):
    monkeypatch.setattr(record_files, "_TELL_EVERY", -1.0)
    count_records([write(name, numbered(1)) for name in "abc"])
    assert [record.getMessage() for record in caplog.records][-1] == "Counting records, once: 3 of 3 files done."
