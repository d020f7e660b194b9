"""The process that trains candidates: its measurements, and what becomes of it."""

import json
import os
import signal

import pytest

from efficientnetv2_tf import child_process
from efficientnetv2_tf.search.evaluator import CandidateError, Evaluator, reward
from efficientnetv2_tf.search.hparams import SearchRecipe, make_space, proxy_config
from efficientnetv2_tf.training.hparams import ConfigError
from efficientnetv2_tf.training.recipes import load_config

TINY = (
    "model.depth_coefficient=0.5,search.proxy_epochs=2,search.proxy_train_split=train[:320],"
    "search.proxy_eval_split=train[320:400],search.kernel_sizes=[3],search.layer_changes=[0]"
)


def recipe(overrides=""):
    return load_config("testing", [TINY, overrides], schema=SearchRecipe)


def test_reward():
    weights = {"step_time_exponent": -0.07, "parameters_exponent": -0.05}
    assert reward(0.8, 1.0, 1.0, **weights) == 0.8
    assert reward(0.8, 2.0, 3.0, **weights) == pytest.approx(0.8 * 0.952638 * 0.946557, rel=1e-5)


def test_short_training_of_a_recipe():
    config = proxy_config(load_config("search", schema=SearchRecipe), ["r1_k3_s2_e1_i16_o16", "r2_k3_s2_e4_i16_o24"])
    assert config.model.blocks == ("r1_k3_s2_e1_i16_o16", "r2_k3_s2_e4_i16_o24")
    assert (config.model.width_coefficient, config.model.depth_coefficient) == (1.0, 1.0)
    assert config.progressive.image_size == (32, 32) and config.data.eval_image_size == 32
    assert config.progressive.randaugment == (4.0, 4.0) and config.progressive.mixup == (0.0, 0.0)
    assert config.train.epochs == 3 and config.train.lr_warmup_epochs == 0.75
    assert config.data.train_split == "train[:1150]" and config.data.eval_split == "train[1150:]"


def test_turns_keep_the_ratio_where_the_machine_slows_down():
    from efficientnetv2_tf.search.proxy import measure

    class Steps:
        def __init__(self, seconds):
            self.times = iter(seconds)

        def seconds(self):
            return next(self.times)

    machine = [1, 1, 1, 3, 3, 3, 3, 1, 1]  # slower for a while
    candidate = [0.02 * slow * noise for slow, noise in zip(machine, [1, 1.1, 0.9] * 3, strict=True)]
    found = measure(Steps(candidate), Steps([0.01 * slow for slow in machine]), rounds=9)
    assert found["step_ratio"] == pytest.approx(2.0)
    assert found["step_seconds"] == pytest.approx(0.022)
    assert found["step_spread"] == pytest.approx(0.1)


@pytest.mark.slow
def test_one_process_trains_one_network_after_the_other():
    """Real trainings: what an epoch ends with, the same again, a loss that is not finite, and a process that dies."""
    searched = recipe()
    space = make_space(searched, num_classes=10)
    backbone, pattern = space.backbone_blocks(), space.v2_blocks()
    evaluator, epochs = Evaluator(searched), []
    try:
        assert evaluator.num_classes == 10
        first = evaluator.evaluate(backbone, lambda *values: epochs.append(values) or True)
        assert [epoch for epoch, *_ in epochs] == [0] and epochs[0][2] == first.step_ratio
        assert 0 <= first.accuracy <= 1 and first.epochs == 2
        assert first.step_seconds > 0 and first.step_spread >= 0
        assert 0.5 < first.step_ratio < 2  # of itself
        stopped = evaluator.evaluate(pattern, lambda *_: False)
        assert stopped.epochs == 1
        assert evaluator.evaluate(backbone).accuracy == first.accuracy
        pid = evaluator._process.pid
        with pytest.raises(CandidateError, match="ended with -9"):
            evaluator.evaluate(backbone, lambda *_: os.kill(pid, signal.SIGKILL) or True)
        assert evaluator.evaluate(backbone).accuracy == first.accuracy
        with pytest.raises(CandidateError, match="ValueError"):
            evaluator.evaluate(["r1_k3_s2_e1_i16_o16", "r1_k3_s2_e1_i24_o16"])  # 16 channels meet 24
    finally:
        evaluator.close()


@pytest.mark.slow
def test_candidates_end_and_data_sets_end_the_search():
    with pytest.raises(CandidateError, match="NonFiniteError: The loss is"):
        evaluator = Evaluator(recipe("train.lr_per_256_images=1e30,train.lr_warmup_epochs=0"))
        evaluator.evaluate(make_space(recipe(), num_classes=10).backbone_blocks())
    with pytest.raises(ConfigError, match=r"train\[:9999999\]|9999999"):
        Evaluator(recipe("search.proxy_train_split=train[9999999:]"))


def test_answers_of_libraries_are_no_answers(monkeypatch, tmp_path):
    """What a process prints besides goes to stderr, and is shown when it ends."""
    script = tmp_path / "child"
    script.write_text("#!/bin/sh\nread recipe\necho '{\"num_classes\": 3}'\nread blocks\necho no memory >&2\nexit 7\n")
    script.chmod(0o755)
    monkeypatch.setattr(child_process.sys, "executable", str(script))
    evaluator = Evaluator(recipe())
    with pytest.raises(CandidateError, match=r"ended with 7\. no memory"):
        evaluator.evaluate(["r1_k3_s2_e1_i16_o16"])
    assert json.dumps(evaluator.num_classes) == "3"
