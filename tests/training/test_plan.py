"""The table of stages, row by row."""

import io
import os
import subprocess
import sys

import pytest
import rich.console

from efficientnetv2_tf.training import plan
from efficientnetv2_tf.training.hparams import ConfigError, resolve
from efficientnetv2_tf.training.recipes import load_config


def rows(recipe, *overrides, **options):
    config = resolve(load_config(recipe, overrides, **options))
    found = plan.plan_rows(config, plan.make_plan(config))
    return [
        (r.stage, r.epochs, r.image_size, None if r.magnitude is None else round(r.magnitude, 2), r.mixup, r.cutmix,
         round(r.dropout, 3), r.batch_size)
        for r in found
    ], [r.relative_cost for r in found]  # fmt: skip


GOLDEN = {
    "release": [
        (1, "1-87", 171, 5.0, 0, 0, 0.2, 4096),
        (2, "88-175", 214, 6.67, 0, 0, 0.2, 4096),
        (3, "176-262", 257, 8.33, 0, 0, 0.2, 4096),
        (4, "263-350", 300, 10.0, 0, 0, 0.2, 4096),
    ],
    "paper": [
        (1, "1-87", 128, 5.0, 0, 0, 0.1, 4096),
        (2, "88-175", 185, 8.33, 0, 0, 0.167, 4096),
        (3, "176-262", 243, 11.67, 0, 0, 0.233, 4096),
        (4, "263-350", 300, 15.0, 0, 0, 0.3, 4096),
    ],
}


@pytest.mark.parametrize("recipe", GOLDEN)
def test_rows_of_s(recipe):
    found, costs = rows(recipe, model="efficientnetv2-s")
    assert found == GOLDEN[recipe]
    assert costs == sorted(costs)
    assert costs[-1] == 1
    # A convolutional network costs about the square of the side.
    assert costs[0] == pytest.approx((GOLDEN[recipe][0][2] / 300) ** 2, rel=0.15)


def test_one_stage():
    found, costs = rows("testing", "progressive.stages=1,progressive.mixup=[0,0.3]")
    assert found == [(1, "1-2", 32, 10.0, 0.3, 0, 0.1, 64)]
    assert costs == [1]


def test_epochs_of_one():
    assert [row[1] for row in rows("testing")[0]] == ["1", "2"]


def test_magnitude_is_shown_for_randaugment_only():
    assert rows("release", model="efficientnetv2-b0")[0][0][3] is None


@pytest.mark.parametrize("steps, epochs", [(0, 2), (40, 2), (44, 2), (45, 3), (1000, 46)])
def test_min_steps_makes_more_epochs(steps, epochs):
    config = resolve(load_config("testing", ["data.num_train_images=1437", f"train.min_steps={steps}"]))
    assert plan.steps_per_epoch(config) == 22  # 1437 // 64
    assert plan.total_epochs(config) == epochs
    assert plan.make_plan(config)[-1].end_epoch == epochs


def test_unknown_number_of_images():
    config = resolve(load_config("testing", ["train.min_steps=1000"]))
    assert plan.steps_per_epoch(config) is None
    assert plan.total_epochs(config) == 2


@pytest.mark.parametrize("key", ["progressive.image_size", "data.eval_image_size"])
def test_too_small_image(key):
    config = resolve(load_config("digits", ["progressive.image_size=[4,32]" if "prog" in key else f"{key}=5"]))
    with pytest.raises(ConfigError, match=rf"^{key}: expected at least \d+ px.*efficientnetv2-s.*Received: [45]$"):
        plan.make_plan(config)


def test_table():
    config = resolve(load_config("paper", model="efficientnetv2-m"))
    text = io.StringIO()
    rich.console.Console(file=text, width=160).print(plan.plan_table(config, plan.make_plan(config)))
    assert "efficientnetv2-m on imagenet: 350 epochs" in text.getvalue()
    last = next(line for line in text.getvalue().splitlines() if "263-350" in line)
    assert [part.strip(" │") for part in last.split("│")[1:-1]] == [
        "4", "263-350", "380", "20", "0.2", "0", "0.4", "4096", "1.00",
    ]  # fmt: skip


def test_needs_no_tensorflow():
    code = (
        "import sys\n"
        "from efficientnetv2_tf.training import plan, recipes, hparams, run_folder\n"
        "config = hparams.resolve(recipes.load_config('paper'))\n"
        "plan.plan_table(config, plan.make_plan(config))\n"
        "print({'tensorflow', 'keras', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert done.stdout.strip() in ("set()", "{'numpy'}")
