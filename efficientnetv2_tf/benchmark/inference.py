"""Images a second of inference: this package's exports beside what the peers offer, all in turns."""

import statistics
import tempfile

from efficientnetv2_tf.benchmark import bars, turns
from efficientnetv2_tf.benchmark.peers import INFERENCE, Peer, chosen, network_config
from efficientnetv2_tf.benchmark.report import Table
from efficientnetv2_tf.benchmark.training import left_out_note

GOAL = 1.3  # times the images/s of both references
REFERENCES = {"keras_predict": "ratio to predict", "keras_function": "to tf.function"}
# Of the picture: the faster one, where it was measured.
_SHOWN = {"keras_function": "tf.function", "keras_predict": "predict"}
MODULE = "efficientnetv2_tf.benchmark.inference_process"
_NOTE = (
    "Medians of {rounds} turns of {calls} calls or more, with the quartiles; ratios are medians of the turns'. Same "
    "work: float32, normalised pictures in memory to logits, random weights. Not the same: this package's TFLite and "
    "ONNX files also normalise the pixels and end in a softmax, and int8 computes in integers. Their rows, and timm's "
    "with ONNX Runtime, compare runtimes as well as networks."
)


def measure(recipe, console):
    """See the package; arguments as for `training.measure`.

    Returns:
        {"models": {model: {"batches": {batch size: {name: {"label", "ours", "versions", "images_per_second": [one a
        turn], "median", "low", "high", "ratios": {reference: a `spread` or None}}}}, "left_out"}}, and the settings}.
    """
    settings = recipe.benchmark
    return {
        "image_size": settings.inference_image_size,
        "rounds": settings.rounds,
        "calls": settings.steps,
        "models": {model: _measure(recipe, model, console) for model in settings.models},
    }


def _measure(recipe, model, console):
    settings = recipe.benchmark
    with tempfile.TemporaryDirectory() as folder:
        request = {
            "config": network_config(recipe, model).model_dump_json(),
            "image_size": settings.inference_image_size,
            "folder": folder,
        }
        console.print(f"  {model}: exporting ...")
        export(request, console)
        peers = chosen(INFERENCE, recipe)
        with turns.Field(MODULE, peers, {peer.name: request for peer in peers}, console) as field:
            field.start()
            batches = {str(size): _batch(field, size, settings, console) for size in settings.inference_batch_sizes}
    return {"batches": batches, "left_out": field.left_out}


def export(request, console):
    """Writes this package's files, in a process of its own; without a SavedModel a `ConfigError`."""
    with turns.Field(MODULE, [Peer("export", "efficientnetv2_tf, export")], {"export": request}, console) as field:
        field.start()


def _batch(field, batch_size, settings, console):
    console.print(f"  batch {batch_size} ...")
    answers = field.take_turns({"batch_size": batch_size, "calls": settings.steps}, settings.rounds)
    rates = {
        name: [batch_size / statistics.median(answer["seconds"]) for answer in found] for name, found in answers.items()
    }
    peers = turns.described(INFERENCE, rates)
    for name, values in rates.items():
        against = {reference: turns.ratios(values, rates.get(reference)) for reference in REFERENCES}
        peers[name] |= {"images_per_second": values, **turns.spread(values), "ratios": against}
        console.print(f"  batch {batch_size}, {peers[name]['label']}: {peers[name]['median']:.1f} images/s")
    return peers


def tables(result):
    """One table a network and batch size, the fastest first; see the package."""
    return [
        Table(
            f"Inference of {model} at {result['image_size']} px, batch {batch_size}",
            ("", "images/s", "quartiles", *REFERENCES.values()),
            tuple(_row(peer) for peer in sorted(peers.values(), key=lambda peer: -peer["median"])),
            _NOTE.format(**result) + left_out_note(found["left_out"]),
        )
        for model, found in result["models"].items()
        for batch_size, peers in found["batches"].items()
    ]


def _row(peer):
    ratios = (f"{ratio['median']:.2f}" if ratio else "-" for ratio in peer["ratios"].values())
    return peer["label"], f"{peer['median']:.1f}", f"{peer['low']:.1f} - {peer['high']:.1f}", *ratios


def draw(figure, result):
    """One field of bars a network and batch size; see the package."""
    figure.suptitle(f"Inference, {result['image_size']} px: images/s (ratio to keras.applications)")
    found = [
        (f"{model}, batch {batch_size}", peers)
        for model, found in result["models"].items()
        for batch_size, peers in found["batches"].items()
    ]
    columns = max(len(model["batches"]) for model in result["models"].values())
    axes = figure.subplots(len(result["models"]), columns, squeeze=False).flat
    for axis, (title, peers) in zip(axes, found, strict=True):
        reference = next((name for name in _SHOWN if name in peers), None)
        rows = [
            bars.Bar(
                peer["label"],
                peer["median"],
                bars.with_ratio(f"{peer['median']:.0f}", peer["ratios"].get(reference)),
                peer["ours"],
                (peer["low"], peer["high"]),
            )
            for peer in sorted(peers.values(), key=lambda peer: peer["median"])
        ]
        goal = (GOAL * peers[reference]["median"], f"goal: {GOAL} x {_SHOWN[reference]}") if reference else None
        bars.draw_bars(axis, title, rows, goal)
