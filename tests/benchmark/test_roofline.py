"""The roofline: operations and bytes by hand, what follows from times, and a real process on the smallest network."""

import io
import json

import pytest
import rich.console

from efficientnetv2_tf.benchmark import roofline
from efficientnetv2_tf.benchmark.config import BenchmarkRecipe
from efficientnetv2_tf.benchmark.stage_times import work
from efficientnetv2_tf.networks.block_string import expand
from efficientnetv2_tf.networks.cost import multiply_adds, variant_stage_costs
from efficientnetv2_tf.training.hparams import Config, ConfigError
from efficientnetv2_tf.training.recipes import load_config

BLOCKS = ("r1_k3_s1_e1_i16_o16_c1", "r1_k3_s2_e4_i16_o24_se0.25")
TINY = (
    "benchmark.models=[testing],benchmark.image_size=32,benchmark.batch_size=4,benchmark.rounds=2,benchmark.steps=1,"
    f"model.num_classes=10,model.blocks=[{','.join(BLOCKS)}]"
)


@pytest.fixture(scope="module")
def recipe():
    return load_config(None, TINY, schema=BenchmarkRecipe)


@pytest.fixture(scope="module")
def result(recipe):
    return roofline.measure(recipe, rich.console.Console(file=io.StringIO()))


def test_operations_and_bytes_are_those_counted_by_hand():
    found = work(variant_stage_costs("testing", 32, num_classes=10), batch_size=4)
    # Stem: 3 x 3 x 3 x 16 weights at 16 x 16 pixels; it reads 32 x 32 x 3 and writes 16 x 16 x 16.
    operations = 2 * 4 * (27 * 16) * 256
    moved = 4 * (4 * (32 * 32 * 3 + 16 * 16 * 16) + 27 * 16 + 2 * 16)
    # No gradient of the pictures.
    assert found["stem"] == {"forward": (operations, moved), "training": (2 * operations, 2 * moved)}
    # Stage 1: one fused block, expansion 1: 3 x 3 x 16 x 16 weights at 16 x 16 pixels.
    operations = 2 * 4 * (9 * 16 * 16) * 256
    moved = 4 * (4 * 2 * 16 * 16 * 16 + 9 * 16 * 16 + 2 * 16)
    assert found["stage 1"] == {"forward": (operations, moved), "training": (3 * operations, 3 * moved)}


def test_rates_follow_from_times():
    entry = {"seconds": 0.5, "operations": 40e9, "bytes": 20e9}
    names = {"name": "stem", "forward": entry, "training": {**entry, "bytes": 0.4e9}}
    found = roofline.with_rates({"gflops": 400.0, "gigabytes": 50.0, "stages": [names], "whole": names})
    forward, training = (found["stages"][0][kind] for kind in roofline.KINDS)
    assert (forward["gflops"], forward["intensity"], forward["share"]) == pytest.approx((80, 2, 0.2))
    assert forward["of_roof"] == pytest.approx(0.8)  # memory allows 2 x 50
    assert (training["intensity"], training["of_roof"]) == pytest.approx((100, 0.2))  # arithmetic allows 400


def test_one_network_that_fails_leaves_the_other(recipe, console, monkeypatch):
    times = {"seconds": 0.5, "operations": 40e9, "bytes": 20e9}
    entry = {"name": "stem", "forward": times, "training": times}

    def ask(module, request):
        config = Config.model_validate_json(request["config"])
        assert (config.train.optimizer, config.model.num_classes) == ("adamw", 10)  # as in `training`
        if config.model.name == "testing":
            raise ConfigError("no more memory")
        return {"gflops": 400.0, "gigabytes": 50.0, "stages": [entry], "whole": entry}

    monkeypatch.setattr(roofline, "ask", ask)
    both = recipe.benchmark.model_copy(update={"models": ("testing", "efficientnetv2-s")})
    result = roofline.measure(recipe.model_copy(update={"benchmark": both}), console)
    (table,) = roofline.tables(result)
    assert "efficientnetv2-s" in table.title and table.note.endswith("Left out: testing (no more memory).")
    with pytest.raises(ConfigError, match="testing: no more memory"):
        roofline.measure(recipe, console)


@pytest.mark.slow
def test_every_stage_is_measured(result):
    assert (result["image_size"], result["batch_size"]) == (32, 4)
    (model,) = json.loads(json.dumps(result))["models"]
    assert [stage["name"] for stage in model["stages"]] == ["stem", "stage 1", "stage 2", "head"]
    assert model["gflops"] > 0 and model["gigabytes"] > 0
    operations = 2 * 4 * multiply_adds(expand(BLOCKS), 32, feature_size=32, num_classes=10)
    assert model["whole"]["forward"]["operations"] == operations
    stem = model["stages"][0]["forward"]["operations"]
    assert model["whole"]["training"]["operations"] == 3 * operations - stem
    for stage in [*model["stages"], model["whole"]]:
        for kind in roofline.KINDS:
            assert stage[kind]["seconds"] > 0
            assert 0 < stage[kind]["share"] < 1, stage  # no convolution is faster than the matrix products


@pytest.mark.slow
def test_the_table_has_a_row_for_each_stage(result):
    (table,) = roofline.tables(result)
    assert [row[0] for row in table.rows][-2:] == ["head", "whole network"]
    assert all(len(row) == len(table.headings) for row in table.rows)
    assert table.rows[0][1:3] == ("0.1M", f"{result['models'][0]['stages'][0]['forward']['intensity']:.1f}")
    assert "testing at 32 px, batch 4" in table.title


@pytest.mark.slow
def test_the_picture_has_all_points_below_the_roof(result):
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    roofline.draw(figure.subfigures(), result)
    (axis,) = figure.subfigs[0].axes
    lines = {line.get_label(): line for line in axis.lines}
    assert len(lines["forward"].get_xdata()) == len(lines["training"].get_xdata()) == 4
    assert max(lines["training"].get_ydata()) < result["models"][0]["gflops"]
    assert sorted(text.get_text() for text in axis.texts) == sorted(["1", "2", "stem", "head"] * 2)
    figure.draw_without_rendering()
