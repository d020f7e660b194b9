"""Measurements in processes of their own: their answers, their environment, and what is said where they fail."""

import os
import pathlib

import pytest

from efficientnetv2_tf.benchmark import peers, processes
from efficientnetv2_tf.training.hparams import ConfigError

CHILD = """
import json, os, sys
from efficientnetv2_tf.child_process import answer_lines

def serve(lines, tell):
    request = json.loads(next(lines))
    for name in request:
        tell(os.environ[name])
    if not request:
        sys.exit("no memory")
    next(lines)

answer_lines(serve)
"""


@pytest.fixture
def child(tmp_path, monkeypatch):
    (tmp_path / "asked_child.py").write_text(CHILD)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    return "asked_child"


def test_the_cpu_is_measured_whatever_the_user_has_set(child, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert [*processes.answers(child, ["CUDA_VISIBLE_DEVICES", "KERAS_BACKEND"], 2)] == ["-1", "tensorflow"]


def test_peers_are_measured_on_the_cpu(tmp_path, child, monkeypatch):
    (tmp_path / "peer_child.py").write_text(
        "import os\nfrom efficientnetv2_tf.child_process import answer_lines\n"
        "answer_lines(lambda lines, tell: tell({**os.environ}))\n"
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    peer = peers.PeerProcess("peer_child", peers.Peer("ours", "ours"), {})
    peer.close()
    assert {name: peer.facts[name] for name in processes.ON_CPU} == processes.ON_CPU


def test_the_user_s_settings_win_over_a_recipe_s(child, monkeypatch):
    settings = {"TF_ENABLE_ONEDNN_OPTS": "1"}
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    assert [*processes.answers(child, [*settings], 1, settings)] == ["1"]
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    assert [*processes.answers(child, [*settings], 1, settings)] == ["0"]


def test_a_process_ends_where_nobody_asks_on(child):
    found = processes.answers(child, ["TMPDIR"] * 3, 3)
    folder = pathlib.Path(next(found))
    assert folder.exists()
    found.close()
    assert not folder.exists()


def test_a_process_that_ends_says_why(child):
    with pytest.raises(ConfigError, match=r"(?s)asked_child\) failed; .* smaller benchmark.batch_size .* ended with 0"):
        processes.ask(child, [])
    with pytest.raises(ConfigError, match=r"(?s)ended with 1\. .*KeyError: 'NO_SUCH_SETTING'"):
        processes.ask(child, ["NO_SUCH_SETTING"])
