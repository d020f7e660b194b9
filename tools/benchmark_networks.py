"""Images a second of the family's networks on this machine's accelerator, beside timm's and the paper's ratios.

PYTHONPATH=. KERAS_BACKEND=jax python tools/benchmark_networks.py --output=/tmp/networks

It needs Keras with JAX, or timm with PyTorch (--frameworks), and nothing of TensorFlow. Networks run at their own
evaluation size, in bfloat16, with the largest batch up to --batch_size that all frameworks have the memory for. Those
that the paper compares take turns; after each such group it writes networks.json and networks.md. What fails is left
out and named.
"""

import argparse
import datetime
import functools
import importlib.util
import json
import pathlib
import shlex
import sys
import tempfile

from efficientnetv2_tf.benchmark.networks import FRAMEWORKS, FUSED, NETWORKS, measure, ratios, tables
from efficientnetv2_tf.benchmark.report import shortened
from efficientnetv2_tf.files import replacing
from efficientnetv2_tf.networks.variants import get_variant

_PACKAGES = {"jax": ("keras", "jax"), "timm": ("timm", "torch")}


def main(arguments=None):
    """Measures, prints and writes."""
    flags = _flags(arguments)
    missing = {name: [package for package in _PACKAGES[name] if not _installed(package)] for name in FRAMEWORKS}
    frameworks = [name for name in flags.frameworks if not missing[name]]
    absent = {name: f"{' and '.join(missing[name])} not installed" for name in flags.frameworks if missing[name]}
    for name, why in absent.items():
        print(f"Left out: {name}: {why}")
    if not frameworks:
        sys.exit("Error: --frameworks: expected one at least that is installed: pip install keras jax, or timm torch")
    _check_output(flags.output)
    settings = {"rounds": flags.rounds, "steps": flags.steps, "batch_size": flags.batch_size}
    settings |= {"image_size": flags.image_size, "precision": flags.precision}
    command = shlex.join(["tools/benchmark_networks.py", *(sys.argv[1:] if arguments is None else arguments)])
    about = {"date": datetime.date.today().isoformat(), "command": command, "settings": settings}
    content, tell = {}, functools.partial(print, flush=True)
    try:
        for result in measure(flags.models, frameworks=frameworks, **settings, tell=tell):
            content = {**about, **result, "left_out": absent | result["left_out"], "ratios": ratios(result["rows"])}
            _write(flags.output, content)
    except KeyboardInterrupt:
        _show(flags.output, content)
        sys.exit(130)
    _show(flags.output, content)
    if not content["rows"]:
        sys.exit("Error: nothing could be measured.")


def _check_output(folder):
    """Tries to write, before the long work."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        sys.exit(f"Error: --output: expected a folder that can be written to. {error}")


def _flags(arguments):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--models", type=_names(_network), default=NETWORKS, help=f"variants or {FUSED}, with commas")
    parser.add_argument("--frameworks", type=_names(_framework), default=FRAMEWORKS, help=", ".join(FRAMEWORKS))
    parser.add_argument("--image_size", type=_count, help="side in pixels; left out, each network's own")
    parser.add_argument("--batch_size", type=_count, default=256, help="to begin with; halved where memory is short")
    parser.add_argument("--rounds", type=_count, default=5, help="in which each takes its turn")
    parser.add_argument("--steps", type=_count, default=10, help="of a turn")
    parser.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16", help="of the arithmetic")
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path(), help="folder of the files")
    return parser.parse_args(arguments)


def _names(check):
    def parse(text):
        return tuple(check(name) for name in text.split(","))

    return parse


def _network(name):
    try:
        return name if name == FUSED else get_variant(name).name
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _framework(name):
    if name not in FRAMEWORKS:
        raise argparse.ArgumentTypeError(f"expected {' or '.join(FRAMEWORKS)}. Received: {name}")
    return name


def _count(text):
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1. Received: {text}")
    return int(text)


def _installed(package):
    return importlib.util.find_spec(package) is not None


def _write(output, content):
    for name, text in (("networks.json", json.dumps(content, indent=2) + "\n"), ("networks.md", _markdown(content))):
        with replacing(output / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _show(output, content):
    if content:
        print(f"\n{_markdown(content)}\nWrote {output / 'networks.json'} and {output / 'networks.md'}")


def _markdown(content):
    lines = [f"{content['date']}: `{content['command']}`"]
    for name, about in content["frameworks"].items():
        versions = ", ".join(f"{package} {version}" for package, version in about["versions"].items())
        lines += ["", f"{name}: {about['device']}; {versions}."]
    lines += [f"\nLeft out: {name}: {shortened(why)}" for name, why in content["left_out"].items()]
    for table in tables(content):
        rows = [table.headings, ("---",) * len(table.headings), *table.rows]
        lines += ["", f"## {table.title}", "", *(f"| {' | '.join(row)} |" for row in rows)]
        lines += ["", table.note] if table.note else []
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
