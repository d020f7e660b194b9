"""Images a second of training steps: same network, batch, loss and optimizer, all in turns."""

from efficientnetv2_tf.benchmark import bars, turns
from efficientnetv2_tf.benchmark.peers import TRAINING
from efficientnetv2_tf.benchmark.report import Table

GOAL = 1.3  # times the images/s of the reference
REFERENCE = "keras_applications"
_NOTE = (
    "Medians of {rounds} turns of {steps} steps, with the quartiles. Same work for all: AdamW, cross entropy on "
    "one-hot labels, random weights, one batch in memory; dropout and stochastic depth as each has them by default. "
    "The moving average of all weights, with which this package trains by default, is more work. Ratio: median of the "
    "turns'."
)


def measure(recipe, console):
    """See the package.

    Args:
        recipe: a `BenchmarkRecipe`.
        console: a `rich.console.Console`.

    Returns:
        {"models": {model: {"peers": {name: {"label", "ours", "versions", "parameters", "images_per_second", "median",
        "low", "high", "ratio"}}, "left_out": {label: reason}}}, and the settings}.
    """
    settings = recipe.benchmark
    return {
        "image_size": settings.image_size,
        "batch_size": settings.batch_size,
        "rounds": settings.rounds,
        "steps": settings.steps,
        "models": {model: _measure(recipe, model, console) for model in settings.models},
    }


def _measure(recipe, model, console):
    settings = recipe.benchmark
    with turns.training_field(recipe, model, console) as field:
        console.print(f"  {model}: building and warming up ...")
        field.start()
        facts = {name: process.facts for name, process in field.processes.items()}
        answers = field.take_turns({"steps": settings.steps}, settings.rounds)
    rates = {
        name: [settings.batch_size * settings.steps / sum(answer["seconds"]) for answer in found]
        for name, found in answers.items()
    }
    peers = turns.described(TRAINING, rates)
    for name, values in rates.items():
        peers[name] |= {
            "parameters": facts[name]["parameters"],
            "images_per_second": values,
            **turns.spread(values),
            "ratio": turns.ratios(values, rates.get(REFERENCE)),
        }
        console.print(f"  {model}, {peers[name]['label']}: {peers[name]['median']:.1f} images/s")
    return {"peers": peers, "left_out": field.left_out}


def tables(result):
    """One table a network, the fastest first; see the package."""
    return [_table(model, found, result) for model, found in result["models"].items()]


def _table(model, found, result):
    rows = [
        (
            peer["label"],
            f"{peer['median']:.1f}",
            f"{peer['low']:.1f} - {peer['high']:.1f}",
            f"{peer['ratio']['median']:.2f}" if peer["ratio"] else "-",
            f"{peer['parameters']:,}",
        )
        for peer in sorted(found["peers"].values(), key=lambda peer: -peer["median"])
    ]
    return Table(
        f"Training {model} at {result['image_size']} px, batch {result['batch_size']}",
        ("", "images/s", "quartiles", "ratio to keras.applications", "parameters"),
        tuple(rows),
        _NOTE.format(**result) + left_out_note(found["left_out"]),
    )


def left_out_note(left_out):
    """A sentence on those that are left out, or ""."""
    if not left_out:
        return ""
    return " Left out: " + "; ".join(f"{label} ({reason.rstrip('.')})" for label, reason in left_out.items()) + "."


def draw(figure, result):
    """One field of bars a network; see the package."""
    figure.suptitle(f"Training step, {result['image_size']} px, batch {result['batch_size']}: images/s")
    axes = figure.subplots(1, len(result["models"]), squeeze=False)[0]
    for axis, (model, found) in zip(axes, result["models"].items(), strict=True):
        peers = sorted(found["peers"].values(), key=lambda peer: peer["median"])
        rows = [
            bars.Bar(
                peer["label"],
                peer["median"],
                bars.with_ratio(f"{peer['median']:.0f}", peer["ratio"]),
                peer["ours"],
                (peer["low"], peer["high"]),
            )
            for peer in peers
        ]
        reference = found["peers"].get(REFERENCE)
        goal = (GOAL * reference["median"], f"goal: {GOAL} x") if reference else None
        bars.draw_bars(axis, model, rows, goal)
