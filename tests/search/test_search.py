"""The search itself, with a stand-in for what trains: no TensorFlow is needed for choosing, storing and summing up."""

import csv
import io
import os
import signal
import socket

import optuna
import pytest
import rich.console
from optuna.trial import TrialState

from efficientnetv2_tf.search import search as module
from efficientnetv2_tf.search.display import SearchDisplay, evaluated_trials
from efficientnetv2_tf.search.evaluator import CandidateError, Measurement
from efficientnetv2_tf.search.hparams import SearchRecipe, make_space
from efficientnetv2_tf.search.space import SpaceError
from efficientnetv2_tf.training.hparams import ConfigError
from efficientnetv2_tf.training.recipes import load_config

OVERRIDES = (
    "model.name=efficientnetv2-b0,model.width_coefficient=0.25,model.depth_coefficient=0.3,search.trials=12,"
    "search.minutes=0,search.proxy_epochs=3,search.max_parameters=null"
)


def recipe(overrides=""):
    return load_config("search", [OVERRIDES, overrides], schema=SearchRecipe)


class FakeEvaluator:
    """Takes networks with fused first stages for accurate, and each fused stage for a tenth more time."""

    num_classes = 10

    def __init__(self, recipe):
        self.epochs = recipe.search.proxy_epochs
        self.seen, self.closed = [], False
        FakeEvaluator.last = self

    def evaluate(self, blocks, go_on=lambda *_: True):
        self.seen.append(tuple(blocks))
        fused = sum("_c1" in block for block in blocks)
        accuracy, step_ratio = 0.5 + 0.1 * ("_c1" in blocks[0]) + 0.2 * ("_c1" in blocks[1]), 1 + fused / 10
        epochs = next((e + 1 for e in range(self.epochs - 1) if not go_on(e, accuracy, step_ratio)), self.epochs)
        return Measurement(accuracy, 0.01 * step_ratio, step_ratio, 0.01, 0.5, epochs)

    def close(self):
        self.closed = True


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Searches with a recipe's overrides; gives the study and what was printed."""

    def run(overrides="", evaluator=FakeEvaluator, output=tmp_path / "search"):
        monkeypatch.setattr(module, "Evaluator", evaluator)
        console = rich.console.Console(file=io.StringIO(), width=200)
        # Faster than a database, which two tests ask for.
        journal = f"search.storage={output}.journal"
        study = module.search(recipe(f"{journal},{overrides}"), output, console=console)
        return study, console.file.getvalue()

    return run


def rows(folder):
    return list(csv.DictReader((folder / "trials.csv").open()))


def test_best_network_is_a_recipe_that_can_be_trained(run, tmp_path):
    study, printed = run()
    assert len(study.trials) == 12
    config = load_config(tmp_path / "search" / "best.yaml")
    best = study.best_trial
    assert list(config.model.blocks) == best.user_attrs["blocks"]
    assert config.data.train_split is None and config.train.epochs == 8  # the recipe's, not the short training's
    assert config.progressive.image_size == (32, 48)
    for size, other in (("m", 64), ("l", 80)):
        larger = load_config(tmp_path / "search" / f"best-{size}.yaml")
        assert larger.data.eval_image_size == larger.progressive.image_size[1] == other
        assert len(larger.model.blocks) == len(config.model.blocks)
    assert f"Best reward {best.value:.4f} (trial {best.number})" in printed
    assert "12 of 12 trials" in printed and "trials/h" in printed
    assert (tmp_path / "search" / "search.png").read_bytes().startswith(b"\x89PNG")
    assert FakeEvaluator.last.closed


def test_rewards_are_the_paper_s(run, tmp_path):
    study, _ = run()
    space = make_space(recipe(), num_classes=10)
    backbone = space.cost(space.backbone_blocks()).parameters
    for row in rows(tmp_path / "search"):
        ratio = int(row["parameters"]) / backbone
        expected = float(row["accuracy"]) * float(row["step_ratio"]) ** -0.07 * ratio**-0.05
        assert float(row["reward"]) == pytest.approx(expected)
        assert int(row["parameters"]) == space.cost(row["blocks"].split()).parameters
    references = study.user_attrs["references"]
    assert references["backbone"]["blocks"] == list(space.backbone_blocks())
    assert references["backbone"]["parameter_ratio"] == 1


def test_same_seed_same_networks_and_a_restart_goes_on(run, tmp_path):
    whole, _ = run(output=tmp_path / "whole")
    run("search.trials=5", output=tmp_path / "parts")
    parts, _ = run(output=tmp_path / "parts")
    assert [t.params for t in parts.trials] == [t.params for t in whole.trials]
    assert len({str(t.params) for t in whole.trials}) > 10
    other, _ = run("search.seed=1", output=tmp_path / "other")
    assert other.trials[0].params != whole.trials[0].params


@pytest.mark.parametrize("sampler", ["random", "tpe", "reinforce"])
def test_every_sampler(run, sampler):
    study, _ = run(f"search.sampler={sampler},search.prune=false")
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 12


def test_limits_prune_before_anything_is_trained(run, tmp_path):
    space = make_space(recipe(), num_classes=10)
    limit = space.cost(space.backbone_blocks()).parameters
    study, printed = run(f"search.max_parameters={limit},search.trials=4,search.sampler=random")
    refused = [trial for trial in study.trials if "refused" in trial.user_attrs]
    assert refused and all(trial.state == TrialState.PRUNED for trial in refused)
    assert f"more than max_parameters={limit:,}" in refused[0].user_attrs["refused"]
    assert all(space.cost(blocks).parameters <= limit for blocks in FakeEvaluator.last.seen[1:])
    assert len(FakeEvaluator.last.seen) == 1 + 4  # the backbone, which has EfficientNetV2's pattern, and the trials
    assert "of them are within the limits" in printed


def test_the_same_network_is_trained_once(run):
    two_a_stage = "search.kernel_sizes=[3],search.layer_changes=[0],search.se_ratios=[0.0],search.expand_ratios=[1]"
    study, _ = run(f"search.sampler=random,search.prune=false,search.trials=30,{two_a_stage}")
    assert len(study.trials) == 30
    candidates = FakeEvaluator.last.seen[1:]
    assert len(candidates) == len({*candidates}) <= 2**6
    twins = [trial for trial in study.trials if "same_as" in trial.user_attrs]
    assert twins and all(twin.value == study.trials[twin.user_attrs["same_as"]].value for twin in twins)


def test_what_cannot_be_trained_is_the_worst_and_not_the_end(run, tmp_path):
    class Failing(FakeEvaluator):
        def evaluate(self, blocks, go_on=lambda *_: True):
            measurement = super().evaluate(blocks, go_on)
            if len(self.seen) in (4, 6):
                error = CandidateError("The loss is nan")
                error.is_of_the_network = True
                raise error
            return measurement

    study, printed = run(evaluator=Failing)
    assert [trial.value for trial in study.trials if "failed" in trial.user_attrs] == [0.0, 0.0]
    assert len(study.trials) == 12 and study.best_value > 0
    assert "failed (The loss is nan)" in printed
    assert [row["failed"] for row in rows(tmp_path / "search") if row["failed"]] == ["The loss is nan"] * 2


def test_a_network_that_fails_where_the_backbone_does_not(run):
    class TooLarge(FakeEvaluator):
        def evaluate(self, blocks, go_on=lambda *_: True):
            measurement = super().evaluate(blocks, go_on)
            if len(self.seen) == 3:
                raise CandidateError("ended with -9")
            return measurement

    study, _ = run("search.trials=3", TooLarge)
    assert [trial.value for trial in study.trials if "failed" in trial.user_attrs] == [0.0]
    backbone, *candidates = FakeEvaluator.last.seen
    assert candidates.count(backbone) == 1  # once more, to see


def test_a_machine_that_fails_ends_the_search_and_is_no_network_s_fault(run):
    class Full(FakeEvaluator):
        def evaluate(self, blocks, go_on=lambda *_: True):
            if len(self.seen) == 4:
                raise CandidateError("No space left on device")
            return super().evaluate(blocks, go_on)

    with pytest.raises(ConfigError, match=r"now the backbone cannot either \(No space left"):
        run(evaluator=Full)
    study, _ = run()
    assert not any("failed" in trial.user_attrs for trial in study.trials)
    assert len(evaluated_trials(study)) == 12


def test_a_search_that_finds_nothing_is_an_error(run, tmp_path):
    class Diverging(FakeEvaluator):
        def evaluate(self, blocks, go_on=lambda *_: True):
            measurement = super().evaluate(blocks, go_on)
            if len(self.seen) > 1:
                error = CandidateError("The loss is nan")
                error.is_of_the_network = True
                raise error
            return measurement

    with pytest.raises(ConfigError, match=r"No network could be trained to the end; .*trials\.csv says why"):
        run("search.trials=2", Diverging)
    assert [row["failed"] for row in rows(tmp_path / "search")] == ["The loss is nan"] * 2


def test_hopeless_trainings_end_early(run):
    class Differing(FakeEvaluator):
        def evaluate(self, blocks, go_on=lambda *_: True):
            accuracy = 0.1 if len(self.seen) > 12 else 0.9  # of trials 12 on
            self.seen.append(tuple(blocks))
            epochs = next((e + 1 for e in range(2) if not go_on(e, accuracy, 1.0)), 3)
            return Measurement(accuracy, 0.01, 1.0, 0.01, None, epochs)

    study, printed = run("search.trials=14", Differing)
    pruned = [trial for trial in study.trials if trial.state == TrialState.PRUNED]
    assert {12, 13} <= {trial.number for trial in pruned}
    assert all(trial.user_attrs["epochs"] == 1 for trial in study.trials[12:])
    assert not any(trial.number < 8 for trial in pruned)  # of too few the median says nothing
    assert "ended after epoch 1" in printed


def test_interrupted_search_writes_what_it_found_and_goes_on(run, tmp_path):
    class Interrupted(FakeEvaluator):
        def evaluate(self, blocks, go_on=lambda *_: True):
            if len(self.seen) == 6:
                raise KeyboardInterrupt
            return super().evaluate(blocks, go_on)

    with pytest.raises(KeyboardInterrupt):
        run(evaluator=Interrupted)
    assert FakeEvaluator.last.closed
    states = [row["state"] for row in rows(tmp_path / "search")]
    assert states == ["complete"] * 5 + ["fail"]
    assert load_config(tmp_path / "search" / "best.yaml").model.blocks
    study, _ = run()
    assert len(FakeEvaluator.last.seen) == 7  # and not the backbone again
    assert len(evaluated_trials(study)) == 12


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals(run, tmp_path, number, code):
    class Told(FakeEvaluator):
        def evaluate(self, blocks, go_on=lambda *_: True):
            if len(self.seen) == 3:
                os.kill(os.getpid(), number)
            return super().evaluate(blocks, go_on)

    with pytest.raises(KeyboardInterrupt, match="The same command goes on") as caught:
        run(evaluator=Told)
    assert caught.value.exit_code == code
    assert FakeEvaluator.last.closed and len(FakeEvaluator.last.seen) == 3
    assert [row["state"] for row in rows(tmp_path / "search")] == ["complete"] * 2 + ["fail"]


def test_a_signal_between_two_trials_waits_for_optuna_s_notes(run, tmp_path, monkeypatch):
    def told(self, trial):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(SearchDisplay, "finished", told)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert [row["state"] for row in rows(tmp_path / "search")] == ["complete", "fail"]


def test_search_that_is_done_only_sums_up(run):
    run()
    study, printed = run()
    assert FakeEvaluator.last.seen == [] and len(study.trials) == 12
    assert "Best reward" in printed


def test_without_a_backbone_there_is_nothing_to_compare_with(run, tmp_path):
    class Broken(FakeEvaluator):
        def evaluate(self, blocks, go_on=None):
            raise CandidateError("out of memory")

    with pytest.raises(ConfigError, match=r"backbone cannot be trained.*out of memory"):
        run(evaluator=Broken)


# --- before any training ---


class NeverEvaluator:
    def __init__(self, _):
        raise AssertionError("something was begun")


@pytest.mark.parametrize(
    "overrides, error, expected",
    [
        ("search.operations=[]", SpaceError, "`operations` should have at least one option"),
        ("search.kernel_sizes=[4]", SpaceError, r"kernel_size.*odd, received 4"),
        ("search.max_parameters=1000", SpaceError, r"`max_parameters` should be at least [\d,]+"),
        ("model.blocks=[r1_k3_s2_e1_i16_o16]", SpaceError, "model.blocks: expected null"),
        ("search.storage=sqlite:////no/such/folder/x.db", ConfigError, "search.storage: sqlite:.*cannot be used"),
        ("search.storage=/no/such/folder/x.journal", ConfigError, "search.storage: /no.*cannot be used"),
        ("search.storage=postgres", ConfigError, "Expected sqlite:///FILE"),
        ("search.storage=oracle9://x/y", ConfigError, "Expected sqlite:///FILE"),
        ("search.storage=sqlite://a:b@host:port/x", ConfigError, "Expected sqlite:///FILE"),
        ("train.init_weights=imagenet", ConfigError, "train.init_weights: expected null"),
        ("runtime.strategy=mirrored", ConfigError, "runtime.strategy: expected auto or one_device"),
    ],
)
def test_bad_input(run, overrides, error, expected):
    with pytest.raises(error, match=expected):
        run(overrides, NeverEvaluator)


def test_study_of_another_space(run, tmp_path):
    run("search.trials=1")
    with pytest.raises(ConfigError, match=r"'efficientnetv2' in .*journal is of another search \(stage 1 kernel size"):
        run("search.kernel_sizes=[3,5,7]", NeverEvaluator)
    with pytest.raises(ConfigError, match=r"train.epochs: 3 -> 2"):
        run("search.proxy_epochs=2", NeverEvaluator)
    study, _ = run("search.kernel_sizes=[3,5,7],search.study=second,search.trials=1")
    assert len(study.trials) == 1


def test_a_start_that_came_to_nothing_binds_nobody(run, tmp_path):
    class NoData(FakeEvaluator):
        def __init__(self, recipe):
            raise ConfigError("data.batch_size: expected at most 9")

    with pytest.raises(ConfigError, match="batch_size"):
        run(evaluator=NoData)
    study, _ = run("search.proxy_epochs=2,search.trials=1")
    assert len(study.trials) == 1


def test_study_of_something_else(run, tmp_path):
    (tmp_path / "search").mkdir()
    study = optuna.create_study(storage=f"sqlite:///{tmp_path / 'search' / 'study.db'}", study_name="efficientnetv2")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(ConfigError, match="is of something else than this package's search"):
        run("search.storage=null", NeverEvaluator)


def test_passwords_are_not_shown(run):
    with pytest.raises(ConfigError) as caught:
        run("search.storage=postgresql://me:SECRET@127.0.0.1:1/db", NeverEvaluator)
    assert "SECRET" not in str(caught.value) and "postgresql://me:***@127.0.0.1:1/db" in str(caught.value)


def test_the_backbone_is_b4_where_nothing_else_is_said():
    assert load_config("own_images", schema=SearchRecipe).model.name == "efficientnet-b4"
    assert load_config("own_images", model="efficientnetv2-b0", schema=SearchRecipe).model.name == "efficientnetv2-b0"
    assert load_config("own_images").model.name == "efficientnetv2-s"
    other = load_config("search", dataset="cifar10", schema=SearchRecipe).search
    assert other.proxy_train_split is None and other.max_parameters is None  # those of digits


def test_limits_that_nothing_satisfies_together(run):
    space = make_space(recipe(), num_classes=10)
    least = space._least()
    overrides = f"search.max_parameters={least.parameters},search.max_multiply_adds={least.multiply_adds}"
    with pytest.raises(SpaceError, match="None of 1000 random networks of the space is within max_parameters="):
        run(overrides)


def test_settings_of_a_search_are_told_apart_from_those_of_a_training():
    with pytest.raises(ConfigError, match=r"search\.trials is a setting of --mode=search only"):
        load_config("testing", "search.trials=3")
    with pytest.raises(ConfigError, match=r"search\.trails is not a key\. Did you mean search\.trials\?"):
        load_config("testing", "search.trails=3", schema=SearchRecipe)


# --- what a process leaves that is killed ---


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")  # of what the test does by hand
@pytest.mark.parametrize("storage", ["null", "{}/search.journal"])
def test_trial_of_a_process_that_is_no_more(run, tmp_path, storage):
    (tmp_path / "search").mkdir()
    storage = f"search.storage={storage.format(tmp_path)}"
    study, _ = run(f"search.trials=2,{storage}")
    left = study.ask()
    left.set_user_attr("worker", f"{socket.gethostname()}:{2**22 + 1}")  # above what Linux gives
    study.ask()  # of a process that had no time to say who it is
    study, _ = run(f"search.trials=4,{storage}")
    assert study.trials[left.number].state == TrialState.FAIL
    assert sum(trial.state == TrialState.COMPLETE for trial in study.trials) == 4


def test_a_process_that_was_taken_for_dead_goes_on(run, tmp_path):
    class Asleep(FakeEvaluator):
        def evaluate(self, blocks, go_on=lambda *_: True):
            measurement = super().evaluate(blocks, go_on)
            if len(self.seen) == 3:  # meanwhile another process cleans up
                other = optuna.load_study(study_name="efficientnetv2", storage=storage(tmp_path / "search.journal"))
                (left,) = other.get_trials(states=(TrialState.RUNNING,))
                other.tell(left.number, state=TrialState.FAIL)
            return measurement

    study, _ = run("search.trials=3", Asleep)
    assert [trial.state for trial in study.trials].count(TrialState.COMPLETE) == 3
    assert [trial.state for trial in study.trials].count(TrialState.FAIL) == 1


def storage(path):
    return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))


def test_the_ecosystem_s_tools_read_it(run, tmp_path):
    run("search.trials=2,search.storage=null")
    study = optuna.load_study(study_name="efficientnetv2", storage=f"sqlite:///{tmp_path / 'search' / 'study.db'}")
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 2
