"""The family's networks on an accelerator: ours on Keras' JAX backend, timm's on PyTorch, and the paper's ratios.

`tools/benchmark_networks.py` is its command. It needs Keras with JAX, or timm with PyTorch, and nothing of TensorFlow.
Each framework has a process of its own (`network_steps.py`), which lives as long as networks take turns.
"""

import contextlib
import dataclasses
import statistics

from efficientnetv2_tf.benchmark.frameworks import BenchmarkError, Framework
from efficientnetv2_tf.benchmark.report import Table, shortened
from efficientnetv2_tf.networks.block_string import expand, round_filters
from efficientnetv2_tf.networks.cost import multiply_adds
from efficientnetv2_tf.networks.variants import get_variant
from efficientnetv2_tf.search.ablation import BACKBONE, PUBLISHED, fused_blocks

FRAMEWORKS = ("jax", "timm")
KINDS = ("training", "inference")
FUSED = f"{BACKBONE}-fused"  # B4 with stages 1-3 fused
_FUSED_STAGES = 3
_SHARE_OF_MEMORY = 0.9  # of the accelerator's, for all frameworks together


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two networks whose rates the paper compares (EfficientNetV2, ICML 2021).

    Attributes:
        newer: has the higher rate.
        older: of about the same accuracy.
        kind: "inference" or "training", what the paper measured.
        paper: its ratio on a V100; None where it gives none.
    """

    newer: str
    older: str
    kind: str
    paper: float | None


# At each network's own evaluation size.
COMPARISONS = (
    Comparison("efficientnetv2-b0", "efficientnet-b1", "inference", 2.1),
    Comparison("efficientnetv2-b1", "efficientnet-b2", "inference", 2.0),
    Comparison("efficientnetv2-b3", "efficientnet-b4", "inference", 2.7),
    Comparison("efficientnetv2-s", "efficientnet-b5", "inference", 3.1),
    Comparison("efficientnetv2-m", "efficientnet-b7", "inference", None),
    Comparison(FUSED, BACKBONE, "training", PUBLISHED[_FUSED_STAGES].v100 / PUBLISHED[0].v100),
)
NETWORKS = tuple(dict.fromkeys(name for pair in COMPARISONS for name in (pair.newer, pair.older)))


def network_blocks(name):
    """(name of the variant, block strings) of a network; `FUSED` is one besides the variants."""
    if name == FUSED:
        return BACKBONE, fused_blocks(_FUSED_STAGES)
    return name, get_variant(name).blocks


def timm_name(name):
    """timm's name of the same network, or None: it has neither `FUSED` nor ours for tests."""
    return None if name in (FUSED, "testing") else "tf_" + name.replace("-", "_")


def work(name, image_size):
    """Multiply-adds of one image."""
    variant, blocks = network_blocks(name)
    variant = get_variant(variant)
    feature_size = round_filters(variant.feature_size, variant.width_coefficient)
    expanded = expand(blocks, variant.width_coefficient, variant.depth_coefficient)
    return multiply_adds(expanded, image_size, feature_size=feature_size)


def groups(names):
    """Networks that take turns: those that are compared with each other, in the order of the names."""
    found = [[name] for name in names]
    for pair in COMPARISONS:
        one, other = ([group for group in found if name in group] for name in (pair.newer, pair.older))
        if one and other and one[0] is not other[0]:
            found.remove(other[0])
            one[0] += other[0]
    return found


def measure(names, *, frameworks, batch_size, rounds, steps, image_size=None, precision="bfloat16", tell=print):
    """Training and inference of networks, in turns.

    A framework or network that fails is left out, and those that it took turns with begin again without it.

    Args:
        names: of variants, or `FUSED`.
        frameworks: of `FRAMEWORKS`.
        batch_size: to begin with; halved until all frameworks have the memory for it.
        rounds: in which each takes its turn.
        steps: of a turn.
        image_size: side in pixels; None is each network's own for evaluation.
        precision: "bfloat16" or "float32".
        tell: called with lines of progress.

    Yields:
        After each of the `groups` what is known up to there: {"frameworks": {name: {"device", "versions"}}, "rows":
        [...], "left_out": {"framework" or "framework, network": why}}. A row has "network", "framework", "image_size",
        "batch_size", "multiply_adds" of an image, "prepared" (seconds to build and compile), and "training" and
        "inference" in images a second, lists of a value each round.
    """
    rows, about, left_out = [], {}, {}
    settings = {"batch_size": batch_size, "rounds": rounds, "steps": steps, "image_size": image_size, "tell": tell}
    for group in groups(names):
        measured = None
        while measured is None:
            pairs = [pair for pair in _pairs(group, frameworks) if not {pair, (pair[0], None)} & {*left_out}]
            try:
                with contextlib.ExitStack() as stack:  # new processes for each group, which begin with empty memory
                    share = _SHARE_OF_MEMORY / len(frameworks)
                    needed = dict.fromkeys(framework for framework, _ in pairs)
                    running = {name: stack.enter_context(Framework(name, share, precision)) for name in needed}
                    measured = _measure_group(pairs, running, **settings)
            except BenchmarkError as error:
                left_out[error.who] = str(error)
                tell(f"Left out: {_label(error.who)}: {shortened(str(error))}")
        about |= {name: framework.about for name, framework in running.items()}
        rows += measured
        yield {"frameworks": about, "rows": rows, "left_out": {_label(who): why for who, why in left_out.items()}}


def _pairs(group, frameworks):
    """(framework, network) of those that are there."""
    return [(one, name) for name in group for one in frameworks if one != "timm" or timm_name(name)]


def _label(who):
    return ", ".join(filter(None, who))


def _measure_group(pairs, running, *, batch_size, rounds, steps, image_size, tell):
    """Rows of (framework, network), in turns."""
    turns = []
    for name in dict.fromkeys(network for _, network in pairs):
        side = image_size or get_variant(network_blocks(name)[0]).eval_size
        frameworks = [running[framework] for framework, network in pairs if network == name]
        turns += _prepared(name, side, batch_size, frameworks, tell)
    _take_turns(turns, rounds, steps, tell)
    return [row for _, row in turns]


def _prepared(name, image_size, batch_size, frameworks, tell):
    """(framework, row) for each, with the largest batch that all of them can train on."""
    request = {"do": "prepare", "network": name, "image_size": image_size}
    while batch_size:
        answers = []
        for framework in frameworks:
            answers.append(framework.ask({**request, "batch_size": batch_size}))
            if "seconds" not in answers[-1]:
                break
            tell(f"{name}, {framework.name}: built and compiled in {answers[-1]['seconds']:.0f} s")
        else:
            shared = {"network": name, "image_size": image_size, "batch_size": batch_size}
            shared |= {"multiply_adds": work(name, image_size), "training": [], "inference": []}
            return [
                (framework, {**shared, "framework": framework.name, "prepared": answer["seconds"]} | _lists())
                for framework, answer in zip(frameworks, answers, strict=True)
            ]
        batch_size //= 2
        tell(f"{name}, {framework.name}: out of memory{f', now with batch {batch_size}' if batch_size else ''}")
    raise BenchmarkError(
        (framework.name, name),
        f"{name} at {image_size} px: expected memory for one image at least. Try --image_size.",
    )


def _lists():
    return {kind: [] for kind in KINDS}


def _take_turns(turns, rounds, steps, tell):
    for number in range(1, rounds + 1):
        for framework, row in turns:
            for kind in KINDS:
                request = {"do": "run", "network": row["network"], "kind": kind, "steps": steps}
                row[kind].append(steps * row["batch_size"] / framework.ask(request)["seconds"])
        tell(f"{', '.join(dict.fromkeys(row['network'] for _, row in turns))}: round {number} of {rounds}")


def ratios(rows):
    """Each of `COMPARISONS` that was measured.

    Args:
        rows: of `measure`.

    Returns:
        A list of {"newer", "older", "kind", "paper", "measured": {framework: {"training", "inference"}}}, ratios of
        images a second, medians over rounds.
    """
    found = {(row["framework"], row["network"]): row for row in rows}
    results = []
    for pair in COMPARISONS:
        measured = {
            framework: {
                kind: _median_ratio(found[framework, pair.newer], found[framework, pair.older], kind) for kind in KINDS
            }
            for framework in FRAMEWORKS
            if (framework, pair.newer) in found and (framework, pair.older) in found
        }
        if measured:
            results.append({**dataclasses.asdict(pair), "measured": measured})
    return results


def _median_ratio(one, other, kind):
    return statistics.median(mine / its for mine, its in zip(one[kind], other[kind], strict=True))


def tables(result):
    """Rates, and ratios beside the paper's.

    Args:
        result: of `measure`.
    """
    return [_rates(result["rows"]), *([_paper(ratios(result["rows"]))] if ratios(result["rows"]) else [])]


def _rates(rows):
    others = {row["network"]: row for row in rows if row["framework"] == "timm"}
    cells = []
    for row in rows:
        line = [row["network"], row["framework"], f"{row['image_size']}", f"{row['batch_size']}"]
        for kind, passes in (("training", 3), ("inference", 1)):
            rate = statistics.median(row[kind])
            line += [f"{rate:,.1f}", f"{2 * passes * row['multiply_adds'] * rate / 1e12:.3g}"]
            peer = others.get(row["network"])
            line.append(f"{_median_ratio(row, peer, kind):.2f}" if peer and row is not peer else "")
        cells.append((*line, f"{row['prepared']:.0f}"))
    headings = ["", "framework", "px", "batch"]
    for kind in KINDS:
        headings += [f"{kind}, images/s", "TFLOP/s", "of timm's"]
    note = (
        "TFLOP/s: 2 operations for each multiply-add of convolutions and the classifier, in training 3 times as many."
    )
    return Table("Images a second", (*headings, "s to build and compile"), tuple(cells), note)


def _paper(found):
    frameworks = [name for name in FRAMEWORKS if any(name in pair["measured"] for pair in found)]
    headings = ["", "paper (V100)", *(f"{name}, {kind}" for name in frameworks for kind in KINDS)]
    rows = []
    for pair in found:
        paper = f"{pair['paper']:.2f} ({pair['kind']})" if pair["paper"] else ""
        measured = [pair["measured"].get(name) for name in frameworks]
        cells = [f"{one[kind]:.2f}" if one else "" for one in measured for kind in KINDS]
        rows.append((f"{pair['newer']} / {pair['older']}", paper, *cells))
    return Table("Ratios of images a second", tuple(headings), tuple(rows))
