"""What benchmarks left in a folder: benchmark.json, benchmark.md and benchmark.png."""

import importlib
import json

from efficientnetv2_tf.benchmark.config import PARTS
from efficientnetv2_tf.benchmark.machine import machine, versions
from efficientnetv2_tf.benchmark.report import markdown
from efficientnetv2_tf.files import replacing

_WIDTH, _DPI = 16, 100  # inches and dots an inch: 1,600 px
# Heights in inches of the parts that take the whole width; two others stand beside each other.
_WIDE = {"training": 3.0, "memory": 3.0, "inference": 5.6}
_HEIGHT = 4.4
_SAME_MEMORY = 2**29  # bytes that two machines' memories differ by, at least


class Results:
    """The results of this run, and those of earlier ones that still hold.

    Args:
        folder: to read from and write to; it is made.
        command: line that began this.
        tell: called with a line of text for what happens.

    Attributes:
        folder: as given.
        command: as given.
        content: what stands in benchmark.json: {"machine", "versions", "parts": {part: {"date", "command", "settings",
            "seconds", "result" or "error"}}}. A result with "error" and "error_date" as well is of an earlier run than
            the one that failed.
    """

    def __init__(self, folder, command, tell):
        self.command, self.folder, self._tell = command, folder, tell
        self.content = {"machine": machine(), "versions": versions(), "parts": {}}
        self.content["parts"] = self._kept()

    def _kept(self):
        """The parts of earlier runs that still hold; where some do not, the file gets another name."""
        path = self.folder / "benchmark.json"
        try:
            parts, changed = _earlier(path.read_bytes(), self.content)
        except FileNotFoundError:
            return {}
        if changed:
            numbers = ("", *range(2, 1000))
            old = next(name for n in numbers if not (name := self.folder / f"benchmark.old{n}.json").exists())
            path.replace(old)
            self._tell(f"The earlier results in {path} are now {old}: {changed}.")
        return parts

    def add(self, part, found):
        """Takes what became of a part, and writes benchmark.json. A failure leaves the result of an earlier run."""
        earlier = self.content["parts"].get(part, {})
        if "error" in found and "result" in earlier:
            found = {**earlier, "error": found["error"], "error_date": found["date"]}
        self.content["parts"][part] = found
        self.write_json()

    def write_json(self):
        with replacing(self.folder / "benchmark.json") as temporary:
            temporary.write_text(json.dumps(self.content, indent=2) + "\n", encoding="utf-8")

    def show(self, part):
        """(`Table`s of a part, why there are none or None)."""
        found = self.content["parts"][part]
        if "result" not in found:
            return [], found["error"]
        try:
            return _module(part).tables(found["result"]), None
        except Exception as error:  # such as one of another version; the others are shown
            return [], f"{type(error).__name__}: {error}"

    def write_report(self):
        """Writes benchmark.md and benchmark.png from all that was measured."""
        tables, unshown = {}, {}
        for part in [part for part in PARTS if "result" in self.content["parts"].get(part, {})]:
            tables[part], reason = self.show(part)
            if reason:
                unshown[part] = reason
                self._tell(f"{part} cannot be shown: {reason}")
        with replacing(self.folder / "benchmark.md") as temporary:
            temporary.write_text(markdown(self.content, tables, unshown), encoding="utf-8")
        written = ["benchmark.json", "benchmark.md"]
        good = {part: self.content["parts"][part]["result"] for part in tables if part not in unshown}
        if good and self._draw(good):
            written.append("benchmark.png")
        self._tell("Wrote " + ", ".join(str(self.folder / name) for name in written))

    def _draw(self, results):
        """Whether benchmark.png could be drawn."""
        from efficientnetv2_tf.training.pictures import load_pyplot

        pyplot = load_pyplot()
        rows = _rows(results)
        heights = [_WIDE.get(row[0], _HEIGHT) for row in rows]
        figure = pyplot.figure(figsize=(_WIDTH, sum(heights)), layout="constrained")
        bands = figure.subfigures(len(rows), 1, height_ratios=heights, squeeze=False)[:, 0]
        for band, row in zip(bands, rows, strict=True):
            for place, part in zip(band.subfigures(1, len(row), squeeze=False)[0], row, strict=True):
                self._draw_part(place, part, results[part])
        try:
            with replacing(self.folder / "benchmark.png") as temporary:
                figure.savefig(temporary, dpi=_DPI)
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:  # such as an axis without an end
            self._tell(f"benchmark.png cannot be drawn: {type(error).__name__}: {error}")
            return False
        finally:
            pyplot.close(figure)
        return True

    def _draw_part(self, place, part, result):
        try:
            _module(part).draw(place, result)
        except Exception as error:  # the others are drawn
            place.clear()
            place.text(0.5, 0.5, f"{part} cannot be drawn", ha="center", va="center")
            self._tell(f"{part} cannot be drawn: {type(error).__name__}: {error}")


def _module(part):
    return importlib.import_module(f"efficientnetv2_tf.benchmark.{part}")


def _earlier(text, content):
    """(parts of an earlier benchmark.json that still hold, why others do not or None)."""
    try:
        found = json.loads(text)
        parts = {**found["parts"]}
        changed = _changes(found, content)
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}, "it is not of a benchmark"
    if not parts:
        return {}, None
    if changed:
        return {}, " and ".join(changed)
    whole = {part: one for part, one in parts.items() if _is_whole(one)}
    others = [part for part in parts if part not in whole]
    return whole, f"{', '.join(others)} cannot be read" if others else None


def _is_whole(part):
    keys = {"date", "command", "seconds"}
    return isinstance(part, dict) and keys <= {*part} and ("result" in part or "error" in part)


def _changes(earlier, now):
    """What makes earlier results those of something else."""
    changes = [] if _same_machine(earlier["machine"], now["machine"]) else ["the machine changed"]
    # What was not installed then was not measured.
    others = [name for name, version in earlier["versions"].items() if version != now["versions"].get(name)]
    return [*changes, *([f"versions changed ({', '.join(others)})"] if others else [])]


def _same_machine(one, other):
    """Whether all but a little memory is equal: systems keep more or less of it for themselves from start to start."""
    memory, others = one["memory"], other["memory"]
    same = memory == others or (None not in (memory, others) and abs(memory - others) < _SAME_MEMORY)
    return same and {**one, "memory": None} == {**other, "memory": None}


def _rows(parts):
    """Parts that stand beside each other: the wide ones alone, the others two by two."""
    wide = [[part] for part in parts if part in _WIDE]
    narrow = [part for part in parts if part not in _WIDE]
    return wide + [narrow[start : start + 2] for start in range(0, len(narrow), 2)]
