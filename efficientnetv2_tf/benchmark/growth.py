"""How a step's cost grows with image size, batch, depth and replicas, and the first step with depth.

Nothing should grow faster than its work: cost ~ work ** exponent, with an exponent of at most 1.
"""

import contextlib
import itertools
import json
import socket

import numpy as np

from efficientnetv2_tf.benchmark.axes import plain_numbers
from efficientnetv2_tf.benchmark.processes import ask, asked
from efficientnetv2_tf.benchmark.report import Table
from efficientnetv2_tf.benchmark.steps import training_config

IMAGE_SIZES = (32, 64, 128, 256)  # px
BATCH_SIZES = (1, 4, 16, 64)
DEPTHS = (0.5, 1.0, 2.0)  # times the variant's depth_coefficient
REPLICAS = 2  # also the number of workers
_PART = 4  # of benchmark.batch_size where it is not the batch that grows
_PROCESS = "efficientnetv2_tf.benchmark.growth_times"
_NOTE = (
    "The exponent is the slope of log(cost) over log(work): up to 1, cost grows no faster than its work. The worst "
    "rise is the most that the cost of a unit of work rises from a smaller to a larger work. Two replicas are logical "
    "devices under MirroredStrategy, two workers are processes under MultiWorkerMirroredStrategy; each has a batch of "
    "its own and both share this machine's cores, so that two have twice the work and no more to do it with."
)


def measure(recipe, console):
    """Measures the first of a `BenchmarkRecipe`'s models, in processes of their own.

    Args:
        recipe: its benchmark.models[0], image_size, batch_size, rounds, steps and seed count, and its `train` says
            which optimizer and averages a training step has.
        console: a `rich.console.Console`.

    Returns:
        {"model", "image_size", "batch_size", "series"}. Each of the series is {"name", "unit", "work" (what is counted
        as such), "values", "works", "costs"}, where costs are lists by name, of seconds or nodes of the graph.
    """
    chosen = recipe.benchmark
    name, batch_size = chosen.models[0], max(1, chosen.batch_size // _PART)
    request = {
        "config": training_config(recipe, name).model_dump_json(),
        "image_size": chosen.image_size,
        "batch_size": batch_size,
        "rounds": chosen.rounds,
        "steps": chosen.steps,
        "seed": chosen.seed,
    }
    console.print(f"Growth of {name}'s steps with image size, batch and depth ...")
    grown = {"image_sizes": IMAGE_SIZES, "batch_sizes": BATCH_SIZES, "depths": DEPTHS}
    series = ask(_PROCESS, {**request, "kind": "steps", **grown})
    console.print("... with replicas and workers ...")
    replicas = ask(_PROCESS, {**request, "kind": "replicas", "replicas": [1, REPLICAS]})
    work, seconds = _workers(request, REPLICAS)
    training = [replicas["costs"]["training"][0], seconds]
    workers = {**replicas, "name": "workers", "works": [replicas["works"][0], work], "costs": {"training": training}}
    series += [replicas, workers]
    return {"model": name, "image_size": chosen.image_size, "batch_size": batch_size, "series": series}


def _workers(request, number):
    """(work, seconds of a training step) of processes that train together."""
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    addresses = [f"127.0.0.1:{server.getsockname()[1]}" for server in servers]
    for server in servers:
        server.close()

    def worker(index):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        return asked(_PROCESS, {**request, "kind": "worker"}, forced={"TF_CONFIG": json.dumps(task)})

    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(worker(index)) for index in range(number)]
        chief, *_ = [answer() for answer in workers]
    return chief


def exponent(works, costs):
    """The slope of log(cost) over log(work), by least squares."""
    return float(np.polyfit(np.log(works), np.log(costs), 1)[0])


def worst_rise(works, costs):
    """The most by which the cost of a unit of work at a larger work exceeds that at a smaller one; 1 is not at all."""
    relative = [cost / work for work, cost in sorted(zip(works, costs, strict=True))]
    return max(later / earlier for earlier, later in itertools.combinations(relative, 2))


def tables(result):
    """One `Table` of how each cost grows, one of all points."""
    headings = ("grows", "work", "cost", "of the work", "of the cost", "exponent", "worst rise")
    rows, points = [], []
    for series in result["series"]:
        values, works = series["values"], series["works"]
        span = f"{series['name']} {values[0]:g} to {values[-1]:g}{series['unit']}"
        for cost, found in series["costs"].items():
            growth = [f"x {works[-1] / works[0]:.3g}", f"x {found[-1] / found[0]:.3g}"]
            fitted = [f"{exponent(works, found):.2f}", f"{worst_rise(works, found):.2f}"]
            rows.append((span, series["work"], cost, *growth, *fitted))
            for value, work, one in zip(values, works, found, strict=True):
                share = one / work / (found[0] / works[0])
                amount = f"{one:,.0f}" if cost == "graph nodes" else f"{one * 1e3:,.1f} ms"
                points.append(
                    (f"{series['name']} {value:g}{series['unit']}", cost, f"{work:.4g}", amount, f"{share:.2f}")
                )
    title = (
        f"Growth of {result['model']}, at {result['image_size']} px and batch {result['batch_size']} unless they grow"
    )
    each = ("", "cost", "work", "", "for each unit of work, of the first")
    return [Table(title, headings, tuple(rows), _NOTE), Table("Growth, point by point", each, tuple(points))]


_MARKERS = {"training": "o-", "inference": "s--", "first step": "^-", "graph nodes": "v--"}


def draw(figure, result):
    """Draws the time of a step against its work, and what a unit of work costs against the first point's.

    Args:
        figure: a matplotlib `SubFigure`.
        result: of `measure`.
    """
    left, right = figure.subplots(1, 2)
    colors = [f"tab:{name}" for name in ("blue", "orange", "green", "red", "purple", "brown")]
    for series, color in zip(result["series"], colors, strict=False):
        works = np.array(series["works"])
        for cost, found in series["costs"].items():
            label = f"{series['name']}, {cost}: {exponent(works, found):.2f}"
            style = {"color": color, "markersize": 4, "linewidth": 1, "label": label}
            if series["work"] == "multiply-adds":
                left.plot(works / 1e9, np.array(found) * 1e3, _MARKERS[cost], **style)
            share = np.array(found) / works
            right.plot(works / works[0], share / share[0], _MARKERS[cost], **style)
    left.set(xscale="log", yscale="log", xlabel="billion multiply-adds of a step", ylabel="ms of a step")
    right.axhline(1, color="black", linewidth=1)
    right.set(xscale="log", yscale="log", xlabel="work, in those of the first point")
    right.set_ylabel("cost of a unit of work, in those of the first point")
    left.set_title(f"{result['model']}: time of a step", fontsize=10)
    right.set_title("above the line: grows faster than its work", fontsize=10)
    figure.legend(*right.get_legend_handles_labels(), loc="outside right upper", fontsize=8, title="and its exponent")
    for axis in (left, right):
        plain_numbers(axis)
