"""The most memory that a training process takes: in all, and above what importing and building took."""

from efficientnetv2_tf.benchmark import bars, turns
from efficientnetv2_tf.benchmark.peers import TRAINING
from efficientnetv2_tf.benchmark.report import Table
from efficientnetv2_tf.benchmark.training import REFERENCE, left_out_note

GOAL = 0.8  # times the reference's, at most
_MIB = 2**20
_NOTE = (
    "The most that the process had in RAM (VmHWM), one process of each, after {steps} more steps than it takes to warm "
    "up. Of the steps: what is above what importing the libraries and building network and optimizer took. Keras makes "
    "an optimizer's variables in the first step."
)


def measure(recipe, console):
    """See the package; arguments as for `training.measure`.

    Returns:
        {"models": {model: {"peers": {name: {"label", "ours", "versions", "peak": bytes, "steps": bytes, "ratio",
        "steps_ratio"}}, "left_out"}}, and the settings}. A ratio is None where there is nothing to divide by.
    """
    settings = recipe.benchmark
    return {
        "image_size": settings.image_size,
        "batch_size": settings.batch_size,
        "steps": settings.steps,
        "models": {model: _measure(recipe, model, console) for model in settings.models},
    }


def _measure(recipe, model, console):
    found = {}
    with turns.training_field(recipe, model, console) as field:
        for name in field.waiting:
            field.start([name])
            built = {key: process.facts["memory_built"] for key, process in field.processes.items()}
            for key, (answer,) in field.take_turns({"steps": recipe.benchmark.steps}, 1).items():
                if None in (built[key], answer["peak_memory"]):
                    field.leave_out(key, "this system does not tell how much memory a process takes")
                    continue
                found[key] = {"peak": answer["peak_memory"], "steps": answer["peak_memory"] - built[key]}
                field.leave(key)
    peers, reference = turns.described(TRAINING, found), found.get(REFERENCE)
    for name, memory in found.items():
        peers[name] |= memory
        for ratio, key in (("ratio", "peak"), ("steps_ratio", "steps")):
            # Where the system tells nothing but the peak, steps may add nothing to it.
            peers[name][ratio] = memory[key] / reference[key] if reference and reference[key] else None
        console.print(f"  {model}, {peers[name]['label']}: {memory['peak'] / _MIB:,.0f} MiB")
    return {"peers": peers, "left_out": field.left_out}


def tables(result):
    """One table a network; see the package."""
    headings = ("", "peak, MiB", "ratio to keras.applications", "of the steps, MiB", "ratio")
    title = "Memory of training {} at {image_size} px, batch {batch_size}"
    return [
        Table(
            title.format(model, **result),
            headings,
            tuple(_row(peer) for peer in sorted(found["peers"].values(), key=lambda peer: peer["peak"])),
            _NOTE.format(**result) + left_out_note(found["left_out"]),
        )
        for model, found in result["models"].items()
    ]


def _row(peer):
    cells = [peer["label"]]
    for key, ratio in (("peak", "ratio"), ("steps", "steps_ratio")):
        cells += [f"{peer[key] / _MIB:,.0f}", "-" if peer[ratio] is None else f"{peer[ratio]:.2f}"]
    return tuple(cells)


def draw(figure, result):
    """One field of bars a network, lighter what is of the steps; see the package."""
    figure.suptitle(f"Peak memory of training, batch {result['batch_size']}: MiB (built, steps)")
    axes = figure.subplots(1, len(result["models"]), squeeze=False)[0]
    for axis, (model, found) in zip(axes, result["models"].items(), strict=True):
        rows = [_bar(peer) for peer in sorted(found["peers"].values(), key=lambda peer: -peer["peak"])]
        reference = found["peers"].get(REFERENCE)
        goal = (GOAL * reference["peak"] / _MIB, f"goal: {GOAL} x") if reference else None
        bars.draw_bars(axis, model, rows, goal)


def _bar(peer):
    peak, steps = peer["peak"] / _MIB, peer["steps"] / _MIB
    ratio = peer["ratio"] and {"median": peer["ratio"]}
    text = bars.with_ratio(f"{peak:,.0f}", ratio)
    return bars.Bar(peer["label"], peak, text, peer["ours"], parts=(peak - steps, steps))
