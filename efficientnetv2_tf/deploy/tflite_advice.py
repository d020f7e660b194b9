"""What to do about a network that quantises badly."""

import dataclasses

from efficientnetv2_tf.networks.block_string import BlockSpec, format_block, parse_block

_QUANTIZED = ("dynamic", "int8", "int8_mixed", "int16x8")


def friendly_overrides(network):
    """The same network without squeeze-and-excitation and with relu6, which keeps activations in a small range.

    It is what EfficientNet-Lite changed for the same reason. It has to be trained anew.

    Args:
        network: an `EfficientNet`.

    Returns:
        Overrides for `--hparams`.
    """
    blocks = [_without_excitation(block) for block in network.get_config()["blocks"]]
    return f"model.activation=relu6,model.blocks=[{','.join(blocks)}]"


def advice(failed, mixed, network):
    """Lines of text for somebody whose export failed for too little agreement.

    Args:
        failed: `Row`s of the files that agree too little.
        mixed: the `Row` of int8 with sensitive parts in float32, where it was tried, or None.
        network: the `EfficientNet`.
    """
    before = {row.name: row for row in failed}
    lines = []
    if mixed:
        kept = mixed.details["float_parts"]
        lines.append(
            f"int8_mixed keeps {', '.join(kept)} in float32 ({len(kept)} of {mixed.details['parts']} parts): agreement "
            f"{before['int8'].agreement:.2%} before, {mixed.agreement:.2%} after, {before['int8'].size / 1e6:.2f} MB "
            f"before, {mixed.size / 1e6:.2f} MB after. Take that mode in place of int8 if it suits."
        )
    if before.keys() & {*_QUANTIZED}:
        if not _is_friendly(network):
            lines.append(
                "A network that quantises well has no squeeze-and-excitation, and relu6. Train it with "
                f"--hparams='{friendly_overrides(network)}'"
            )
        lines.append("Longer training helps where the network is not sure of its classes, as small errors decide then.")
        lines.append("More calibration pictures help where they do not show what the network will see.")
    others = [mode for mode in ("int16x8", "dynamic", "float16") if mode not in before]
    per_channel = "Weights have a scale for each channel already."
    return [*lines, f"Modes that lose less: {', '.join(others or ['float32'])}. {per_channel}"]


def _is_friendly(network):
    config = network.get_config()
    return config["activation"] == "relu6" and not any(_spec(block).se_ratio for block in config["blocks"])


def _without_excitation(block):
    return format_block(dataclasses.replace(_spec(block), se_ratio=0.0))


def _spec(block):
    return block if isinstance(block, BlockSpec) else parse_block(block)
