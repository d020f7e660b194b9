"""What pictures show, from files to the table."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from efficientnetv2_tf.data.sources import DataError
from efficientnetv2_tf.deploy.predictor import predict
from efficientnetv2_tf.training.hparams import ConfigError


@pytest.fixture
def console():
    return Console(width=160, file=io.StringIO())


@pytest.fixture
def photos(encode, broken, tmp_path):
    """20 good pictures, more than a batch, and three files that are none."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(20):
        (folder / f"{number:02}.png").write_bytes(encode("PNG", number))
    (folder / "cut.jpg").write_bytes(broken["cut JPEG"])
    (folder / "gone.jpg").symlink_to("nowhere")
    (folder / "text.png").write_bytes(broken["not an image"])
    return folder


def test_a_folder(run_folder, photos, console, tmp_path):
    found = predict([photos], model=run_folder, output=tmp_path / "x.json", console=console)
    assert [prediction.path.name for prediction in found] == [
        *(f"{number:02}.png" for number in range(20)), "cut.jpg", "gone.jpg", "text.png",
    ]  # fmt: skip
    assert all(len(prediction.classes) == 5 and not prediction.problem for prediction in found[:20])
    assert [prediction.problem.partition(":")[0] for prediction in found[20:]] == [
        "cut", "No such file or directory", "not an image",
    ]  # fmt: skip
    text = console.file.getvalue()
    assert "20 pictures, and 3 files that could not be read" in text
    assert "cut.jpg" in text
    rows = json.loads((tmp_path / "x.json").read_text())
    assert [tuple(row["scores"]) for row in rows] == [prediction.scores for prediction in found]


def test_batches_do_not_mix_pictures_up(run_folder, photos, console):
    forward = predict([photos / "*.png"], model=run_folder, console=console)[:20]
    backward = predict([prediction.path for prediction in forward[::-1]], model=run_folder, console=console)[::-1]
    for one, other in zip(forward, backward, strict=True):
        assert (one.path, one.classes) == (other.path, other.classes)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-6)
    assert len({prediction.scores for prediction in forward}) == 20


def test_explanations_lie_beside_the_pictures_and_are_none_themselves(run_folder, photos, console):
    predict([photos / "0[01].png", photos / "text.png"], model=run_folder, explain=True, console=console)
    drawn = sorted(path.name for path in photos.glob("*.explain.png"))
    assert drawn == ["00.png.explain.png", "01.png.explain.png"]
    with Image.open(photos / drawn[0]) as picture:
        assert picture.width > 1.5 * picture.height  # both of them, side by side
    assert len(predict([photos], model=run_folder, console=console)) == 23


def test_nothing_that_can_be_read_is_an_error_at_the_end(run_folder, photos, console, tmp_path):
    with pytest.raises(DataError, match="Not one of 2 files is a picture"):
        predict([photos / "text.png", photos / "cut.jpg"], model=run_folder, output=tmp_path / "x.csv", console=console)
    assert (tmp_path / "x.csv").read_text().count("\n") == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Expected a model's path or a server's address"),
        ({"model": "x", "url": "http://x/v1/models/x"}, "and not both"),
        ({"url": "http://x/v1/models/x", "explain": True}, "no heat map"),
        ({"model": "x", "output": "x.txt"}, "should end in .csv or .json"),
        ({"model": "gone"}, "gone was not found"),
    ],
)
def test_mistakes_are_told_before_anything_is_read(photos, arguments, message, console):
    with pytest.raises(ConfigError, match=message):
        predict([photos], console=console, **arguments)


def test_importing_it_loads_no_tensorflow(run_python):
    code = "import sys, efficientnetv2_tf.deploy.predictor; print('tensorflow' in sys.modules)"
    assert run_python(code).strip() == "False"
