"""The README's code runs, and its commands are understood."""

import pathlib
import re
import shlex
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
ELSEWHERE = (
    "eval", "import", "models", "preview", "verify_data", "benchmark", "benchmark_input", "benchmark_memory",
    "benchmark_fused", "export", "predict", "search", "serve",
)  # fmt: skip
COMMANDS = re.findall(r"python tools/main\.py [^&\n`]*", README)


@pytest.mark.slow
def test_python_snippets_run(tmp_path):
    assert len(SNIPPETS) >= 2
    script = tmp_path / "readme.py"
    script.write_text("\n".join(SNIPPETS) + "\nprint('SIZES', sorted({s.image_size for s in plan}))\n")
    process = subprocess.run([sys.executable, script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert process.returncode == 0, process.stderr
    assert "SIZES [16, 32]" in process.stdout


def test_every_command_is_understood():
    assert len(COMMANDS) >= 4
    for command in COMMANDS:
        flags = shlex.split(command)[2:]
        # Of files that are not here, or leaving one: other tests run them.
        if {f"--mode={mode}" for mode in ELSEWHERE} & set(flags) or "search/best.yaml" in command:
            continue
        flags = [flag.replace("--mode=train", "--mode=plan") for flag in flags]
        process = subprocess.run(
            [sys.executable, "tools/main.py", *flags], capture_output=True, text=True, cwd=ROOT, check=False
        )
        assert process.returncode == 0, f"{command}: {process.stderr}"
