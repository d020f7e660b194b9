"""What is exported: a network with all that belongs to it."""

import dataclasses
import json
import pathlib
import typing

from efficientnetv2_tf.training.hparams import ConfigError
from efficientnetv2_tf.training.run_folder import RunFolder

if typing.TYPE_CHECKING:
    import keras


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A network in float32, and how to feed and read it.

    Attributes:
        network: from preprocessed images, float32 [batch, size, size, channels], to logits.
        image_size: side in pixels that pictures are resized to.
        style: preprocessing, one of `data.decode.STYLES`.
        crop: whether evaluation looks at the centre, as `data.decode.preprocess_eval` does.
        class_names: one a class, in the order of the logits.
        multi_label: whether probabilities are sigmoids, and not a softmax.
        origin: where it came from: the path that was given.
    """

    network: "keras.Model"
    image_size: int
    style: str
    crop: bool
    class_names: tuple[str, ...]
    multi_label: bool
    origin: str


def load_bundle(model_dir):
    """The network that a training left, with averaged weights.

    Args:
        model_dir: folder of the training.

    Returns:
        A `Bundle`; the network computes in float32 whatever precision it was trained in.

    Raises:
        ConfigError: the folder holds no finished training.
    """
    folder = RunFolder(pathlib.Path(model_dir))
    config = folder.read_config()
    for path in (folder.model, folder.classes):
        if not path.exists():
            raise ConfigError(f"{path} was not found. Finish the training first (--mode=train).")
    data = config.data
    return Bundle(
        network=load_network(folder.model),
        image_size=data.eval_image_size,
        style=data.preprocessing,
        crop=data.crop != "none",
        class_names=tuple(json.loads(folder.classes.read_text(encoding="utf-8"))),
        multi_label=data.multi_label,
        origin=str(model_dir),
    )


def load_network(path):
    """The network in a .keras file, in float32 whatever precision is set.

    Raises:
        ValueError: it is no Keras file.
    """
    import keras

    from efficientnetv2_tf.networks.precision import dtype_policy

    with dtype_policy("float32"):
        return keras.models.load_model(path, compile=False)
