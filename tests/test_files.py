"""Files that are whole or not there."""

import os
import stat

import pytest

from efficientnetv2_tf.files import replacing


def test_replaces(tmp_path):
    path = tmp_path / "new" / "summary.json"
    for content in ("one", "two"):
        with replacing(path) as temporary:
            assert temporary.parent == path.parent
            assert temporary.suffix == ".json"
            temporary.write_text(content)
            assert not path.exists() or path.read_text() == "one"
        assert path.read_text() == content
    assert os.listdir(path.parent) == ["summary.json"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_old_content_is_kept_if_the_block_fails(tmp_path, error):
    path = tmp_path / "metrics.csv"
    path.write_text("old")
    with pytest.raises(error), replacing(str(path)) as temporary:
        temporary.write_text("half of the n")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["metrics.csv"]


def test_nothing_is_left_of_a_new_file_that_fails(tmp_path):
    with pytest.raises(ValueError), replacing(tmp_path / "a.txt"):
        raise ValueError
    assert os.listdir(tmp_path) == []
