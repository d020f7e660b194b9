"""Data that the tests of this folder share."""

import pytest

from efficientnetv2_tf.data.sources import open_source


@pytest.fixture(scope="session")
def digits_dir(tmp_path_factory):
    """A folder with the digits prepared."""
    folder = tmp_path_factory.mktemp("tfds")
    open_source("digits", data_dir=folder)
    return folder


@pytest.fixture(scope="session")
def digits(digits_dir):
    return open_source("digits", data_dir=digits_dir)
