"""Pretrained weights by name: which there are, and where. `pretrained_files.fetch` gets them.

| weights | networks | classes | preprocessing |
|---|---|---|---|
| "imagenet" | V2 S, M, L, B0-B3; V1 B0-B2, B4-B8 | 1,000 | the variant's |
| "imagenet21k" | all of V2 | 21,843, several a picture (sigmoid) | "v2" |
| "imagenet21k-ft1k" | all of V2 | 1,000 | "finetune" |

V2's files are those of the official release's README and `get_model`, and the preprocessing is that of its data sets'
configurations: ImageNet-21k and fine-tuning replace B0-B3's "v1". V1's are those of 2019 (tensorflow/tpu's README),
trained with AutoAugment, B8 with RandAugment; the release's `get_model` takes AdvProp's, which expect pixels from -1
to 1 and not V1's preprocessing. Two networks have none here: V1 B3 had 24 channels in its first stage in 2019 and has
16 in the release (`load_weights` says how to read those), and L2 was published with noisy student's weights alone.
"""

import dataclasses
import os
import pathlib

from efficientnetv2_tf.networks.variants import get_variant
from efficientnetv2_tf.networks.weight_file import WeightsError

NAMES = ("imagenet", "imagenet21k", "imagenet21k-ft1k")


@dataclasses.dataclass(frozen=True)
class Source:
    """A file with the weights.

    Attributes:
        address: where it is published.
        md5: hexadecimal, or None where nobody states one.
    """

    address: str
    md5: str | None = None

    @property
    def file_name(self):
        return self.address.rpartition("/")[2]


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """Published weights of a network.

    Attributes:
        variant: one of `list_models()`.
        weights: one of `NAMES`.
        classes: of the classifier.
        preprocessing: that they were trained with, "v1", "v2" or "finetune" (see `preprocessing.normalize`).
        sources: files with the same values, in the order in which they are tried.
    """

    variant: str
    weights: str
    classes: int
    preprocessing: str
    sources: tuple[Source, ...]

    @property
    def kept(self):
        """Path of the converted file, which may not be there yet."""
        return cache_folder() / f"{self.variant}-{self.weights}.weights.h5"


_OFFICIAL = "https://storage.googleapis.com/cloud-tpu-checkpoints/efficientnet/"
_KERAS_V1 = "https://storage.googleapis.com/keras-applications/"
_KERAS_V2 = "https://storage.googleapis.com/tensorflow/keras-applications/efficientnet_v2/"
# As keras.applications states them for its files with a classifier.
_KERAS = {
    "efficientnetv2-b0": Source(f"{_KERAS_V2}efficientnetv2-b0.h5", "21ecbf6da12460d5c40bb2f29ceb2188"),
    "efficientnetv2-b1": Source(f"{_KERAS_V2}efficientnetv2-b1.h5", "069f0534ff22adf035c89e2d9547a9dc"),
    "efficientnetv2-b2": Source(f"{_KERAS_V2}efficientnetv2-b2.h5", "424e49f28180edbde1e94797771950a7"),
    "efficientnetv2-b3": Source(f"{_KERAS_V2}efficientnetv2-b3.h5", "1f1fc43bd98a6e4fd8fdfd551e02c7a0"),
    "efficientnetv2-s": Source(f"{_KERAS_V2}efficientnetv2-s.h5", "e1d88a8495beba45748fedd0cecbe016"),
    "efficientnetv2-m": Source(f"{_KERAS_V2}efficientnetv2-m.h5", "a3bf6aa3276309f4fc6a34aa114c95cd"),
    "efficientnetv2-l": Source(f"{_KERAS_V2}efficientnetv2-l.h5", "27e6d408b53c7ebc868fefa357689935"),
    "efficientnet-b0": Source(f"{_KERAS_V1}efficientnetb0.h5", "902e53a9f72be733fc0bcb005b3ebbac"),
    "efficientnet-b1": Source(f"{_KERAS_V1}efficientnetb1.h5", "1d254153d4ab51201f1646940f018540"),
    "efficientnet-b2": Source(f"{_KERAS_V1}efficientnetb2.h5", "b15cce36ff4dcbd00b6dd88e7857a6ad"),
    "efficientnet-b4": Source(f"{_KERAS_V1}efficientnetb4.h5", "18c95ad55216b8f92d7e70b3a046e2fc"),
    "efficientnet-b5": Source(f"{_KERAS_V1}efficientnetb5.h5", "ace28f2a6363774853a83a0b21b9421a"),
    "efficientnet-b6": Source(f"{_KERAS_V1}efficientnetb6.h5", "165f6e37dce68623721b423839de8be5"),
    "efficientnet-b7": Source(f"{_KERAS_V1}efficientnetb7.h5", "8c03f828fec3ef71311cd463b6759d99"),
}


def _imagenet(variant, file):
    sources = (Source(_OFFICIAL + file), *((_KERAS[variant],) if variant in _KERAS else ()))
    return Pretrained(variant, "imagenet", 1000, get_variant(variant).preprocessing, sources)


def _imagenet21k(variant):
    return Pretrained(variant, "imagenet21k", 21843, "v2", (Source(f"{_OFFICIAL}v2/{variant}-21k.tgz"),))


def _imagenet21k_ft1k(variant):
    source = Source(f"{_OFFICIAL}v2/{variant}-21k-ft1k.tgz")
    return Pretrained(variant, "imagenet21k-ft1k", 1000, "finetune", (source,))


_V2 = tuple(f"efficientnetv2-{size}" for size in ("s", "m", "l", "xl", "b0", "b1", "b2", "b3"))
_V1 = tuple(f"efficientnet-b{size}" for size in (0, 1, 2, 4, 5, 6, 7))
_TABLE = (
    *(_imagenet(variant, f"v2/{variant}.tgz") for variant in _V2 if variant != "efficientnetv2-xl"),
    *(_imagenet21k(variant) for variant in _V2),
    *(_imagenet21k_ft1k(variant) for variant in _V2),
    *(_imagenet(variant, f"ckptsaug/{variant}.tar.gz") for variant in _V1),
    _imagenet("efficientnet-b8", "randaug/efficientnet-b8-randaug.tar.gz"),
)
PRETRAINED = {(known.variant, known.weights): known for known in _TABLE}


def cache_folder():
    """Where converted files are kept and files put by hand are looked for.

    It is `models/efficientnetv2_tf` in Keras' folder: the environment variable KERAS_HOME, or ~/.keras.
    """
    home = os.environ.get("KERAS_HOME") or pathlib.Path.home() / ".keras"
    return pathlib.Path(home).expanduser() / "models" / "efficientnetv2_tf"


def find(variant, weights):
    """The `Pretrained` of that name.

    Args:
        variant: one of `list_models()`.
        weights: one of `NAMES`, or anything else that `get_model` takes.

    Returns:
        None where `weights` is no such name; for a file of that name give "./imagenet".

    Raises:
        WeightsError: this network has no weights of that name; the message says which it has.
    """
    if not isinstance(weights, str) or weights not in NAMES:
        return None
    if (variant, weights) not in PRETRAINED:
        there = ", ".join(name for network, name in PRETRAINED if network == variant) or "none"
        raise WeightsError(
            f"There are no weights {weights!r} of {variant}. Of {variant} there are, by name: {there}. "
            "load_weights(model, path) reads a file of your own."
        )
    return PRETRAINED[variant, weights]
