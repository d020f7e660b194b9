"""The process in which one peer classifies; `python -m` of this module, asked by `peers.PeerProcess`.

The first request is {"peer", "config", "image_size", "folder"}. A further one is {"batch_size", "calls"}, answered with
the times of at least so many calls. The peer "export" writes this package's files to the folder and ends there.
"""

import contextlib
import os
import pathlib
import time

import numpy as np

from efficientnetv2_tf.benchmark import peer_networks
from efficientnetv2_tf.benchmark.peers import CLASSES, LeftOutError, serve_peers
from efficientnetv2_tf.child_process import answer_lines
from efficientnetv2_tf.training.hparams import Config

SAVED_MODEL, ONNX = "saved_model", "model.onnx"
_SHORTEST = 0.3  # s that a turn takes at least, by more calls
_CALIBRATION = 4  # pictures; the speed does not depend on them


def pictures(batch_size, image_size, low=-1, high=1):
    """float32 [batch_size, image_size, image_size, 3], random."""
    shape = [batch_size, image_size, image_size, 3]
    return np.random.default_rng(0).uniform(low, high, shape).astype(np.float32)


def usable_cores():
    """How many of the machine's cores this process may use, where the system tells; else all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# Each gives a function from a batch size to a function that classifies one batch, to the end of it.


def _saved_model(work, config):
    _load_tensorflow(config)
    import tensorflow as tf

    loaded = tf.saved_model.load(str(pathlib.Path(work["folder"]) / SAVED_MODEL))
    signature = loaded.signatures["preprocessed"]

    def prepare(batch_size):
        images = tf.constant(pictures(batch_size, work["image_size"]))
        return lambda: signature(preprocessed=images)["logits"].numpy()

    prepare.loaded = loaded  # which owns the variables
    return prepare


def _tflite(mode):
    def open_file(work, config):
        from efficientnetv2_tf.deploy.tflite_model import make_interpreter

        path = pathlib.Path(work["folder"]) / f"{mode}.tflite"
        content = _written(path).read_bytes()

        def prepare(batch_size):
            images = pictures(batch_size, work["image_size"], 0, 255)
            interpreter = make_interpreter(content, usable_cores())
            (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
            if batch_size != taken["shape"][0]:
                interpreter.resize_tensor_input(taken["index"], images.shape)
                interpreter.allocate_tensors()

            def run():
                interpreter.set_tensor(taken["index"], images)
                interpreter.invoke()
                return interpreter.get_tensor(given["index"])

            return run

        return prepare

    return open_file


def _onnx(work, config):
    return _onnx_session(_written(pathlib.Path(work["folder"]) / ONNX), work["image_size"], (0, 255))


def _onnx_session(path, image_size, limits, channels_first=False):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def prepare(batch_size):
        images = pictures(batch_size, image_size, *limits)
        if channels_first:
            images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        return lambda: session.run(None, {name: images})[0]

    return prepare


def _written(path):
    if not path.exists():
        raise LeftOutError(path.with_suffix(".reason").read_text(encoding="utf-8"))
    return path


def _keras_predict(work, config):
    model = peer_networks.keras_applications(config.model, work["image_size"])

    def prepare(batch_size):
        images = pictures(batch_size, work["image_size"])
        return lambda: model.predict(images, batch_size=batch_size, verbose=0)

    return prepare


def _keras_function(work, config):
    import tensorflow as tf

    model = peer_networks.keras_applications(config.model, work["image_size"])
    classify = tf.function(lambda images: model(images, training=False))

    def prepare(batch_size):
        images = tf.constant(pictures(batch_size, work["image_size"]))
        return lambda: classify(images).numpy()

    return prepare


def _timm(work, config, compiled=False):
    import torch

    network = peer_networks.timm_network(config.model).eval()
    classify = torch.compile(network, dynamic=False) if compiled else network

    def prepare(batch_size):
        images = torch.from_numpy(pictures(batch_size, work["image_size"])).permute(0, 3, 1, 2)

        def run():
            with torch.inference_mode():
                return classify(images).numpy()

        return run

    return prepare


def _timm_compiled(work, config):
    return _timm(work, config, compiled=True)


def _timm_onnx(work, config):
    import torch

    network = peer_networks.timm_network(config.model).eval()
    path = pathlib.Path(work["folder"]) / "timm.onnx"
    example = torch.zeros(2, 3, work["image_size"], work["image_size"])
    shapes = ({0: torch.export.Dim("batch")},)
    torch.onnx.export(network, (example,), str(path), dynamic_shapes=shapes, dynamo=True, verbose=False)
    return _onnx_session(path, work["image_size"], (-1, 1), channels_first=True)


_RUNNERS = {
    "saved_model": _saved_model,
    "tflite_float32": _tflite("float32"),
    "tflite_int8": _tflite("int8"),
    "onnx": _onnx,
    "keras_predict": _keras_predict,
    "keras_function": _keras_function,
    "timm": _timm,
    "timm_compiled": _timm_compiled,
    "timm_onnx": _timm_onnx,
}


def _load_tensorflow(config):
    from efficientnetv2_tf.training.startup import load_tensorflow

    load_tensorflow(onednn=config.runtime.onednn)


def _export(work, config):
    """Writes SavedModel, TFLite and ONNX files as `deploy` does; a file that cannot be written leaves its reason."""
    _load_tensorflow(config)
    from efficientnetv2_tf.deploy.bundle import Bundle
    from efficientnetv2_tf.deploy.onnx import write_onnx
    from efficientnetv2_tf.deploy.saved_model import write_saved_model
    from efficientnetv2_tf.deploy.tflite_convert import converter_of
    from efficientnetv2_tf.networks.model import get_model

    fields = ("blocks", "width_coefficient", "depth_coefficient")
    options = {name: getattr(config.model, name) for name in fields}
    network, size = get_model(config.model.name, num_classes=CLASSES, **options), work["image_size"]
    names = tuple(map(str, range(CLASSES)))
    bundle = Bundle(network, size, network.preprocessing, True, names, False, config.model.name)
    folder = pathlib.Path(work["folder"])
    write_saved_model(bundle, folder / SAVED_MODEL)
    with _leaving_reason(folder / ONNX):
        write_onnx(bundle, folder / ONNX)
    files = {mode: folder / f"{mode}.tflite" for mode in ("float32", "int8")}
    with (
        _leaving_reason(*files.values()),
        converter_of(bundle, pictures(_CALIBRATION, size, 0, 255)) as converter,
    ):
        for mode, path in files.items():
            with _leaving_reason(path):
                path.write_bytes(converter.convert(mode))


@contextlib.contextmanager
def _leaving_reason(*paths):
    """Leaves the reason in place of files that cannot be written, for `_written`; whoever needs them is left out."""
    try:
        yield
    except Exception as error:  # of an optional package; the others go on
        for path in paths:
            path.unlink(missing_ok=True)
            path.with_suffix(".reason").write_text(f"it was not written: {error}", encoding="utf-8")


def _begin(work, next_request, tell):
    config = Config.model_validate_json(work["config"])
    if work["peer"] == "export":
        _export(work, config)
        tell({})
        return
    prepare, runs = _RUNNERS[work["peer"]](work, config), {}
    tell({})
    while True:
        request = next_request()
        batch_size = request["batch_size"]
        if batch_size not in runs:
            runs[batch_size] = _prepared(prepare, batch_size)
        tell({"seconds": _times(runs[batch_size], request["calls"])})


def _prepared(prepare, batch_size):
    try:
        run = prepare(batch_size)
        run()  # which may trace or compile
    except Exception as error:
        raise LeftOutError(f"batch {batch_size}: {type(error).__name__}: {error}") from error
    return run


def _times(run, calls):
    run()  # finds its data where others have used the caches meanwhile
    seconds = []
    while len(seconds) < calls or sum(seconds) < _SHORTEST:
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return seconds


if __name__ == "__main__":
    answer_lines(serve_peers(_begin))
