"""The picture of what each stage trains on, and what stops it."""

import io

import numpy as np
import pytest
import rich.console
from PIL import Image

from efficientnetv2_tf.data.sources import DataError
from efficientnetv2_tf.training.preview import preview
from efficientnetv2_tf.training.recipes import load_config


@pytest.fixture
def photos(tmp_path):
    """Six grey pictures of two classes; one more is none."""
    for number in range(6):
        path = tmp_path / "photos" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full([30, 40, 3], 40 * number, np.uint8)).save(path)
    (tmp_path / "photos" / "a" / "text.jpg").write_bytes(b"no picture")
    return tmp_path / "photos"


def test_a_bad_image_that_stops_it_is_named(photos, tmp_path):
    overrides = "data.on_bad_image=error,data.batch_size=4,data.eval_fraction=0.2,model.name=testing"
    config = load_config("testing", overrides, dataset=f"folder:{photos}")
    with pytest.raises(DataError, match=r"a/text\.jpg: .*data\.on_bad_image=skip"):
        preview(config, tmp_path / "preview.png", console=rich.console.Console(file=io.StringIO()))
    assert not (tmp_path / "preview.png").exists()
