"""Does progressive learning pay? Time to the accuracy that training at one image size ends with.

Four arms of equal epochs (EfficientNetV2, ICML 2021, section 4 and the ablation in 5.3): image size and regularisation
(RandAugment, MixUp, CutMix, dropout) each grow as the recipe says, or stand at the last stage's values from the
start. Everything else is the same, to the initial weights and the order of the pictures.
"""

import statistics

from efficientnetv2_tf.benchmark import processes
from efficientnetv2_tf.benchmark.report import Table, shortened
from efficientnetv2_tf.data.sources import DataError, check_source
from efficientnetv2_tf.training.hparams import ConfigError, resolve
from efficientnetv2_tf.training.recipes import load_config

# name -> (what grows, colour).
ARMS = {
    "fixed": ((), "tab:gray"),
    "size only": (("image_size",), "tab:orange"),
    "regularisation only": (("randaugment", "mixup", "cutmix", "dropout"), "tab:green"),
    "both": (("image_size", "randaugment", "mixup", "cutmix", "dropout"), "tab:blue"),
}
_MODULE = "efficientnetv2_tf.benchmark.progressive_trainings"
_ROUNDING = 1e-6  # a mean of equal accuracies can come out above them
_SHOWN_BELOW = 12  # % that the picture shows below fixed-size training's end
_NOTE = (
    "Time of the training steps, without evaluations, after a warm-up at each image size; the first step of an epoch "
    "counts as the others' mean, because it waits for a new input pipeline. The target is the mean test accuracy "
    "(averaged weights) that fixed-size training ends with. A training reaches it with the first epoch that ends at or "
    "above it; its time is relative to all steps of fixed-size training with the same seed. Mean ± standard deviation "
    "of the seeds, where they reach it."
)


def arm_config(config, arm):
    """A recipe with what does not grow in an arm held at its last value.

    Args:
        config: a resolved `Config`.
        arm: a key of `ARMS`.
    """
    grows, _ = ARMS[arm]
    pairs = {name: getattr(config.progressive, name) for name in ARMS["both"][0] if name not in grows}
    held = {name: (pair[1], pair[1]) for name, pair in pairs.items() if pair is not None}
    return config.model_copy(update={"progressive": config.progressive.model_copy(update=held)})


def load_recipes(recipe):
    """The recipes that are asked for, and those whose data set is not to be had. It needs no TensorFlow.

    Args:
        recipe: a `BenchmarkRecipe`.

    Returns:
        ({name: resolved `Config`}, {name: why it is left out}).

    Raises:
        ConfigError: a recipe is not there or cannot be used.
    """
    names = recipe.benchmark.progressive_recipes
    configs = {name: resolve(load_config(name, data_dir=recipe.data.data_dir)) for name in names}
    left_out = {name: why for name, config in configs.items() if (why := _missing(config))}
    return {name: config for name, config in configs.items() if name not in left_out}, left_out


def measure(recipe, console):
    """Trains the four arms on each data set, in turns.

    Args:
        recipe: a `BenchmarkRecipe`.
        console: a `rich.console.Console`, which gets a line a training.

    Returns:
        {"recipes": [{"recipe", "dataset", "model", "image_size", "epochs", "trainings"}], "left_out": {recipe: why}};
        see `progressive_trainings` for a training.

    Raises:
        ConfigError: a recipe is not there or cannot be used, or all are left out.
    """
    settings = recipe.benchmark
    configs, left_out = load_recipes(recipe)
    seeds, measured = [settings.seed + index for index in range(settings.progressive_seeds)], []
    for name, config in configs.items():
        try:
            measured.append(_measure(name, config, seeds, recipe.runtime.onednn, console))
        except ConfigError as error:  # what others took hours for stays
            left_out[name] = str(error)
            console.print(f"{name} is left out: {error}", markup=False, soft_wrap=True)
    if not measured:
        raise ConfigError("\n".join(f"{name}: {why}" for name, why in left_out.items()))
    return {"recipes": measured, "left_out": left_out}


def _missing(config):
    try:
        check_source(config.data.dataset, config.data.data_dir)
    except DataError as error:
        return str(error)
    return None


def _measure(name, config, seeds, onednn, console):
    size = "{} to {} px".format(*config.progressive.image_size)
    console.print(f"{name}: {config.model.name} on {config.data.dataset}, {size}, {config.train.epochs} epochs ...")
    onednn = {"TF_ENABLE_ONEDNN_OPTS": str(int(onednn))}  # the user's wins, as in `load_tensorflow`
    request = {"config": config.model_dump(mode="json"), "seeds": seeds}
    trainings = []
    for training in processes.answers(_MODULE, request, len(seeds) * len(ARMS), onednn):
        trainings.append(training)
        console.print(
            f"{name}, seed {training['seed']}, {training['arm']}: {100 * _end(training):.1f} % after "
            f"{_seconds(training)[-1]:.1f} s"
        )
    return {
        "recipe": name,
        "dataset": config.data.dataset,
        "model": config.model.name,
        "image_size": config.progressive.image_size,
        "epochs": config.train.epochs,
        "trainings": trainings,
    }


def seconds_to(training, accuracy):
    """Training time up to the end of the first epoch that ends with at least this test accuracy.

    Args:
        training: with "epochs", a list of {"seconds", "accuracy"}.
        accuracy: in [0, 1].

    Returns:
        Seconds, or None where no epoch does.
    """
    reached = zip(_seconds(training), training["epochs"], strict=True)
    return next((seconds for seconds, epoch in reached if epoch["accuracy"] > accuracy - _ROUNDING), None)


def _seconds(training):
    """Training time at the end of each epoch."""
    total, ends = 0.0, []
    for epoch in training["epochs"]:
        total += epoch["seconds"]
        ends.append(total)
    return ends


def _wall(training):
    return sum(epoch["wall_seconds"] for epoch in training["epochs"])


def _end(training):
    return training["epochs"][-1]["accuracy"]


def _of(measured, arm):
    """The trainings of an arm, in the order of the seeds."""
    return [training for training in measured["trainings"] if training["arm"] == arm]


def target(measured):
    """The mean test accuracy that fixed-size training ends with."""
    return statistics.mean(map(_end, _of(measured, "fixed")))


def compare(measured, arm):
    """An arm beside fixed-size training.

    Args:
        measured: one of the "recipes" of `measure`.
        arm: a key of `ARMS`.

    Returns:
        A dictionary with one value a seed: `accuracy` at the end, and, relative to the fixed-size training of the same
        seed, `whole` (time of all steps), `wall` (of all epochs, with what comes before their first step) and `reached`
        (time of the steps to the target, relative to all; None where it is not reached).
    """
    goal = target(measured)
    compared = {"accuracy": [], "whole": [], "wall": [], "reached": []}
    for training, fixed in zip(_of(measured, arm), _of(measured, "fixed"), strict=True):
        reached, steps = seconds_to(training, goal), _seconds(fixed)[-1]
        compared["accuracy"].append(_end(training))
        compared["whole"].append(_seconds(training)[-1] / steps)
        compared["wall"].append(_wall(training) / _wall(fixed))
        compared["reached"].append(None if reached is None else reached / steps)
    return compared


def tables(result):
    """One `Table` a recipe, and one of those that were left out, if there are any."""
    rows = tuple((name, shortened(why)) for name, why in result["left_out"].items())
    left_out = Table("progressive learning: left out", ("recipe", "why"), rows)
    return [*map(_table, result["recipes"]), *([left_out] if left_out.rows else [])]


def _table(measured):
    size = "{} to {} px".format(*measured["image_size"])
    rows = []
    for arm in ARMS:
        compared = compare(measured, arm)
        reached = [ratio for ratio in compared["reached"] if ratio is not None]
        seconds = statistics.mean(_seconds(training)[-1] for training in _of(measured, arm))
        rows.append(
            (
                arm,
                _spread([100 * accuracy for accuracy in compared["accuracy"]], 1),
                f"{seconds:.1f}",
                _spread(compared["whole"], 2),
                _spread(compared["wall"], 2),
                _spread(reached, 2) if reached else "not reached",
                f"{len(reached)} of {len(compared['reached'])}",
            )
        )
    return Table(
        title=f"{measured['dataset']}, {measured['model']}, {size}, {measured['epochs']} epochs: time to the "
        f"{100 * target(measured):.1f} % test accuracy that fixed-size training ends with",
        headings=(
            "what grows",
            "test accuracy at the end, %",
            "all steps, s",
            "all steps / fixed's",
            "whole epochs / fixed's",
            "steps to fixed's accuracy / fixed's",
            "trainings that reach it",
        ),
        rows=tuple(rows),
        note=_NOTE,
    )


def _spread(values, decimals):
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.{decimals}f} ± {deviation:.{decimals}f}"


def draw(figure, result):
    """Test accuracy over training time, a panel a recipe.

    Args:
        figure: a matplotlib `SubFigure`.
        result: of `measure`.
    """
    figure.suptitle("progressive learning: test accuracy over training time (mean and range of the seeds)")
    for index, measured in enumerate(result["recipes"]):
        _draw(figure.add_subplot(1, len(result["recipes"]), index + 1), measured)


def _draw(axis, measured):
    goal = 100 * target(measured)
    for arm, (_, color) in ARMS.items():
        trainings = _of(measured, arm)
        seconds = [statistics.mean(times) for times in zip(*map(_seconds, trainings), strict=True)]
        accuracies = [
            [100 * training["epochs"][epoch]["accuracy"] for training in trainings] for epoch in range(len(seconds))
        ]
        axis.plot(seconds, list(map(statistics.mean, accuracies)), color=color, marker=".", label=arm)
        axis.fill_between(
            seconds, list(map(min, accuracies)), list(map(max, accuracies)), color=color, alpha=0.15, linewidth=0
        )
    axis.axhline(goal, color="black", linestyle="--", linewidth=1, label=f"fixed's end, {goal:.1f} %")
    axis.set_title(f"{measured['dataset']}: {measured['model']}, {{}} to {{}} px".format(*measured["image_size"]))
    # Where they end is what matters; the first epochs are far below.
    axis.set_ylim(goal - _SHOWN_BELOW, min(goal + _SHOWN_BELOW / 4, 100.5))
    axis.set_xlabel("time of the training steps, s")
    axis.set_ylabel("test accuracy, %")
    axis.legend(loc="lower right")
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
