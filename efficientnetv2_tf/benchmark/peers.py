"""Who is compared, and the processes in which they work. Importing this needs no framework."""

import dataclasses
import importlib.metadata
import json
import time

from efficientnetv2_tf.benchmark.processes import ON_CPU
from efficientnetv2_tf.benchmark.report import shortened
from efficientnetv2_tf.child_process import ChildEndedError, ChildProcess
from efficientnetv2_tf.training.hparams import Config, ConfigError, resolve

CLASSES = 1000
LEARNING_RATE = 1e-3  # of AdamW, constant
WEIGHT_DECAY = 1e-5  # of AdamW, of kernels only


@dataclasses.dataclass(frozen=True)
class Peer:
    """One way of running a network.

    Attributes:
        name: in results and requests.
        label: for people.
        library: one of `config.LIBRARIES`; "" is this package.
        packages: that it needs, as package registries name them.
        ours: whether it is this package's way.
    """

    name: str
    label: str
    library: str = ""
    packages: tuple[str, ...] = ()

    @property
    def ours(self):
        return not self.library

    @property
    def required(self):
        """Whether nothing is worth measuring without it: this package's own, where it needs no optional package."""
        return self.ours and not self.packages


# A training step on the same work but for the second, which also keeps the moving average that we train with.
TRAINING = (
    Peer("ours", "efficientnetv2_tf"),
    Peer("ours_average", "efficientnetv2_tf, with moving average"),
    Peer("keras_applications", "keras.applications", "keras.applications"),
    Peer("keras_hub", "keras-hub", "keras-hub", ("keras-hub",)),
    Peer("keras_cv", "keras-cv", "keras-cv", ("keras-cv",)),
    Peer("timm", "timm, PyTorch", "timm", ("timm", "torch", "torchvision")),
    Peer("timm_compiled", "timm, torch.compile", "timm", ("timm", "torch", "torchvision")),
)
INFERENCE = (
    Peer("saved_model", "efficientnetv2_tf, SavedModel"),
    Peer("tflite_float32", "efficientnetv2_tf, TFLite float32", packages=("ai-edge-litert",)),
    Peer("tflite_int8", "efficientnetv2_tf, TFLite int8", packages=("ai-edge-litert",)),
    Peer("onnx", "efficientnetv2_tf, ONNX Runtime", packages=("onnx", "onnxruntime", "tf2onnx")),
    Peer("keras_predict", "keras.applications, predict", "keras.applications"),
    Peer("keras_function", "keras.applications, tf.function", "keras.applications"),
    Peer("timm", "timm, PyTorch", "timm", ("timm", "torch", "torchvision")),
    Peer("timm_compiled", "timm, torch.compile", "timm", ("timm", "torch", "torchvision")),
    Peer("timm_onnx", "timm, ONNX Runtime", "timm", ("timm", "torch", "torchvision", "onnxruntime", "onnxscript")),
)


class LeftOutError(Exception):
    """A peer cannot be measured; the message says why."""


# All that a recipe says about the work; the rest is the package's default, so that the work is the same for all.
_OF_THE_RECIPE = {"model": {"blocks", "width_coefficient", "depth_coefficient"}, "runtime": {"onednn"}}


def network_config(recipe, model, num_classes=CLASSES):
    """The resolved `Config` with which this package does the same work as its peers: AdamW in float32.

    Args:
        recipe: a `BenchmarkRecipe`. Its `benchmark` says seed, image size and batch size; its `model` may scale the
            networks or replace their blocks, and runtime.onednn counts. Nothing else of it does.
        model: name of the network.
        num_classes: of the classifier.
    """
    settings, sections = recipe.benchmark, recipe.model_dump(include=_OF_THE_RECIPE)
    sections["model"] |= {"name": model, "num_classes": num_classes}
    sections["runtime"] |= {"seed": settings.seed, "mixed_precision": "float32"}
    sections["data"] = {"batch_size": settings.batch_size}
    sections["progressive"] = {"stages": 1, "image_size": (settings.image_size,) * 2}
    sections["train"] = {
        "optimizer": "adamw",
        "weight_decay": WEIGHT_DECAY,
        "lr_per_256_images": LEARNING_RATE * 256 / settings.batch_size,
        "lr_schedule": "constant",
        "lr_warmup_epochs": 0.0,
        "label_smoothing": 0.0,
    }
    return resolve(Config.model_validate(sections))


def step_request(recipe, model, batch_size):
    """What the children of `growth` and `roofline` are asked for.

    Args:
        recipe: a `BenchmarkRecipe`.
        model: name of the network.
        batch_size: pictures of a step.
    """
    settings = recipe.benchmark
    return {
        "config": network_config(recipe, model, recipe.model.num_classes or CLASSES).model_dump_json(),
        "image_size": settings.image_size,
        "batch_size": batch_size,
        "rounds": settings.rounds,
        "steps": settings.steps,
        "seed": settings.seed,
    }


def unused(recipe):
    """Dotted keys of what a `BenchmarkRecipe` sets and no measurement looks at.

    The recipes of the part `progressive` are files of their own.
    """
    used = {**_OF_THE_RECIPE, "data": {"data_dir"}}
    used = {**used, "model": used["model"] | {"num_classes"}}
    return [
        f"{section}.{key}"
        for section in Config.model_fields
        for key, value in getattr(recipe, section)
        if key not in used.get(section, ()) and value != getattr(getattr(type(recipe)(), section), key)
    ]


def chosen(peers, recipe):
    """Those of the libraries that the recipe asks for; this package's own always are."""
    return [peer for peer in peers if peer.ours or peer.library in recipe.benchmark.libraries]


def versions_of(packages):
    """{package: version}; None for what is not installed."""
    return {package: _version(package) for package in packages}


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


class PeerProcess:
    """A peer at work in a process of its own.

    Args:
        module: that measures, see `answer_lines`.
        peer: a `Peer`.
        request: what the module wants to know, besides the peer's name.

    Attributes:
        facts: its first answer, when it is warmed up.

    Raises:
        LeftOutError: a package is missing, or it cannot do the work.
    """

    def __init__(self, module, peer, request):
        if missing := [name for name, version in versions_of(peer.packages).items() if version is None]:
            raise LeftOutError(f"not installed: {', '.join(missing)}")
        self._process = ChildProcess(module, forced=ON_CPU)
        try:
            self.facts = self.ask({"peer": peer.name, "began": time.time(), **request})
        except BaseException:
            self.close()
            raise

    def ask(self, request):
        """The answer to what JSON can hold.

        Raises:
            LeftOutError: it cannot do it, or the process died.
        """
        self._process.send(request)
        try:
            answer = self._process.receive()
        except ChildEndedError as error:
            raise LeftOutError(f"its process {error}") from error
        if "failed" in answer:
            raise LeftOutError(answer["failed"])
        return answer

    def close(self):
        """Ends the process."""
        self._process.close()


def serve_peers(begin):
    """The child's side: `begin` by the first line, and what it gives for each further one.

    Args:
        begin: called with the first request, and with a function that waits for the next one; it does the work and
            answers with `tell`.

    Returns:
        What `answer_lines` calls.
    """

    def serve(lines, tell):
        def next_request():
            line = next(lines, None)
            if line is None:
                raise SystemExit  # nobody asks any more
            return json.loads(line)

        try:
            begin(next_request(), next_request, tell)
        except Exception as error:  # whatever is wrong with this one, the others go on
            tell({"failed": reason_of(error)})

    return serve


_LONGEST_REASON = 300  # characters


def reason_of(error):
    """An exception as one line, of which a long one loses its middle."""
    text = shortened(str(error), _LONGEST_REASON)
    return text if isinstance(error, LeftOutError | ConfigError) else f"{type(error).__name__}: {text}"
