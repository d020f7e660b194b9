"""The picture of a search: what its networks reach, and what they cost."""

from efficientnetv2_tf.files import replacing
from efficientnetv2_tf.training.pictures import load_pyplot, set_title

_MARKS = {"backbone": ("*", "tab:red", 200), "EfficientNetV2's pattern": ("D", "tab:purple", 60)}


def pareto_front(points):
    """The points that no other one surpasses in both: cheaper, and at least as good.

    Args:
        points: a list of (cost, value).

    Returns:
        Those of the front, the cheapest first.
    """
    front = []
    for cost, value in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or value > front[-1][1]:
            front.append((cost, value))
    return front


def draw_search(trials, best, references, path, title):
    """Draws accuracy against the training step's time, and against the parameters.

    Args:
        trials: of a study; what failed is left out.
        best: the one with the largest reward.
        references: of `measure_references`.
        path: of the PNG to write.
        title: above the picture.
    """
    pyplot = load_pyplot()
    figure, axes = pyplot.subplots(1, 2, sharey=True, figsize=(11, 5.5), layout="constrained")
    trained = [trial for trial in trials if "accuracy" in trial.user_attrs]
    whole = [trial for trial in trained if trial.state.name == "COMPLETE"]
    ended = [trial for trial in trained if trial.state.name != "COMPLETE"]
    for axis, name, label in (
        (axes[0], "step_ratio", "time of a training step / the backbone's"),
        (axes[1], "parameter_ratio", "parameters / the backbone's"),
    ):
        _draw(axis, name, whole, ended, best, references)
        axis.set_xlabel(label)
        costs = [values[name] for values in (*references.values(), *(trial.user_attrs for trial in trained))]
        if max(costs) > 4 * min(costs):
            _use_logarithms(axis)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("accuracy after the short training")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=9)
    if whole:
        axes[0].set_ylim(bottom=_bottom(whole, references))
    set_title(figure, title)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)
    pyplot.close(figure)


def _draw(axis, name, whole, ended, best, references):
    def points(trials):
        return [(trial.user_attrs[name], trial.user_attrs["accuracy"]) for trial in trials]

    if ended:
        axis.scatter(*zip(*points(ended), strict=True), s=14, marker="x", color="0.7", label="ended early")
    numbers = [trial.number for trial in whole]
    shown = axis.scatter(
        *zip(*points(whole), strict=True), s=24, c=numbers, cmap="viridis", label="network (lighter: later)"
    )
    shown.set_clim(0, max(*numbers, 1))
    front = pareto_front(points(whole))
    axis.step(*zip(*front, strict=True), where="post", color="tab:orange", linewidth=1.2, label="Pareto front")
    axis.scatter(*zip(*front, strict=True), s=60, facecolors="none", edgecolors="tab:orange")
    (place,) = points([best])
    axis.scatter(*place, s=160, facecolors="none", edgecolors="black", linewidth=1.6, label="largest reward")
    for reference, values in references.items():
        marker, color, size = _MARKS[reference]
        axis.scatter(values[name], values["accuracy"], marker=marker, s=size, color=color, label=reference, zorder=3)


def _use_logarithms(axis):
    from matplotlib import ticker

    axis.set_xscale("log")
    axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axis.xaxis.set_minor_formatter(ticker.NullFormatter())


def _bottom(whole, references):
    """Where the accuracies begin: a network that learned nothing should not press the others together."""
    found = sorted(trial.user_attrs["accuracy"] for trial in whole)
    shown = [found[len(found) // 10], *(values["accuracy"] for values in references.values())]
    return min(shown) - 0.1 * (1 - min(shown)) - 0.01
