"""How near a network comes to what this machine can do: the roofline model, stage by stage.

A stage of a network can be no faster than its arithmetic at the machine's matrix-product rate, nor than its tensors at
the machine's memory bandwidth (Williams et al., Roofline, CACM 2009). Both limits are measured in the same process as
the stages, in turns with them (`stage_times.py`).
"""

from efficientnetv2_tf.benchmark import turns
from efficientnetv2_tf.benchmark.axes import plain_numbers
from efficientnetv2_tf.benchmark.peers import step_request
from efficientnetv2_tf.benchmark.processes import ask
from efficientnetv2_tf.benchmark.report import Table
from efficientnetv2_tf.benchmark.training import left_out_note

KINDS = ("forward", "training")
_NOTE = (
    "Operations: 2 for each multiply-add of convolutions and the classifier; in training 3 times those of the forward "
    "pass (outputs, gradients of inputs, gradients of weights), 2 times in the stem, whose pictures need no gradient. "
    "Intensity: operations for each byte that has to move when each of these layers reads its input and weights and "
    "writes its output once. Of the roof: of the lesser of the matrix-product rate and intensity times bandwidth; what "
    "stays in caches can be above it. The training step of the whole network: AdamW, with the moving average."
)


def measure(recipe, console):
    """Measures each model of a `BenchmarkRecipe` in float32, in a process of its own.

    Args:
        recipe: its benchmark.models, image_size, batch_size, rounds, steps and seed count, model.num_classes, and
            what else `network_config` takes of it.
        console: a `rich.console.Console`.

    Returns:
        {"image_size", "batch_size", "models", "left_out": {model: reason}}, "models" a list of {"name", "gflops" and
        "gigabytes" a second of this machine, "stages", "whole"}. A stage has "name", and "forward" and "training" with
        "seconds", "operations", "bytes" of a batch, "gflops" (achieved), "intensity", "share" of the matrix-product
        rate and "of_roof".

    Raises:
        ConfigError: no model could be measured.
    """
    chosen = recipe.benchmark

    def measure_one(name):
        console.print(f"Roofline of {name}, stage by stage ...")
        return with_rates(_measure(recipe, name))

    found, left_out = turns.measure_each(chosen.models, measure_one, console)
    models = [{"name": name, **measured} for name, measured in found.items()]
    return {
        "image_size": chosen.image_size,
        "batch_size": chosen.batch_size,
        "models": models,
        "left_out": left_out,
    }


def _measure(recipe, name):
    """The answer of `stage_times.measure`."""
    request = step_request(recipe, name, recipe.benchmark.batch_size)
    return ask("efficientnetv2_tf.benchmark.stage_times", request)


def with_rates(measured):
    """What follows from seconds, operations and bytes: achieved rates, intensity and shares, see `measure`."""
    peak, bandwidth = measured["gflops"], measured["gigabytes"]

    def rates(entry):
        gflops, intensity = entry["operations"] / entry["seconds"] / 1e9, entry["operations"] / entry["bytes"]
        roof = min(peak, intensity * bandwidth)
        return {**entry, "gflops": gflops, "intensity": intensity, "share": gflops / peak, "of_roof": gflops / roof}

    def stage(entry):
        return {"name": entry["name"], **{kind: rates(entry[kind]) for kind in KINDS}}

    return {**measured, "stages": [*map(stage, measured["stages"])], "whole": stage(measured["whole"])}


def tables(result):
    """One `Table` for each model, a row for each stage."""
    return [_table(model, result) for model in result["models"]]


def _table(model, result):
    headings = ["", "multiply-adds", "operations/byte"]
    for kind in KINDS:
        headings += [f"{kind}, ms", "GFLOP/s", "of the products'", "of the roof"]
    rows = []
    for stage in [*model["stages"], model["whole"]]:
        operations = stage["forward"]["operations"] / 2 / result["batch_size"]
        cells = [stage["name"], f"{operations / 1e6:.1f}M", f"{stage['forward']['intensity']:.1f}"]
        for kind in KINDS:
            found = stage[kind]
            cells += [f"{found['seconds'] * 1e3:.1f}", f"{found['gflops']:.0f}"]
            cells += [f"{found['share']:.0%}", f"{found['of_roof']:.0%}"]
        rows.append(tuple(cells))
    title = (
        f"Roofline: {model['name']} at {result['image_size']} px, batch {result['batch_size']}; matrix products "
        f"{model['gflops']:.0f} GFLOP/s, memory {model['gigabytes']:.0f} GB/s"
    )
    return Table(title, tuple(headings), tuple(rows), _NOTE + left_out_note(result["left_out"]))


def draw(figure, result):
    """Draws each model's stages below the machine's roof.

    Args:
        figure: a matplotlib `SubFigure`.
        result: of `measure`.
    """
    models = result["models"]
    slowest = min(stage[kind]["gflops"] for model in models for stage in model["stages"] for kind in KINDS)
    axes = figure.subplots(1, len(models), squeeze=False, sharey=True)[0]
    for axis, model in zip(axes, models, strict=True):
        _draw_model(axis, model)
        axis.set_title(f"{model['name']}, {result['image_size']} px, batch {result['batch_size']}", fontsize=10)
        axis.set_xlabel("operations for each byte that has to move")
        axis.legend(loc="lower right", fontsize=8)
    axes[0].set_ylabel("GFLOP/s")
    axes[0].set_ylim(slowest / 2, 1.5 * max(model["gflops"] for model in models))


def _draw_model(axis, model):
    peak, bandwidth, stages = model["gflops"], model["gigabytes"], model["stages"]
    intensities = [stage["forward"]["intensity"] for stage in stages]
    low, high = min(*intensities, peak / bandwidth) / 2, max(*intensities, peak / bandwidth) * 2
    label = f"roof: {peak:.0f} GFLOP/s, {bandwidth:.0f} GB/s"
    axis.plot([low, peak / bandwidth, high], [low * bandwidth, peak, peak], color="black", label=label)
    for kind, marker, color in (("forward", "o", "tab:blue"), ("training", "s", "tab:orange")):
        axis.plot(intensities, [stage[kind]["gflops"] for stage in stages], marker, color=color, label=kind)
        for stage, (x, side) in zip(stages, _sides(intensities), strict=True):
            name, place = stage["name"].removeprefix("stage "), (stage[kind]["intensity"], stage[kind]["gflops"])
            upper = stage[kind]["gflops"] == max(stage[each]["gflops"] for each in KINDS)
            style = {"color": color, "fontsize": 8, "ha": side, "va": "bottom" if upper else "top"}
            axis.annotate(name, place, xytext=(x, -2 if upper else 2), textcoords="offset points", **style)
    whole = model["whole"]["training"]
    label = f"training step: {whole['share']:.0%}"
    axis.axhline(whole["gflops"], color="tab:orange", linewidth=0.8, linestyle="--", label=label)
    axis.set(xscale="log", yscale="log", xlim=(low, high))
    plain_numbers(axis)


def _sides(intensities):
    """(points to the right, text's own side) of each name: of neighbours one stands left, one right of its point."""
    order = sorted(range(len(intensities)), key=intensities.__getitem__)
    return [((-6, "right"), (6, "left"))[order.index(index) % 2] for index in range(len(intensities))]
