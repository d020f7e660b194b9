"""The first step: from the start of a process to the end of its first training step, imports included."""

from efficientnetv2_tf.benchmark import bars, turns
from efficientnetv2_tf.benchmark.peers import TRAINING
from efficientnetv2_tf.benchmark.report import Table
from efficientnetv2_tf.benchmark.training import REFERENCE, left_out_note

GOAL = 0.4  # times the seconds of the reference, at most
_NAMES = ("ours", "ours_average", REFERENCE)
_FEWEST = 2  # processes of each
_PARTS = ("importing", "building", "rest")
_NOTE = (
    "Medians of {rounds} fresh processes of each, in turns. Building: network, optimizer and compile(); the rest: "
    "tracing, what TensorFlow prepares, and the step itself. keras.applications runs under a plain fit."
)


def measure(recipe, console):
    """See the package; arguments as for `training.measure`.

    Returns:
        {"models": {model: {"peers": {name: {"label", "ours", "versions", "importing", "building", "rest": seconds, the
        medians, "seconds": [one a process], "median", "low", "high", "ratio"}}, "left_out"}}, and the settings}.
    """
    settings = recipe.benchmark
    rounds = max(_FEWEST, settings.rounds // 2)
    return {
        "image_size": settings.image_size,
        "batch_size": settings.batch_size,
        "rounds": rounds,
        "models": {model: _measure(recipe, model, rounds, console) for model in settings.models},
    }


def _measure(recipe, model, rounds, console):
    found = {}
    with turns.training_field(recipe, model, console, names=_NAMES, warm_up=1) as field:
        for number in range(1, rounds + 1):
            for name in field.waiting:
                field.start([name])
                if name in field.processes:
                    found.setdefault(name, []).append(field.processes[name].facts)
                    field.leave(name)
            console.print(f"  {model}: process {number} of {rounds} of each")
    found = {name: facts for name, facts in found.items() if len(facts) == rounds}
    peers = turns.described(TRAINING, found)
    seconds = {name: [fact["first_step"] for fact in facts] for name, facts in found.items()}
    for name, facts in found.items():
        peers[name] |= {
            **{part: turns.spread([_parts(fact)[part] for fact in facts])["median"] for part in _PARTS},
            "seconds": seconds[name],
            **turns.spread(seconds[name]),
            "ratio": turns.ratios(seconds[name], seconds.get(REFERENCE)),
        }
        console.print(f"  {model}, {peers[name]['label']}: {peers[name]['median']:.1f} s")
    return {"peers": peers, "left_out": field.left_out}


def _parts(fact):
    return {
        "importing": fact["imported"],
        "building": fact["built"] - fact["imported"],
        "rest": fact["first_step"] - fact["built"],
    }


def tables(result):
    """One table for all networks; see the package."""
    rows, notes = [], []
    for model, found in result["models"].items():
        rows += [_row(model, peer) for peer in found["peers"].values()]
        notes.append(left_out_note(found["left_out"]))
    title = f"From the start of the process to the end of the first training step, s ({result['image_size']} px)"
    headings = ("", "", "first step", *_PARTS, "ratio to keras.applications")
    return [Table(title, headings, tuple(rows), _NOTE.format(**result) + "".join(dict.fromkeys(notes)))]


def _row(model, peer):
    parts = (f"{peer[part]:.1f} ({peer[part] / peer['median']:.0%})" for part in _PARTS)
    ratio = f"{peer['ratio']['median']:.2f}" if peer["ratio"] else "-"
    return model, peer["label"], f"{peer['median']:.1f}", *parts, ratio


def draw(figure, result):
    """One field of bars a network, each in its three parts; see the package."""
    figure.suptitle("Start of the process to the end of step one: seconds (importing, building, the rest)")
    axes = figure.subplots(len(result["models"]), 1, squeeze=False)[:, 0]
    for axis, (model, found) in zip(axes, result["models"].items(), strict=True):
        rows = [
            bars.Bar(
                peer["label"],
                peer["median"],
                bars.with_ratio(f"{peer['median']:.1f} s", peer["ratio"]),
                peer["ours"],
                parts=tuple(peer[part] for part in _PARTS),
            )
            for peer in reversed(found["peers"].values())
        ]
        reference = found["peers"].get(REFERENCE)
        bars.draw_bars(axis, model, rows, (GOAL * reference["median"], f"goal: {GOAL} x") if reference else None)
