"""scikit-learn's handwritten digits as a TensorFlow data set that needs no download."""

import typing

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

NUM_TRAIN, NUM_TEST = 1437, 360


class Digits(tfds.core.GeneratorBasedBuilder):
    """1,797 scans of handwritten digits, 8 x 8 pixels, 10 classes: 1,437 to train, 360 to test.

    Source: Optical Recognition of Handwritten Digits (Alpaydin & Kaynak, UCI, 1998), the part that scikit-learn
    ships. The split is fixed and has the same share of each digit.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: typing.ClassVar = {"1.0.0": "scikit-learn's load_digits, split 1,437 / 360."}

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(8, 8, 3), encoding_format="png"),
            "label": tfds.features.ClassLabel(num_classes=10),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage="https://archive.ics.uci.edu/dataset/80",
        )

    def _split_generators(self, dl_manager):
        # scikit-learn is slow to import and is needed only here, once.
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split

        digits = load_digits()
        indices = np.arange(len(digits.target))
        train, test = train_test_split(indices, test_size=NUM_TEST, random_state=0, stratify=digits.target)
        return {
            "train": self._generate_examples(digits, sorted(train)),
            "test": self._generate_examples(digits, sorted(test)),
        }

    def _generate_examples(self, digits, indices):
        for index in indices:
            grey = np.round(digits.images[index] * (255 / 16)).astype(np.uint8)  # [8, 8], from 0..16
            png = tf.io.encode_png(np.repeat(grey[..., None], 3, axis=-1)).numpy()
            yield int(index), {"image": png, "label": int(digits.target[index])}
