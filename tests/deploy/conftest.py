"""What the tests of this folder share: a small network that was trained for a moment, and its files."""

import io
import struct
import zlib

import keras
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from efficientnetv2_tf.deploy.bundle import Bundle
from efficientnetv2_tf.networks.model import get_model
from efficientnetv2_tf.training.hparams import resolve
from efficientnetv2_tf.training.recipes import load_config
from efficientnetv2_tf.training.run_folder import RunFolder, write_json

_TRAIN = 1200
# Fused and not, with and without expansion, squeeze-and-excitation and skip connection.
_BLOCKS = ("r1_k3_s1_e1_i16_o16_c1", "r1_k3_s2_e2_i16_o16_c1", "r2_k3_s2_e4_i16_o24_se0.25")


@pytest.fixture(scope="session")
def digit_pixels():
    """scikit-learn's digits at 32 px: pixels float32 [1797, 32, 32, 3] in 0..255, labels int [1797]."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = np.kron(digits.images * (255 / 16), np.ones([4, 4]))
    return np.repeat(grey[..., None], 3, axis=-1).astype(np.float32), digits.target


@pytest.fixture(scope="session")
def unseen_batches(digit_pixels):
    """The digits that `digit_network` was not trained on, 597: (pixels, one-hot labels) in batches of 200."""
    pixels, labels = (values[_TRAIN:] for values in digit_pixels)
    labels = np.eye(10, dtype=np.float32)[labels]
    return [(pixels[start : start + 200], labels[start : start + 200]) for start in range(0, len(pixels), 200)]


@pytest.fixture(scope="session")
def digit_network(digit_pixels):
    """A network of four blocks that tells nine of ten digits; no test may change it."""
    keras.utils.set_random_seed(0)
    certain = {"drop_connect_rate": 0.0, "classifier_initializer": "zeros"}  # what few steps need
    network = get_model("testing", blocks=_BLOCKS, feature_size=64, num_classes=10, **certain)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.Adam(5e-3), loss, jit_compile=False)
    pixels, labels = (values[:_TRAIN] for values in digit_pixels)
    network.fit(network.preprocess(pixels), labels, batch_size=48, epochs=3, verbose=0)
    return network


@pytest.fixture(scope="session")
def make_bundle(digit_network):
    """Makes the `Bundle` of a network, `digit_network` unless told otherwise."""

    def make(network=None, **changes):
        values = {
            "network": network or digit_network, "image_size": 32, "style": "v2", "crop": False,
            "class_names": tuple(f"digit {n}" for n in range(10)), "multi_label": False, "origin": "tests",
        }  # fmt: skip
        return Bundle(**{**values, **changes})

    return make


@pytest.fixture(scope="session")
def badly_scaled(digit_network):
    """A network with the outputs of `digit_network` that int8 ruins: one channel is a thousand times larger.

    The block before the head has no activation at its end, so that the head's convolution can take it back.
    """
    network = type(digit_network).from_config(digit_network.get_config())
    network.set_weights(digit_network.get_weights())
    *_, block = [layer for layer in network.layers if layer.name.startswith("blocks_")]
    skipped = network.get_layer("blocks_2")  # both add to the channel
    for normalization in (block.project_norm, skipped.project_norm):
        gamma, beta, *statistics = normalization.get_weights()
        gamma[0], beta[0] = gamma[0] * 1000, beta[0] * 1000
        normalization.set_weights([gamma, beta, *statistics])
    for convolution in (block.expand_conv, network.get_layer("head_conv")):
        (kernel,) = convolution.get_weights()
        kernel[:, :, 0] /= 1000
        convolution.set_weights([kernel])
    return network


@pytest.fixture(scope="session")
def encode():
    """Encodes a picture of smooth random colours, 50 pixels wide and 40 high unless told otherwise."""

    def encode(kind="JPEG", seed=0, *, size=(50, 40), **options):
        colours = np.random.default_rng(seed).integers(0, 256, [4, 4, 3], dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC).save(file, kind, **options)
        return file.getvalue()

    return encode


@pytest.fixture(scope="session")
def broken(encode):
    """What is wrong with a picture -> its bytes."""
    jpeg, png = encode(size=(200, 160)), encode("PNG", size=(200, 160))
    crc = struct.pack(">I", zlib.crc32(b"IHDR" + struct.pack(">II", 60_000, 60_000) + png[24:29]))
    return {
        "empty": b"",
        "cut JPEG": jpeg[: len(jpeg) // 2],
        "cut PNG": png[: len(png) // 2],
        "damaged PNG": png[:100] + bytes(50) + png[150:],
        "not an image": b"<html>404 Not Found</html>",
        "other format": encode("TIFF"),
        "decompression bomb": png[:16] + struct.pack(">II", 60_000, 60_000) + png[24:29] + crc + png[33:],
    }


@pytest.fixture(scope="session")
def saved_model(make_bundle, tmp_path_factory):
    """The SavedModel of `digit_network`, which looks at the centre of pictures here."""
    from efficientnetv2_tf.deploy.saved_model import write_saved_model

    folder = tmp_path_factory.mktemp("saved_model")
    write_saved_model(make_bundle(crop=True), folder)
    return folder


@pytest.fixture(scope="session")
def run_folder(digit_network, tmp_path_factory):
    """A folder as a training on the digits leaves it, with `digit_network`."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "run")
    config = resolve(load_config("testing", ["model.num_classes=10"], data_dir=str(tmp_path_factory.mktemp("digits"))))
    folder.claim(config)
    digit_network.save(folder.model)
    write_json(folder.classes, [str(digit) for digit in range(10)])
    write_json(folder.summary, {"epochs": 3, "test_accuracy": 0.9})
    return folder.path


@pytest.fixture(scope="session")
def exported(run_folder, tmp_path_factory):
    """(folder, model card, what was said) of an export of `run_folder`; no test may change it.

    The folder was not empty: there is another model, and what is left of a version 6 of the same.
    """
    from efficientnetv2_tf.deploy.exporter import export

    output, console = tmp_path_factory.mktemp("exported"), Console(width=160, file=io.StringIO())
    for name in ("digits.v2/1", "testing/6", "testing/notes"):
        (output / name).mkdir(parents=True)
    (output / "digits.v2" / "1" / "saved_model.pb").touch()
    card = export(run_folder, output, console=console)
    return output, card, console.file.getvalue()


@pytest.fixture(scope="session")
def tflite_exported(make_bundle, digit_pixels, unseen_batches, tmp_path_factory):
    """(folder, report, what was said) of `digit_network` in all modes of TFLite; no test may change it."""
    from efficientnetv2_tf.deploy.tflite import export_tflite

    folder, console = tmp_path_factory.mktemp("tflite") / "made", Console(file=io.StringIO(), width=120)
    report = export_tflite(
        make_bundle(),
        folder,
        evaluation_batches=unseen_batches,
        calibration_images=digit_pixels[0][:60],
        calibration_seed=7,
        min_agreement=0.97,
        threads=(),
        console=console,
    )
    return folder, report, console.file.getvalue()


@pytest.fixture(scope="session")
def tflite_files(tflite_exported):
    """{mode: bytes} of these files."""
    return {path.stem.removeprefix("testing-"): path.read_bytes() for path in tflite_exported[0].glob("*.tflite")}


@pytest.fixture(scope="session")
def onnx_file(make_bundle, tmp_path_factory):
    """`digit_network` as ONNX."""
    from efficientnetv2_tf.deploy.onnx import write_onnx

    path = tmp_path_factory.mktemp("onnx") / "digits.onnx"
    write_onnx(make_bundle(), path)
    return path
