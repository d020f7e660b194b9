"""Which files are looked at, and how results are shown and written."""

import csv
import io
import json
import pathlib

import pytest
from rich.console import Console

from efficientnetv2_tf.deploy.prediction import (
    Prediction,
    check_output,
    find_pictures,
    prediction_table,
    write_predictions,
)
from efficientnetv2_tf.training.hparams import ConfigError

PREDICTIONS = [
    Prediction(pathlib.Path("cat.jpg"), ("cat", "dog [x]"), (0.9, 0.1)),
    Prediction(pathlib.Path("broken.png"), problem="cut: PNG, with [brackets]"),
    Prediction(pathlib.Path("été.jpg"), ("été", "hiver"), (0.75, 0.25)),
]


@pytest.fixture
def photos(tmp_path):
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.png", "a.png.explain.png", "deep/er/c.webp", ".git/d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def found(folder, *inputs):
    return [str(path.relative_to(folder)) for path in find_pictures(inputs)]


def test_a_folder_stands_for_its_pictures(photos):
    assert found(photos, photos) == ["a.png", "b.JPG", "deep/er/c.webp"]


def test_patterns_files_and_folders_in_the_order_given(photos, monkeypatch):
    monkeypatch.chdir(photos)
    assert [str(path) for path in find_pictures(["deep", "*.png", "notes.txt", "a.png"])] == [
        "deep/er/c.webp", "a.png", "notes.txt",
    ]  # fmt: skip
    assert found(photos, photos / "**" / "*.webp") == ["deep/er/c.webp"]


def test_a_single_one_may_be_given_bare(photos):
    for inputs in (photos, str(photos), f"{photos}/*"):
        assert photos / "a.png" in find_pictures(inputs)


def test_a_name_with_signs_of_a_pattern_is_a_name_first(tmp_path):
    (tmp_path / "photo [1].png").touch()
    assert found(tmp_path, tmp_path / "photo [1].png") == ["photo [1].png"]


@pytest.mark.parametrize("name", ["gone.png", "*.gif", "empty"])
def test_nothing_found_is_an_error(photos, name):
    (photos / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"No pictures at .*: expected a file, a folder with pictures"):
        find_pictures([photos / name])


def test_the_table_shows_names_and_problems():
    console = Console(width=120, file=io.StringIO())
    console.print(prediction_table(PREDICTIONS))
    text = console.file.getvalue()
    assert "2 pictures, and 1 file that could not be read" in text
    for part in ("cat", "90.0 %", "dog [x] 10.0 %", "not read: cut: PNG, with [brackets]", "été", "hiver 25.0 %"):
        assert part in text


def test_paths_are_no_markup():
    console = Console(width=120, file=io.StringIO())
    console.print(prediction_table([Prediction(pathlib.Path("[old]/cat.jpg"), ("cat",), (1.0,))]))
    assert "[old]/cat.jpg" in console.file.getvalue()


def test_a_long_table_is_cut(tmp_path):
    table = prediction_table(PREDICTIONS[:1] * 1500)
    assert table.row_count == 101
    console = Console(width=120, file=io.StringIO())
    console.print(table)
    assert "and 1,400 more" in console.file.getvalue()


def test_csv(tmp_path):
    write_predictions(PREDICTIONS, tmp_path / "x.csv")
    with (tmp_path / "x.csv").open(encoding="utf-8", newline="") as file:
        rows = [*csv.DictReader(file)]
    assert [row["path"] for row in rows] == ["cat.jpg", "broken.png", "été.jpg"]
    assert [rows[0][key] for key in ("problem", "class_1", "score_1", "class_2", "score_2")] == [
        "", "cat", "0.9", "dog [x]", "0.1",
    ]  # fmt: skip
    assert rows[1]["problem"] == "cut: PNG, with [brackets]"
    assert rows[2]["class_1"] == "été"


def test_json(tmp_path):
    write_predictions(PREDICTIONS, tmp_path / "x.json")
    rows = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert rows[0] == {"path": "cat.jpg", "classes": ["cat", "dog [x]"], "scores": [0.9, 0.1], "problem": ""}
    assert (rows[1]["classes"], rows[1]["problem"]) == ([], "cut: PNG, with [brackets]")


def test_other_endings_are_refused(tmp_path):
    check_output(None)
    with pytest.raises(ConfigError, match=r"should end in \.csv or \.json\. Received: x.txt"):
        check_output("x.txt")
