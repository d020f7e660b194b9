"""How a step's cost grows with image size, batch, depth and replicas, and the first step with depth.

Nothing should grow faster than its work: cost ~ work ** exponent, with an exponent of at most 1.
"""

import concurrent.futures
import contextlib
import itertools
import json
import socket

import numpy as np

from efficientnetv2_tf.benchmark import turns
from efficientnetv2_tf.benchmark.axes import plain_numbers
from efficientnetv2_tf.benchmark.peers import step_request
from efficientnetv2_tf.benchmark.processes import ask, asked
from efficientnetv2_tf.benchmark.report import Table
from efficientnetv2_tf.benchmark.training import left_out_note

IMAGE_SIZES = (32, 64, 128, 256)  # px
BATCH_SIZES = (1, 4, 16, 64)
DEPTHS = (0.5, 1.0, 2.0)  # times the variant's depth_coefficient
REPLICAS = 2  # also the number of workers
_PART = 4  # of benchmark.batch_size where image size or depth grows
_PROCESS = "efficientnetv2_tf.benchmark.growth_times"
_NOTE = (
    "The exponent is the slope of log(cost) over log(work): up to 1, cost grows no faster than its work. The worst "
    "rise is the most that the cost of a unit of work rises from a smaller to a larger work. A training step: AdamW, "
    "with the moving average. Two replicas are logical devices under MirroredStrategy; two workers are processes under "
    "MultiWorkerMirroredStrategy, as is the one worker before them. Each has a whole batch of its own and both share "
    "this machine's cores, so that two have twice the work and no more to do it with. Two trainings side by side are "
    "the same processes, but know nothing of each other: what two workers take longer is what they exchange."
)


def measure(recipe, console):
    """Measures the first of a `BenchmarkRecipe`'s models, in processes of their own.

    Args:
        recipe: its benchmark.models[0], image_size, batch_size (for replicas and workers; a quarter of it for others),
            rounds, steps and seed count, model.num_classes, and what else `network_config` takes of it.
        console: a `rich.console.Console`.

    Returns:
        {"model", "image_size", "batch_size", "replica_batch_size", "series", "left_out": {what grows: reason}}. Each of
        the series is {"name", "unit", "work" (what is counted as such), "values", "works", "costs"}, where costs are
        lists by name, of seconds or nodes of the graph.

    Raises:
        ConfigError: nothing could be measured.
    """
    chosen = recipe.benchmark
    name = chosen.models[0]

    def share(part):
        return max(1, chosen.batch_size // part)

    def measure_one(what):
        console.print(f"Growth of {name}'s steps with {what} ...")
        measure_series, part = _GROWING[what]
        return measure_series(step_request(recipe, name, share(part)))

    found, left_out = turns.measure_each(_GROWING, measure_one, console)
    series = [one for several in found.values() for one in several]
    shape = {"image_size": chosen.image_size, "batch_size": share(_PART), "replica_batch_size": chosen.batch_size}
    return {"model": name, **shape, "series": series, "left_out": left_out}


def _steps(request):
    grown = {"image_sizes": IMAGE_SIZES, "batch_sizes": BATCH_SIZES, "depths": DEPTHS}
    return ask(_PROCESS, {**request, "kind": "steps", **grown})


def _replicas(request):
    return [ask(_PROCESS, {**request, "kind": "replicas", "replicas": [1, REPLICAS]})]


def _growing_workers(request):
    """A worker alone, and right after it several, at first apart: what differs is their number, then the exchange."""
    numbers = [1, REPLICAS]
    alone, apart, together = (_workers(request, *sizes) for sizes in ([1], [1] * REPLICAS, [REPLICAS]))

    def series(name, several):
        works, seconds = zip(alone, several, strict=True)
        shape = {"name": name, "unit": "", "work": "multiply-adds", "values": numbers}
        return {**shape, "works": [*works], "costs": {"training": [*seconds]}}

    return [series("workers", together), series("trainings side by side", apart)]


# How each is measured, with which part of benchmark.batch_size.
_GROWING = {
    "image size, batch and depth": (_steps, _PART),
    "replicas": (_replicas, 1),
    "workers": (_growing_workers, 1),
}


def _workers(request, *sizes):
    """(work, seconds of a training step) of trainings side by side, each by so many processes together."""
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(sum(sizes))]
    addresses = iter([f"127.0.0.1:{server.getsockname()[1]}" for server in servers])
    for server in servers:
        server.close()
    clusters = [[*itertools.islice(addresses, size)] for size in sizes]
    tasks = [(cluster, index) for cluster in clusters for index in range(len(cluster))]

    def worker(cluster, index):
        task = {"cluster": {"worker": cluster}, "task": {"type": "worker", "index": index}}
        return asked(_PROCESS, {**request, "kind": "worker"}, forced={"TF_CONFIG": json.dumps(task)})

    with contextlib.ExitStack() as stack:
        threads = stack.enter_context(concurrent.futures.ThreadPoolExecutor(len(tasks)))
        workers = [stack.enter_context(worker(*task)) for task in tasks]
        answers = [threads.submit(answer) for answer in workers]
        for answer in concurrent.futures.as_completed(answers):
            answer.result()  # the first that fails; the others would wait for it
    chiefs = [answer.result() for answer, (_, index) in zip(answers, tasks, strict=True) if index == 0]
    works, seconds = zip(*chiefs, strict=True)
    return sum(works), max(seconds)


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
        f"Growth of {result['model']}, at {result['image_size']} px and batch {result['batch_size']} unless they grow, "
        f"batch {result['replica_batch_size']} for replicas and workers"
    )
    each = ("", "cost", "work", "", "for each unit of work, of the first")
    note = _NOTE + left_out_note(result["left_out"])
    return [Table(title, headings, tuple(rows), note), Table("Growth, point by point", each, tuple(points))]


_MARKERS = {"training": "o-", "inference": "s--", "first step": "^-", "graph nodes": "v--"}


def draw(figure, result):
    """Draws the time of a step against its work, and what a unit of work costs against the first point's.

    Args:
        figure: a matplotlib `SubFigure`.
        result: of `measure`.
    """
    figure.suptitle(f"Growth of {result['model']}")
    left, right = figure.subplots(1, 2)
    for index, series in enumerate(result["series"]):
        works = np.array(series["works"])
        for cost, found in series["costs"].items():
            label = f"{series['name']}, {cost}: {exponent(works, found):.2f}"
            style = {"color": f"C{index}", "markersize": 4, "linewidth": 1, "label": label}
            if series["work"] == "multiply-adds":
                left.plot(works / 1e9, np.array(found) * 1e3, _MARKERS[cost], **style)
            share = np.array(found) / works
            right.plot(works / works[0], share / share[0], _MARKERS[cost], **style)
    right.axhline(1, color="black", linewidth=1)
    for axis in (left, right):
        axis.set_xscale("log")
        axis.set_yscale("log")
        plain_numbers(axis)
    right.set_yscale("linear")  # around 1, where a logarithmic scale has a single number
    right.set_ylim(bottom=0)
    left.set(xlabel="billion multiply-adds of a step", ylabel="ms of a step")
    right.set(xlabel="work / the first point's", ylabel="cost of a unit of work / the first point's")
    left.set_title("time of a step", fontsize=9)
    right.set_title("above 1: faster than its work", fontsize=9)
    legend = {"fontsize": 8, "title": "and its exponent", "title_fontsize": 8}
    figure.legend(*right.get_legend_handles_labels(), loc="outside right center", **legend)
