"""What pictures of a benchmark share."""


def plain_numbers(axis):
    """Writes 1, 2, 5, 10 and so on beside both logarithmic scales, which are easier to read than powers."""
    from matplotlib import ticker

    for scale in (axis.xaxis, axis.yaxis):
        scale.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        scale.set_major_formatter(ticker.FormatStrFormatter("%g"))
        scale.set_minor_formatter(ticker.NullFormatter())
    axis.grid(alpha=0.3)
