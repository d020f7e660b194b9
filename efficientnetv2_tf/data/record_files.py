"""TFRecord files: which there are, how they are packed, and how many records each has."""

import concurrent.futures
import json
import os
import pathlib
import time
import typing

import tensorflow as tf
from absl import logging

from efficientnetv2_tf.data.sources import DataError
from efficientnetv2_tf.files import replacing

_FRAME = 16  # bytes around a record: its length (8), the length's checksum (4), the record's (4)
_THREADS = 16
_WORTH_KEEPING = 1.0  # seconds of counting
_TELL_EVERY = 10.0  # seconds
_SHOWN = 5  # file names


class RecordFile(typing.NamedTuple):
    """A file as it was found: with another size or time it is another."""

    path: str
    size: int  # bytes
    mtime: int  # nanoseconds


def find_files(patterns):
    """The files that match the first of some patterns that matches any.

    Args:
        patterns: of paths, local or gs://, with *, ? and [].

    Returns:
        A list of `RecordFile`s, sorted by path; empty if there are none.

    Raises:
        DataError: nobody could look.
    """
    for pattern in patterns:
        try:
            paths = sorted(tf.io.gfile.glob(os.path.expanduser(pattern)))
            with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
                stats = list(pool.map(tf.io.gfile.stat, paths))
        except tf.errors.OpError as error:
            raise DataError(f"{pattern} cannot be looked for: {error.message}") from error
        files = zip(paths, stats, strict=True)
        if files := [RecordFile(path, stat.length, stat.mtime_nsec) for path, stat in files if not stat.is_directory]:
            return files
    return []


def describe_folder(folder):
    """What is in a folder, in a sentence for an error message."""
    folder = os.path.expanduser(folder or ".")
    if not tf.io.gfile.isdir(folder):
        return f"There is no folder {folder}."
    names = sorted(tf.io.gfile.listdir(folder))
    if not names:
        return f"The folder {folder} is empty."
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"The folder {folder} has: {', '.join(names[:_SHOWN])}{more}."


def first_records(files, number):
    """The first records of some files, and how the files are packed.

    Args:
        files: `RecordFile`s; those without records are passed over.
        number: of records at most, from one file.

    Returns:
        (`RecordFile`, list of bytes, compression: "", "GZIP" or "ZLIB").

    Raises:
        DataError: there are no records, or a file is none of TFRecords.
    """
    for file in files:
        records, compression = _unpacked(file, number)
        if records:
            return file, records, compression
    raise DataError(f"There are no records in {files[0].path}{' and the others' if files[1:] else ''}.")


def _unpacked(file, number):
    for compression in ("", "GZIP", "ZLIB"):
        try:
            records = tf.data.TFRecordDataset(file.path, compression).take(number)
            return [record.numpy() for record in records], compression
        except tf.errors.DataLossError:
            continue  # packed in another way
        except tf.errors.OpError as error:
            raise DataError(f"{file.path} cannot be read: {error.message}") from error
    raise DataError(
        f"{file.path} should be a TFRecord file, plain or packed with gzip or zlib, but is not, or its beginning is "
        "damaged. Name only such files."
    )


def count_records(files, compression=""):
    """How many records each file has.

    In plain files only the records' lengths are read. Numbers that took long are kept in
    ~/.cache/efficientnetv2_tf/record_counts.json, for as long as a file's size and time stay.

    Args:
        files: `RecordFile`s.
        compression: "", "GZIP" or "ZLIB".

    Returns:
        A list of numbers, one a file.

    Raises:
        DataError: a file is cut off, damaged or cannot be read; the message names it and the place.
    """
    kept = _read_kept()
    counts = {file: kept[file.path][-1] for file in files if kept.get(file.path, [])[:2] == [file.size, file.mtime]}
    unknown = [file for file in files if file not in counts]
    began = time.monotonic()
    counts.update(_count_all(unknown, compression))
    if time.monotonic() - began > _WORTH_KEEPING:
        _keep({**kept, **{file.path: (file.size, file.mtime, counts[file]) for file in unknown}})
    return [counts[file] for file in files]


def _count_all(files, compression):
    told = time.monotonic()
    pool = concurrent.futures.ThreadPoolExecutor(_THREADS)
    try:
        pending = {pool.submit(_count, file, compression): file for file in files}
        for number, done in enumerate(concurrent.futures.as_completed(pending)):
            yield pending[done], done.result()
            if time.monotonic() - told > _TELL_EVERY:
                told = time.monotonic()
                logging.warning("Counting records, once: %d of %d files done.", number + 1, len(files))
    finally:
        pool.shutdown(cancel_futures=True)


def _count(file, compression):
    try:
        if compression:
            return _count_packed(file, compression)
        # gfile would read all of a local file: it reads ahead by half a megabyte.
        local = "://" not in file.path
        with open(file.path, "rb", buffering=0) if local else tf.io.gfile.GFile(file.path, "rb") as opened:
            return _count_plain(file, opened)
    except (OSError, tf.errors.OpError) as error:
        raise DataError(f"{file.path} cannot be read: {error}") from error


def _count_plain(file, opened):
    """Goes from length to length."""
    position = count = 0
    while position < file.size:
        opened.seek(position)
        length = opened.read(8)
        end = position + _FRAME + int.from_bytes(length, "little")
        if len(length) < 8 or end > file.size:
            raise DataError(
                f"{file.path} is cut off, damaged or no TFRecord file: its record {count}, from byte {position} on, "
                f"should end at byte {end}, but the file ends at {file.size}. Copy it again, or take it away."
            )
        position, count = end, count + 1
    return count


def _count_packed(file, compression):
    count = 0
    try:
        for _ in tf.data.TFRecordDataset(file.path, compression):
            count += 1
    except tf.errors.DataLossError as error:
        raise DataError(
            f"{file.path} is cut off or damaged at its record {count}: {error.message}. Copy it again, or take it away."
        ) from error
    return count


def _kept_path():
    return pathlib.Path("~/.cache/efficientnetv2_tf/record_counts.json").expanduser()


def _read_kept():
    """Path of a file -> [size, mtime, count]."""
    try:
        return json.loads(_kept_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none yet, or not whole
        return {}


def _keep(counts):
    try:
        with replacing(_kept_path()) as temporary:
            temporary.write_text(json.dumps(counts), encoding="utf-8")
    except OSError as error:
        logging.warning("The numbers of records could not be kept and will be counted again: %s", error)
