"""`--mode=models`, as a user runs it."""

import pathlib
import subprocess
import sys

import pytest

MAIN = pathlib.Path(__file__).parents[2] / "tools" / "main.py"


@pytest.fixture(scope="module")
def run_models():
    """Runs the command in a folder; the finished process, with the modules that it imported on stderr."""

    def run(folder, *flags):
        command = [sys.executable, "-X", "importtime", str(MAIN), "--mode=models", *flags]
        return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)

    return run


def test_prints_the_family_and_draws_it_without_tensorflow(run_models, tmp_path):
    process = run_models(tmp_path)
    assert process.returncode == 0, process.stderr
    lines = [line.split("│") for line in process.stdout.splitlines() if line.startswith("│")]
    table = {cells[1].strip(): [cell.strip() for cell in cells[2:-1]] for cells in lines}
    assert len(table) == 18
    assert table["efficientnetv2-s"] == ["21.5", "8.37", "300", "384", "v2", "83.9"]
    assert table["efficientnetv2-b0"] == ["7.1", "0.72", "192", "224", "v1", "78.7"]
    assert table["efficientnet-b7"] == ["66.3", "37.75", "480", "600", "v1", "84.3"]
    assert "Wrote models.png" in process.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["models.png"]
    assert (tmp_path / "models.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    imported = {line.rsplit("|", 1)[1].strip() for line in process.stderr.splitlines() if "|" in line}
    assert "matplotlib" in imported
    assert not {"tensorflow", "keras"} & imported


def test_the_picture_goes_where_output_says(run_models, tmp_path):
    process = run_models(tmp_path, "--output=figures/family.png")
    assert process.returncode == 0, process.stderr
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["family.png"]


def test_another_kind_of_file_is_an_error(run_models, tmp_path):
    process = run_models(tmp_path, "--output=family.keras")
    assert process.returncode == 1
    assert "Error: --output should end in .png. Received: family.keras" in process.stderr
    assert not [*tmp_path.iterdir()]
