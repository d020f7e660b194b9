"""What a person sees of a check: the progress, the tables, and the file of findings."""

import collections
import csv
import dataclasses
import datetime
import time

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from efficientnetv2_tf.files import replacing

_SHOWN = 20  # bad files on the terminal
_LINE_EVERY = 30.0  # seconds


@dataclasses.dataclass(frozen=True)
class Finding:
    """Something to know about a picture, a file or a class.

    Attributes:
        bad: whether a training leaves it out or cannot use it; otherwise it is a note.
        reason: a few words, the same for all of a kind.
        split: "train" or "eval".
        class_name: or several, with commas.
        where: path, or file and record.
        detail: more about the reason.
        key: of the example in its split; None where it is none.
    """

    bad: bool
    reason: str
    split: str
    class_name: str
    where: str
    detail: str
    key: int | None = None


@dataclasses.dataclass(frozen=True)
class Report:
    """What is known of a data set after it was walked through.

    Attributes:
        name: of the data set.
        class_names: in the order of the labels.
        findings: list of `Finding`.
        counts: "train" and "eval" -> int64 [classes], good pictures.
        shapes: (format, mode, width, height) -> how many good pictures; Pillow's names, sizes in pixels.
        samples: label -> a few encoded good pictures of it, for some of the labels.
    """

    name: str
    class_names: tuple[str, ...]
    findings: list[Finding]
    counts: dict[str, np.ndarray]
    shapes: collections.Counter
    samples: dict[int, list[bytes]]

    @property
    def bad(self):
        """The findings that are bad."""
        return [finding for finding in self.findings if finding.bad]

    @property
    def notes(self):
        """The other findings."""
        return [finding for finding in self.findings if not finding.bad]


class ProgressLine:
    """A progress bar on a terminal; elsewhere a line now and then.

    Args:
        console: a `rich.console.Console`.
        total: images to check.
        line_every: seconds between lines.
    """

    def __init__(self, console, total, line_every=_LINE_EVERY):
        self._console, self._total, self._line_every = console, total, line_every
        self._bar = Progress(
            TextColumn("checking"), BarColumn(bar_width=30), MofNCompleteColumn(), TextColumn("{task.fields[text]}"),
            console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("", total=total, text="")
        self._done = 0

    def __enter__(self):
        self._began = self._last_line = time.monotonic()
        self._bar.start()
        return self

    def __exit__(self, *_):
        self._bar.stop()

    def advance(self, bad):
        """One image was checked; `bad` of all so far are bad."""
        self._done += 1
        now = time.monotonic()
        seconds = max(now - self._began, 1e-6)
        left = datetime.timedelta(seconds=round(seconds / self._done * (self._total - self._done)))
        text = f"{bad:,} bad · {self._done / seconds:,.0f} images/s · {left} left"
        self._bar.update(self._task, completed=self._done, text=text)
        if not self._console.is_terminal and now - self._last_line >= self._line_every:
            self._last_line = now
            self._console.print(f"checked {self._done:,} of {self._total:,} images · {text}")


def write_findings(report, path):
    """Writes all findings as CSV, bad ones first; without any the file has only its heading.

    Args:
        report: a `Report`.
        path: of the file to write.
    """
    text = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}  # names may be anything
    with replacing(path) as temporary, temporary.open("w", **text) as file:
        writer = csv.writer(file)
        writer.writerow(["verdict", "reason", "split", "key", "class", "where", "detail"])
        for x in [*report.bad, *report.notes]:
            key = "" if x.key is None else x.key
            writer.writerow(["bad" if x.bad else "note", x.reason, x.split, key, x.class_name, x.where, x.detail])


def print_report(report, console):
    """Prints the findings and the statistics as tables.

    Args:
        report: a `Report`.
        console: a `rich.console.Console`.
    """
    if report.bad:
        console.print(_bad_table(report.bad))
    if report.notes:
        console.print(_notes_table(report.notes))
    if report.shapes:
        console.print(_classes_table(report))
        console.print(_sizes_table(report.shapes))
        console.print(_kinds_table(report.shapes))
    notes = f", {len(report.notes):,} notes" if report.notes else ""
    good = f"{report.shapes.total():,} good images"
    console.print(f"{report.name}: {good}, {len(report.bad):,} bad{notes}.", markup=False)


def _bad_table(bad):
    title = "bad" if len(bad) <= _SHOWN else f"the first {_SHOWN} of {len(bad):,} bad"
    table = Table("reason", "where", "detail", title=title)
    for finding in bad[:_SHOWN]:
        table.add_row(finding.reason, _shown(finding.where), _shown(finding.detail))
    if len(bad) > _SHOWN:
        table.add_section()
        for reason, count in collections.Counter(finding.reason for finding in bad).most_common():
            table.add_row(reason, f"{count:,} in all", "")
    return table


def _notes_table(notes):
    table = Table("note", "files", "for example", "detail", title="notes")
    counts = collections.Counter(finding.reason for finding in notes)
    for reason, count in counts.most_common():
        example = next(finding for finding in notes if finding.reason == reason)
        table.add_row(reason, f"{count:,}", _shown(example.where), _shown(example.detail))
    return table


def _shown(text):
    """Text with its control characters spelled out, and without rich's markup."""
    return Text("".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text), overflow="fold")


def _classes_table(report):
    table = Table("", "images", "smallest class", "median", "largest class", "largest / smallest", title="classes")
    for split, counts in report.counts.items():
        low, high = int(counts.argmin()), int(counts.argmax())
        table.add_row(
            split,
            f"{counts.sum():,}",
            _shown(f"{counts[low]:,} ({report.class_names[low]})"),
            f"{np.median(counts):,.0f}",
            _shown(f"{counts[high]:,} ({report.class_names[high]})"),
            f"{counts[high] / counts[low]:.1f}" if counts[low] else f"classes without any: {np.sum(counts == 0):,}",
        )
    return table


def _sizes_table(shapes):
    sizes = np.repeat([shape[2:] for shape in shapes], [*shapes.values()], axis=0)
    width, height = sizes.T
    table = Table("", "smallest", "median", "largest", title="sizes")
    for name, values, digits in (
        ("width, px", width, 0), ("height, px", height, 0), ("width / height", width / height, 2),
    ):  # fmt: skip
        table.add_row(name, *[f"{value:,.{digits}f}" for value in (values.min(), np.median(values), values.max())])
    return table


def _kinds_table(shapes):
    table = Table("", "", "images", "share", title="kinds")
    for name, index in (("format", 0), ("mode", 1)):
        for value, count in shares(shapes, index):
            table.add_row(name, value or "unknown", f"{count:,}", f"{count / shapes.total():.1%}")
        table.add_section()
    return table


def shares(shapes, index):
    """(value, pictures) of one column of `Report.shapes`, most frequent first."""
    totals = collections.Counter()
    for shape, count in shapes.items():
        totals[shape[index]] += count
    return totals.most_common()
