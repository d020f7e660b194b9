"""Walks a whole data set before a training does: what is bad, what is odd, and what it looks like."""

import collections
import concurrent.futures
import dataclasses
import os
import pathlib
import random
import tempfile

import numpy as np
import tensorflow as tf

from efficientnetv2_tf.data.contact_sheet import draw_data
from efficientnetv2_tf.data.copies import CopyFinder, Place, digest
from efficientnetv2_tf.data.folder import find_folders
from efficientnetv2_tf.data.folder_listing import ENDINGS, ending, list_classes
from efficientnetv2_tf.data.image_check import ImageFacts, check_image, error_text, pillow_without_limit
from efficientnetv2_tf.data.image_formats import MAX_PIXELS
from efficientnetv2_tf.data.sources import open_source
from efficientnetv2_tf.data.verify_report import Finding, ProgressLine, Report, print_report, write_findings

_SHOWN_CLASSES, _SHOWN_IMAGES = 12, 6  # on the contact sheet
_AHEAD = 4  # examples a worker that are read and not yet taken


def run(name, options, *, output=".", max_pixels=MAX_PIXELS, console):
    """The command --mode=verify_data: checks a data set, tells, and writes verify_data.csv and data.png.

    Args:
        name: of the data set, as for `open_source`.
        options: the other arguments of `open_source`, as a dictionary.
        output: folder to write to; made where it is missing.
        max_pixels: see `check_image`.
        console: a `rich.console.Console`.

    Returns:
        A `Report`.

    Raises:
        DataError: the data set is not to be had.
        OSError: `output` cannot be written to; before anything is checked.
    """
    output = pathlib.Path(output)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=output):  # whether that can be done, before hours of work
        pass
    console.print(f"Opening data set {name} ...", markup=False)
    is_folder = name.startswith("folder:")
    source = open_source(name, **options, **({"allow_empty": True} if is_folder else {}))
    findings = _folder_findings(name, options) if is_folder else []
    with ProgressLine(console, source.train.count + source.eval.count) as progress:
        report = verify_data(source, max_pixels=max_pixels, advance=progress.advance)
    report = dataclasses.replace(report, findings=[*findings, *report.findings])
    print_report(report, console)
    write_findings(report, output / "verify_data.csv")
    draw_data(report, output / "data.png")
    console.print(f"Wrote {output / 'verify_data.csv'} and {output / 'data.png'}", markup=False)
    return report


def verify_data(source, *, max_pixels=MAX_PIXELS, seed=0, workers=None, advance=None):
    """Decodes every picture of a data set as a training does, and looks at its label.

    Bad is what a training leaves out: what cannot be read or decoded, and labels that are no class. So are pictures
    above `max_pixels`, on which a training may run out of memory. Notes are: endings that do not fit, and the same
    picture twice.

    Args:
        source: a `Source`.
        max_pixels: of a picture, see `check_image`.
        seed: by which pictures are drawn for the contact sheet.
        workers: threads; None is one a CPU.
        advance: called with the number of bad ones so far, after each example.

    Returns:
        A `Report`.
    """
    walk = _Walk(source, seed)
    with pillow_without_limit():
        for name, split in (("train", source.train), ("eval", source.eval)):
            try:
                for example, outcome in _checked(split, max_pixels, workers or os.cpu_count() or 1):
                    walk.add(name, example, *outcome)
                    if advance:
                        advance(walk.bad)
            except tf.errors.OpError as error:
                walk.add_end(name, error_text(error))
    return walk.report()


def _checked(split, max_pixels, workers):
    """((key, item, label), (facts, digest)) of each example, in their order; then the error that ended them, if any."""

    def check(example):
        try:
            encoded = split.read(tf.constant(example[1])).numpy()
        except tf.errors.OpError as error:
            return ImageFacts(problem="unreadable", detail=error_text(error)), 0
        return check_image(encoded, max_pixels=max_pixels), digest(encoded)

    pool, waiting = concurrent.futures.ThreadPoolExecutor(workers), collections.deque()
    examples, end = split.open((0, 1), None).prefetch(_AHEAD).as_numpy_iterator(), None
    try:
        while waiting or not end:
            try:
                while not end and len(waiting) <= _AHEAD * workers:
                    example = next(examples)
                    waiting.append((example, pool.submit(check, example)))
            except (StopIteration, tf.errors.OpError) as error:
                end = error
            if waiting:
                example, outcome = waiting.popleft()
                yield example, outcome.result()
    finally:
        pool.shutdown(cancel_futures=True)
    if isinstance(end, tf.errors.OpError):
        raise end


class _Walk:
    """What has been seen of a data set so far.

    Args:
        source: a `Source`.
        seed: for the choice of pictures to show.
    """

    def __init__(self, source, seed):
        self._source = source
        self._splits = {"train": source.train, "eval": source.eval}
        self._findings, self._copies, self._shapes = [], CopyFinder(), collections.Counter()
        self._counts = {name: np.zeros(source.num_classes, np.int64) for name in self._splits}
        shown = np.linspace(0, source.num_classes - 1, min(source.num_classes, _SHOWN_CLASSES))
        self._samples = {int(label): [] for label in shown.round()}
        self._random = random.Random(seed)
        self._seen = collections.Counter()  # examples of each split
        self.bad = 0

    def add(self, split_name, example, facts, digest):
        """Takes in an example.

        Args:
            split_name: "train" or "eval".
            example: (key, item, label).
            facts: `ImageFacts` of the picture.
            digest: of the encoded picture, see `copies.digest`.
        """
        key, item, label = example
        self._seen[split_name] += 1
        place = Place(split_name, int(key), tuple(np.atleast_1d(label).tolist()))
        reason, detail = facts.problem, facts.detail
        if not reason and not all(0 <= label < self._source.num_classes for label in place.labels):
            reason, detail = "label out of range", f"{place.labels}, of {self._source.num_classes} classes from 0 on"
        if reason:
            self.bad += 1
            self._find(True, reason, place, detail)
            return
        if self._splits[split_name].named_items and ENDINGS.get(ending(item.decode())) != facts.format:
            self._find(False, "wrong ending", place, f"the file is a {facts.format}")
        self._copies.add(digest, place)
        self._shapes[facts.format, facts.mode, facts.width, facts.height] += 1
        for label in place.labels:
            self._counts[split_name][label] += 1
            self._sample(label, split_name, item)

    def add_end(self, split_name, detail):
        """Takes in that no more examples of a split can be read, and why."""
        self.bad += 1
        where = f"{self._source.name}, {split_name}, behind {self._seen[split_name]:,} examples"
        self._findings.append(Finding(True, "unreadable", split_name, "", where, detail))

    def report(self):
        """The `Report` on all of it."""
        for first, copy in self._copies.pairs():
            reason = "copy" if first.labels == copy.labels else "copy in another class"
            reason = reason if first.split == copy.split else "also in training"
            self._find(False, reason, copy, f"same bytes as {self._where(first)} ({self._names(first.labels)})")
        return Report(
            name=self._source.name,
            class_names=self._source.class_names,
            findings=self._findings,
            counts=self._counts,
            shapes=self._shapes,
            samples={label: [self._read(*chosen) for chosen in some] for label, some in self._samples.items()},
        )

    def _find(self, bad, reason, place, detail):
        names = self._names(place.labels)
        self._findings.append(Finding(bad, reason, place.split, names, self._where(place), detail, place.key))

    def _where(self, place):
        return self._splits[place.split].where(place.key)

    def _names(self, labels):
        names = self._source.class_names
        return ", ".join(names[label] if 0 <= label < len(names) else f"label {label}" for label in labels)

    def _sample(self, label, split_name, item):
        """Keeps a few examples, each with the same probability (Vitter's algorithm R)."""
        chosen = self._samples.get(label)
        if chosen is None:
            return
        if len(chosen) < _SHOWN_IMAGES:
            chosen.append((split_name, item))
            return
        place = self._random.randrange(sum(counts[label] for counts in self._counts.values()))
        if place < _SHOWN_IMAGES:
            chosen[place] = (split_name, item)

    def _read(self, split_name, item):
        return self._splits[split_name].read(tf.constant(item)).numpy()


def _folder_findings(name, options):
    """What only a look into the folders shows: classes without a picture, and files that nobody reads."""
    places = {key: options.get(key) for key in ("data_dir", "train_split", "eval_split")}
    findings = []
    for split, folder in zip(("train", "eval"), find_folders(name, **places), strict=True):
        if folder is None:
            continue
        listing = list_classes(folder)
        for class_name, paths in listing.classes.items():
            if not paths:  # classes need not all be evaluated
                where, detail = f"{folder}/{class_name}", f"no file with an ending of {', '.join(ENDINGS)}"
                findings.append(Finding(split == "train", "class folder empty", split, class_name, where, detail))
        for path in listing.others:
            class_name, _, _ = path.rpartition("/")
            reason = "other ending" if ending(path) not in ENDINGS else "in no class folder"
            findings.append(Finding(False, reason, split, class_name.partition("/")[0], f"{folder}/{path}", "not read"))
    return findings
