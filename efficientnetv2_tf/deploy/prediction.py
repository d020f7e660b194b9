"""What pictures show: which files to look at, and the results as a table, CSV or JSON. No TensorFlow is needed."""

import csv
import dataclasses
import glob
import json
import os
import pathlib

from rich.table import Table

from efficientnetv2_tf.data.folder_listing import ENDINGS, EXPLANATION, ending
from efficientnetv2_tf.files import replacing
from efficientnetv2_tf.training.hparams import ConfigError

_MOST_LINES = 100  # of the table


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a picture shows.

    Attributes:
        path: of the file.
        classes: names of the likeliest classes, best first; empty where there is a problem.
        scores: their probabilities in 0..1.
        problem: why there is no prediction, or "".
    """

    path: pathlib.Path
    classes: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    problem: str = ""


def find_pictures(inputs):
    """The files to look at.

    Args:
        inputs: paths of files, of any ending; of folders, which stand for all pictures in and below them (hidden ones
            are left out, links to folders not followed); or glob patterns, "**" for any depth. A single one may be
            given bare.

    Returns:
        A list of `pathlib.Path`s, each once: in the order of `inputs`, and sorted within a folder or pattern.

    Raises:
        ConfigError: one of `inputs` is, or matches, nothing.
        OSError: a folder cannot be read.
    """
    found, inputs = {}, [inputs] if isinstance(inputs, (str, os.PathLike)) else inputs
    for name in map(os.path.expanduser, map(os.fspath, inputs)):
        listed = (path for path in glob.glob(name, recursive=True) if not path.endswith(EXPLANATION))
        matches = [name] if os.path.exists(name) else sorted(listed)
        pictures = [path for match in matches for path in (_below(match) if os.path.isdir(match) else [match])]
        if not pictures:
            raise ConfigError(
                f"No pictures at {name}: expected a file, a folder with pictures ({', '.join(ENDINGS)}), or a pattern "
                "such as 'photos/*.jpg'."
            )
        found.update(dict.fromkeys(map(pathlib.Path, pictures)))
    return list(found)


def _below(folder):
    """Paths of the pictures in and below a folder, sorted; explanations that were written before are none."""
    for root, folders, files in os.walk(folder, onerror=_fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if ending(name) in ENDINGS and not name.startswith(".") and not name.endswith(EXPLANATION):
                yield os.path.join(root, name)


def _fail(error):
    raise error


def prediction_table(predictions):
    """A `rich.table.Table` with a line for each picture, at most 100."""
    table = Table(title=_summary(predictions))
    for column in ("picture", "shows", "", "or"):
        table.add_column(column, overflow="fold", justify="right" if not column else "left")
    for prediction in predictions[:_MOST_LINES]:
        path = _plain(str(prediction.path))
        if prediction.problem:
            table.add_row(path, f"[red]not read: {_plain(prediction.problem)}[/red]")
            continue
        scores = [f"{100 * score:.1f} %" for score in prediction.scores]
        others = zip(prediction.classes[1:], scores[1:], strict=True)
        table.add_row(path, _plain(prediction.classes[0]), scores[0], _plain(", ".join(map(" ".join, others))))
    if len(predictions) > _MOST_LINES:
        table.add_row(f"and {len(predictions) - _MOST_LINES:,} more; --output=x.csv writes all")
    return table


def _summary(predictions):
    bad = sum(bool(prediction.problem) for prediction in predictions)
    good = f"{len(predictions) - bad:,} picture{'s' * (len(predictions) - bad != 1)}"
    return f"{good}, and {bad:,} file{'s' * (bad != 1)} that could not be read" if bad else good


def _plain(text):
    return text.replace("[", r"\[")  # which would begin rich's markup


def check_output(output):
    """A `ConfigError` where the ending of a file to write to is neither .csv nor .json."""
    if output is not None and pathlib.Path(output).suffix not in _WRITERS:
        raise ConfigError(f"--output should end in {' or '.join(_WRITERS)}. Received: {output}")


def write_predictions(predictions, output):
    """Writes all predictions.

    Args:
        predictions: a list.
        output: path that ends in .csv (columns path, problem, class_1, score_1 and so on) or .json (a list of objects
            with path, classes, scores and problem).
    """
    check_output(output)
    with replacing(output) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        _WRITERS[pathlib.Path(output).suffix](predictions, file)


def _write_csv(predictions, file):
    ranks = range(1, 1 + max((len(prediction.classes) for prediction in predictions), default=0))
    writer = csv.writer(file)
    writer.writerow(["path", "problem", *(f"{column}_{rank}" for rank in ranks for column in ("class", "score"))])
    for prediction in predictions:
        best = zip(prediction.classes, prediction.scores, strict=True)
        writer.writerow([prediction.path, prediction.problem, *(value for pair in best for value in pair)])


def _write_json(predictions, file):
    fields = [dataclasses.asdict(prediction) for prediction in predictions]
    json.dump([{**field, "path": str(field["path"])} for field in fields], file, indent=2, ensure_ascii=False)
    file.write("\n")


_WRITERS = {".csv": _write_csv, ".json": _write_json}
