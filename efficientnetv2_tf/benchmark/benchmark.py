"""The benchmark; `run` reads as a table of contents. Importing this needs no framework."""

import contextlib
import datetime
import importlib
import os
import pathlib
import tempfile
import time

from rich.console import Console

from efficientnetv2_tf.benchmark import progressive
from efficientnetv2_tf.benchmark.config import LIBRARIES, PARTS
from efficientnetv2_tf.benchmark.peers import INFERENCE, TRAINING, chosen, unused, versions_of
from efficientnetv2_tf.benchmark.report import console_table
from efficientnetv2_tf.benchmark.results import Results
from efficientnetv2_tf.training.hparams import ConfigError
from efficientnetv2_tf.training.stopping import StopSignals

_INSTALL = "pip install -e '.[benchmark,tflite,onnx]'"
_COMPILED = "TORCHINDUCTOR_CACHE_DIR"


def run(recipe, output, *, command="", console=None):
    """Measures the parts that a recipe asks for, one after the other, and writes what was found.

    What was measured before into the same folder, on the same machine with the same versions, is kept for the parts
    that are not measured now, and for those that fail now. A part that fails is reported, and the others go on.

    Args:
        recipe: a `BenchmarkRecipe`.
        output: folder for benchmark.json, which is written after each part, benchmark.md and benchmark.png.
        command: line that began this, for the results.
        console: a `rich.console.Console`; None prints to the terminal.

    Returns:
        What stands in benchmark.json.

    Raises:
        ConfigError: a recipe of the progressive trainings cannot be used, or every part failed.
        OSError: the folder cannot be written to.
        Interrupted: a `KeyboardInterrupt`, after SIGTERM or Ctrl-C; the parts that were measured are written.
    """
    console = console or Console()
    parts = [part for part in PARTS if part in recipe.benchmark.parts]
    left_out = progressive.load_recipes(recipe)[1] if "progressive" in parts else {}
    results = Results(pathlib.Path(output), command, lambda line: console.print(line, markup=False, soft_wrap=True))
    results.write_json()  # that it can be comes before the long work, as do mistakes in recipes
    if keys := unused(recipe):
        console.print(f"Not used, for the work is the same for all: {', '.join(keys)}", markup=False, soft_wrap=True)
    _tell_who_is_missing(recipe, left_out, console)
    with StopSignals(None, "Name the other parts in benchmark.parts to go on."), _shared_compilations():
        try:
            failed = []
            for number, part in enumerate(parts, 1):
                console.print(f"Measuring {part} ({number} of {len(parts)}) ...")
                if not _measure(part, recipe, results, console):
                    failed.append(part)
        except BaseException:
            with contextlib.suppress(Exception):  # what ended it says more
                results.write_report()
            raise
        results.write_report()
    if failed == parts:
        raise ConfigError(f"No part could be measured; {results.folder / 'benchmark.md'} says why.")
    return results.content


def _measure(part, recipe, results, console):
    """Measures a part, and prints its tables or why there are none; gives whether there are."""
    began = time.perf_counter()
    module = importlib.import_module(f"efficientnetv2_tf.benchmark.{part}")
    found = {"date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"), "command": results.command}
    found["settings"] = recipe.benchmark.model_dump(mode="json")
    try:
        found["result"] = module.measure(recipe, console)
    except Exception as error:  # whatever is wrong with this one, the others go on
        found["error"] = str(error) if isinstance(error, ConfigError) else f"{type(error).__name__}: {error}"
    found["seconds"] = time.perf_counter() - began
    results.add(part, found)
    tables, reason = ([], found["error"]) if "error" in found else results.show(part)
    for table in tables:
        console.print(console_table(table))
    ended = f"failed after {found['seconds']:.0f} s: {reason}" if reason else f"took {found['seconds']:.0f} s"
    console.print(f"{part} {ended}", markup=False, soft_wrap=True)
    return not reason


def _tell_who_is_missing(recipe, left_out, console):
    for library in LIBRARIES:
        if library not in recipe.benchmark.libraries:
            console.print(f"Not asked for: {library}")
    peers = {peer.label: peer for peer in (*chosen(TRAINING, recipe), *chosen(INFERENCE, recipe))}
    for label, peer in peers.items():
        missing = [package for package, version in versions_of(peer.packages).items() if version is None]
        if missing:
            console.print(
                f"Left out: {label}, for {', '.join(missing)} is not installed (see {_INSTALL})", markup=False
            )
    for name, why in left_out.items():
        console.print(f"Left out: {name}. {why}", markup=False, soft_wrap=True)


@contextlib.contextmanager
def _shared_compilations():
    """What torch.compile makes for one part serves the next: it takes minutes."""
    with tempfile.TemporaryDirectory() as folder:
        before = os.environ.setdefault(_COMPILED, folder)
        try:
            yield
        finally:
            if before == folder:
                del os.environ[_COMPILED]
