"""Block strings: one line of text describes one stage of a network.

`r4_k3_s2_e4_i24_o48_c1` means: repeat 4 times, 3 x 3 kernel, stride 2 (in the first repeat), expansion 4,
24 input and 48 output channels, fused convolution. The notation is the official release's.
"""

import dataclasses
import decimal
import itertools
import math
import re

# letter(s) in the string -> (attribute, type, required); the order is the order in which strings are written.
_FIELDS = {
    "r": ("repeats", int, True),
    "k": ("kernel_size", int, True),
    "s": ("stride", int, True),
    "e": ("expand_ratio", int, True),
    "i": ("input_filters", int, True),
    "o": ("output_filters", int, True),
    "se": ("se_ratio", float, False),
    "c": ("fused", int, False),
}
_TOKEN = re.compile(r"([a-z]+)(\d+(?:\.\d+)?)")


@dataclasses.dataclass(frozen=True)
class BlockSpec:
    """One stage of a network (as parsed), or one block of it (as expanded, `repeats` is then 1).

    Attributes:
        repeats: number of blocks, at least 1.
        kernel_size: side of the spatial kernel in pixels, odd.
        stride: 1 or 2, of the first block; the others have 1.
        expand_ratio: expanded channels / input channels, at least 1.
        input_filters: channels going into the first block.
        output_filters: channels coming out of every block.
        se_ratio: squeezed channels / input channels in (0, 1]; 0 is no squeeze-and-excitation.
        fused: whether one k x k convolution replaces the 1 x 1 expansion and the depthwise convolution.
    """

    repeats: int
    kernel_size: int
    stride: int
    expand_ratio: int
    input_filters: int
    output_filters: int
    se_ratio: float = 0.0
    fused: bool = False

    def __post_init__(self):
        problems = [
            (self.repeats < 1, f"`repeats` (r) must be at least 1, received {self.repeats}"),
            (self.kernel_size % 2 == 0, f"`kernel_size` (k) must be odd, received {self.kernel_size}"),
            (self.stride not in (1, 2), f"`stride` (s) must be 1 or 2, received {self.stride}"),
            (self.expand_ratio < 1, f"`expand_ratio` (e) must be at least 1, received {self.expand_ratio}"),
            (self.input_filters < 1, f"`input_filters` (i) must be positive, received {self.input_filters}"),
            (self.output_filters < 1, f"`output_filters` (o) must be positive, received {self.output_filters}"),
            (not 0 <= self.se_ratio <= 1, f"`se_ratio` (se) must be within 0..1, received {self.se_ratio}"),
        ]
        for wrong, message in problems:
            if wrong:
                raise ValueError(f"Impossible block {format_block(self)!r}: {message}.")

    @property
    def expanded_filters(self):
        """Channels between the expansion and the projection."""
        return self.input_filters * self.expand_ratio

    @property
    def squeezed_filters(self):
        """Channels of the squeeze-and-excitation bottleneck, a share of the block's input; 0 without one."""
        return max(1, int(self.input_filters * self.se_ratio)) if self.se_ratio else 0

    @property
    def has_skip(self):
        """Whether the block's input is added to its output."""
        return self.stride == 1 and self.input_filters == self.output_filters


def parse_block(text):
    """Parses one block string strictly.

    Args:
        text: for example "r2_k3_s1_e1_i24_o24_c1" or "r6_k3_s2_e4_i64_o128_se0.25".

    Returns:
        The `BlockSpec`.

    Raises:
        ValueError: a field is unknown, given twice, missing or impossible; the message shows both.
    """
    if not isinstance(text, str):
        raise ValueError(f"A block string was expected, such as 'r2_k3_s1_e1_i24_o24_c1'. Received: {text!r}")
    values = {}
    for token in text.split("_"):
        match = _TOKEN.fullmatch(token)
        if not match or match[1] not in _FIELDS:
            raise ValueError(
                f"Unknown field {token!r} in block string {text!r}. Expected a letter code and a number: "
                + ", ".join(f"{code} ({attribute})" for code, (attribute, _, _) in _FIELDS.items())
            )
        values = _with_field(values, match[1], match[2], text)
    missing = [f"{c} ({a})" for c, (a, _, required) in _FIELDS.items() if required and a not in values]
    if missing:
        raise ValueError(f"Missing field {', '.join(missing)} in block string {text!r}.")
    return BlockSpec(**values)


def _with_field(values, code, number, text):
    """`values` and the field `code` of the block string `text`."""
    attribute, kind, _ = _FIELDS[code]
    if attribute in values:
        raise ValueError(f"Repeated field {code!r} ({attribute}) in block string {text!r}.")
    if kind is int and "." in number:
        raise ValueError(
            f"Field {code!r} ({attribute}) in block string {text!r} must be whole. Received: {number}"
        )
    value = kind(number)
    if attribute == "fused":
        if value not in (0, 1):
            raise ValueError(f"Field 'c' (fused) in block string {text!r} must be 0 or 1. Received: {number}")
        value = bool(value)
    return {**values, attribute: value}


def format_block(spec):
    """Writes a `BlockSpec` as a block string; `parse_block` gives it back."""
    tokens = [f"{code}{getattr(spec, attribute):d}" for code, (attribute, _, need) in _FIELDS.items() if need]
    if spec.se_ratio:
        # repr has every digit, so 1/3 comes back as 1/3; Decimal writes it without an exponent.
        digits = f"{decimal.Decimal(repr(float(spec.se_ratio))):f}"
        tokens.append("se" + digits.removesuffix(".0"))
    if spec.fused:
        tokens.append("c1")
    return "_".join(tokens)


def round_filters(filters, width_coefficient=1.0, divisor=8, minimum=8):
    """Scales a number of channels and rounds it to the nearest multiple of `divisor`, halves upwards.

    Unlike the first EfficientNet code, V2's never adds a step when rounding loses more than 10 %.
    """
    return max(minimum, int(filters * width_coefficient + divisor / 2) // divisor * divisor)


def round_repeats(repeats, depth_coefficient=1.0):
    """Scales a number of blocks, rounding up."""
    return math.ceil(depth_coefficient * repeats)


def expand(stages, width_coefficient=1.0, depth_coefficient=1.0):
    """Expands stages to the blocks that are really built.

    Args:
        stages: block strings or `BlockSpec`s, one a stage.
        width_coefficient: multiplies channels, above 0.
        depth_coefficient: multiplies repeats, above 0.

    Returns:
        A tuple with one tuple a stage, of one `BlockSpec` with `repeats=1` a block.

    Raises:
        ValueError: a block string is malformed, a coefficient is not positive, or a stage's input channels
            are not the output channels of the one before.
    """
    for name, value in (("width_coefficient", width_coefficient), ("depth_coefficient", depth_coefficient)):
        if not value > 0:
            raise ValueError(f"`{name}` should be above 0. Received: {name}={value}")
    specs = [stage if isinstance(stage, BlockSpec) else parse_block(stage) for stage in stages]
    if not specs:
        raise ValueError("A network needs at least one block string. Received none.")
    for before, after in itertools.pairwise(specs):
        if before.output_filters != after.input_filters:
            raise ValueError(
                f"Block string {format_block(after)!r} takes {after.input_filters} channels (i), but "
                f"{format_block(before)!r} before it gives {before.output_filters} (o)."
            )
    return tuple(_expand_stage(spec, width_coefficient, depth_coefficient) for spec in specs)


def _expand_stage(spec, width_coefficient, depth_coefficient):
    first = dataclasses.replace(
        spec,
        repeats=1,
        input_filters=round_filters(spec.input_filters, width_coefficient),
        output_filters=round_filters(spec.output_filters, width_coefficient),
    )
    rest = dataclasses.replace(first, stride=1, input_filters=first.output_filters)
    return (first, *[rest] * (round_repeats(spec.repeats, depth_coefficient) - 1))
