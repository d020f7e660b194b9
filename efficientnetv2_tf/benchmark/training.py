"""Images a second of training steps: same network, batch, loss and optimizer, each in turns with a reference."""

from efficientnetv2_tf.benchmark import bars, turns
from efficientnetv2_tf.benchmark.peers import TRAINING, WEIGHT_DECAY
from efficientnetv2_tf.benchmark.report import Table

GOAL = 1.3  # times the images/s of the reference
REFERENCE = "keras_applications"
_NOTE = (
    "Medians of {rounds} turns of {steps} steps, with the quartiles: one library after the other takes turns with "
    "keras.applications, so that no more than two are in memory. Ratio, by which the rows are ordered: median over the "
    "turns of both; keras.applications' own row has all of its turns. Same work for all: float32, AdamW with a weight "
    "decay of {weight_decay:g} on kernels only, cross entropy on one-hot labels, random weights, one batch in memory, "
    "the variant's dropout and stochastic depth (of keras-cv the latter only). The moving average of all weights, with "
    "which this package trains by default, is more work. This package asks for oneDNN; Keras leaves that to "
    "TensorFlow, which by itself uses it on CPUs with AVX-512."
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
        "weight_decay": WEIGHT_DECAY,
        "models": {model: _measure(recipe, model, console) for model in settings.models},
    }


def _measure(recipe, model, console):
    settings, found, of_reference = recipe.benchmark, {}, []
    with turns.training_field(recipe, model, console) as field:
        peers = turns.described(TRAINING, field.waiting)
        for name, facts, answers in field.take_turns_beside(REFERENCE, {"steps": settings.steps}, settings.rounds):
            rates = {key: _rates(turn, settings) for key, turn in answers.items()}
            of_reference += rates.get(REFERENCE, [])
            if name in rates:
                found[name] = _found(facts, rates[name], rates.get(REFERENCE))
                console.print(f"  {model}, {peers[name]['label']}: {found[name]['median']:.1f} images/s")
        if REFERENCE in field.processes:
            found[REFERENCE] = _found(field.processes[REFERENCE].facts, of_reference, of_reference)
    measured = {name: peer | found[name] for name, peer in peers.items() if name in found}
    return {"peers": measured, "left_out": field.left_out}


def _rates(answers, settings):
    return [settings.batch_size * settings.steps / sum(answer["seconds"]) for answer in answers]


def _found(facts, rates, references):
    return {
        "parameters": facts["parameters"],
        "images_per_second": rates,
        **turns.spread(rates),
        "ratio": turns.ratios(rates, references),
    }


def _slowest_first(peers):
    """By the ratio, for their turns were not side by side; those without one come first, by their own rate."""

    def order(peer):
        return (1, peer["ratio"]["median"]) if peer["ratio"] else (0, peer["median"])

    return sorted(peers.values(), key=order)


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
        for peer in reversed(_slowest_first(found["peers"]))
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
    what = f"Training step, {result['image_size']} px, batch {result['batch_size']}"
    figure.suptitle(f"{what}: images/s, in turns with keras.applications, as a ratio to it")
    axes = figure.subplots(1, len(result["models"]), squeeze=False)[0]
    for axis, (model, found) in zip(axes, result["models"].items(), strict=True):
        rows = [_bar(peer) for peer in _slowest_first(found["peers"])]
        bars.draw_bars(axis, model, rows, (GOAL, f"goal: {GOAL} x") if REFERENCE in found["peers"] else None)


def _bar(peer):
    """The ratio as a bar, for each was measured at another time; images/s where there is no reference."""
    shown = peer["ratio"] or peer
    text = bars.with_ratio(f"{peer['median']:.0f}", peer["ratio"])
    return bars.Bar(peer["label"], shown["median"], text, peer["ours"], (shown["low"], shown["high"]))
