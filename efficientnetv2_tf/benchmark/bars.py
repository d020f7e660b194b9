"""Horizontal bars with their values, in one manner for all parts."""

import dataclasses

OURS, OTHERS, GOAL = "tab:blue", "0.72", "tab:red"
_PAPER = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # behind a text, where a line may cross it


@dataclasses.dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        label: who it is of.
        value: its length.
        text: written at its end.
        ours: whether it is this package's, which is highlighted.
        spread: (low, high) as a thin line on it, or None.
        parts: lengths that make it up, from left to right, or ().
    """

    label: str
    value: float
    text: str
    ours: bool
    spread: tuple[float, float] | None = None
    parts: tuple[float, ...] = ()


def with_ratio(text, ratio):
    """ "41 (1.35 x)"; without a ratio the text alone. `ratio` is of `turns.ratios`."""
    return f"{text} ({ratio['median']:.2f} x)" if ratio else text


def draw_bars(axis, title, bars, goal=None):
    """Draws bars from the bottom to the top.

    Args:
        axis: of matplotlib.
        title: above them.
        bars: `Bar`s, each with its parts end to end.
        goal: (value, text) of a line, or None.
    """
    for row, bar in enumerate(bars):
        color = OURS if bar.ours else OTHERS
        start = 0.0
        for number, length in enumerate(bar.parts or (bar.value,)):
            axis.barh(row, length, left=start, color=color, height=0.66, alpha=1 - 0.3 * number)
            start += length
        if bar.spread:
            axis.plot(bar.spread, (row, row), color="black", linewidth=1)
        end = max(bar.value, bar.spread[1] if bar.spread else 0)
        axis.annotate(
            bar.text, (end, row), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8,
            fontweight="bold" if bar.ours else "normal", bbox=_PAPER, zorder=3,
        )  # fmt: skip
    axis.set_yticks(range(len(bars)), [bar.label for bar in bars], fontsize=8)
    axis.set_title(title, fontsize=9)
    longest = max([bar.spread[1] if bar.spread else bar.value for bar in bars], default=1)
    axis.set_xlim(0, 1.35 * max(longest, goal[0] if goal else 0))
    axis.set_ylim(-0.6, len(bars) - (0 if goal else 0.4))  # above the bars there is room for the goal's text
    axis.tick_params(axis="x", labelsize=8)
    axis.spines[["top", "right"]].set_visible(False)
    if goal:
        axis.axvline(goal[0], color=GOAL, linestyle="--", linewidth=1)
        left = goal[0] > axis.get_xlim()[1] / 2  # where there is more room
        axis.annotate(
            goal[1], (goal[0], len(bars) - 0.3), xytext=(-4 if left else 4, 0), textcoords="offset points",
            ha="right" if left else "left", va="center", color=GOAL, fontsize=8,
        )  # fmt: skip
