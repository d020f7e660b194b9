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
            "seconds", "result" or "error"}}}.
    """

    def __init__(self, folder, command, tell):
        self.command, self.folder, self._tell = command, folder, tell
        self.content = {"machine": machine(), "versions": versions(), "parts": {}}
        self.content["parts"] = self._kept()

    def _kept(self):
        """The parts of earlier runs, if nothing else has changed."""
        try:
            found = json.loads((self.folder / "benchmark.json").read_text(encoding="utf-8"))
            parts = found["parts"]
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError):
            self._tell(f"{self.folder / 'benchmark.json'} is not of a benchmark, and is replaced.")
            return {}
        changed = [key for key in ("machine", "versions") if found.get(key) != self.content[key]]
        if parts and changed:
            self._tell(f"Dropping the earlier results in {self.folder}: {' and '.join(changed)} changed.")
        return {} if changed else parts

    def add(self, part, found):
        """Takes a part's results, and writes benchmark.json."""
        self.content["parts"][part] = found
        self.write_json()

    def write_json(self):
        with replacing(self.folder / "benchmark.json") as temporary:
            temporary.write_text(json.dumps(self.content, indent=2) + "\n", encoding="utf-8")

    def write_report(self):
        """Writes benchmark.md and benchmark.png from all that was measured."""
        measured = {part: self.content["parts"][part] for part in PARTS if part in self.content["parts"]}
        good = {part: found["result"] for part, found in measured.items() if "result" in found}
        modules = {part: importlib.import_module(f"efficientnetv2_tf.benchmark.{part}") for part in good}
        tables = {part: modules[part].tables(result) for part, result in good.items()}
        with replacing(self.folder / "benchmark.md") as temporary:
            temporary.write_text(markdown(self.content, tables), encoding="utf-8")
        written = ["benchmark.json", "benchmark.md"]
        if good:
            self._draw(modules, good)
            written.append("benchmark.png")
        self._tell("Wrote " + ", ".join(str(self.folder / name) for name in written))

    def _draw(self, modules, results):
        from efficientnetv2_tf.training.pictures import load_pyplot

        pyplot = load_pyplot()
        rows = _rows(results)
        heights = [_WIDE.get(row[0], _HEIGHT) for row in rows]
        figure = pyplot.figure(figsize=(_WIDTH, sum(heights)), layout="constrained")
        bands = figure.subfigures(len(rows), 1, height_ratios=heights, squeeze=False)[:, 0]
        for band, row in zip(bands, rows, strict=True):
            for place, part in zip(band.subfigures(1, len(row), squeeze=False)[0], row, strict=True):
                modules[part].draw(place, results[part])
        with replacing(self.folder / "benchmark.png") as temporary:
            figure.savefig(temporary, dpi=_DPI)
        pyplot.close(figure)


def _rows(parts):
    """Parts that stand beside each other: the wide ones alone, the others two by two."""
    wide = [[part] for part in parts if part in _WIDE]
    narrow = [part for part in parts if part not in _WIDE]
    return wide + [narrow[start : start + 2] for start in range(0, len(narrow), 2)]
