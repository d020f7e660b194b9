"""YAML and override strings."""

import pytest
import yaml

from efficientnetv2_tf.training.config_text import (
    flatten,
    parse_overrides,
    read_yaml,
    split_overrides,
    write_yaml,
)
from efficientnetv2_tf.training.hparams import ConfigError


@pytest.mark.parametrize(
    "text, value",
    [
        ("1e-3", 1e-3),
        ("1E5", 1e5),
        ("-2.5e+3", -2500.0),
        (".5e1", 5.0),
        ("1.5e3", 1500.0),
        ("0.97", 0.97),
        ("20", 20),
        ("on", True),
        ("off", False),
        ("yes", True),
        ("null", None),
        ("~", None),
        ("none", "none"),
        ("'1e-3'", "1e-3"),
        ("1e-3x", "1e-3x"),
        ("e3", "e3"),
    ],
)
def test_scalars_are_the_same_in_yaml_and_in_overrides(text, value):
    assert read_yaml(f"a: {text}", "test") == {"a": value}
    assert parse_overrides(f"a={text}") == {"a": value}
    assert type(parse_overrides(f"a={text}")["a"]) is type(value)


@pytest.mark.parametrize(
    "text, value",
    [
        ("5|15", [5, 15]),
        ("0|0.2", [0, 0.2]),
        ("r1_k3|r2_k3", ["r1_k3", "r2_k3"]),
        ("[5,15]", [5, 15]),
        ("[128, None]", [128, None]),
        ("None", None),
        ("", None),
        ("True", True),
        ("folder:/data/my photos", "folder:/data/my photos"),
        ("gs://bucket/a=b", "gs://bucket/a=b"),
        ("train[:70%]", "train[:70%]"),
        ("train+validation", "train+validation"),
        ("@home", "@home"),
    ],
)
def test_override_values(text, value):
    assert parse_overrides(f"a.b={text}") == {"a.b": value}


def test_overrides_split_at_commas_outside_brackets():
    text = "train.epochs=20, progressive.mixup=[0,0.2],data.dataset=digits,"
    assert split_overrides(text) == ["train.epochs=20", "progressive.mixup=[0,0.2]", "data.dataset=digits"]
    assert parse_overrides(text) == {
        "train.epochs": 20,
        "progressive.mixup": [0, 0.2],
        "data.dataset": "digits",
    }
    assert parse_overrides("") == {}


def test_the_last_of_two_overrides_counts_and_comes_last():
    assert list(parse_overrides("a=1,a.1=2,a=3").items()) == [("a.1", 2), ("a", 3)]


@pytest.mark.parametrize("text", ["train.epochs", "train.epochs=1,20", "=3"])
def test_what_is_no_override_is_refused(text):
    with pytest.raises(ConfigError, match="expected KEY=VALUE"):
        parse_overrides(text)


def test_malformed_yaml_names_file_and_line():
    with pytest.raises(ConfigError, match=r"^my\.yaml, line 3, column 5"):
        read_yaml("train:\n  epochs: [1, 2\ndata: 3\n", "my.yaml")


def test_keys_given_twice_are_refused():
    with pytest.raises(ConfigError, match=r"^my\.yaml, line 3, column 1.*'train' is given twice"):
        read_yaml("train: {epochs: 1}\ndata: {}\ntrain: {rho: 0.5}\n", "my.yaml")


@pytest.mark.parametrize("text", ["- 1\n- 2", "train", "3"])
def test_documents_must_be_mappings(text):
    with pytest.raises(ConfigError, match="expected sections"):
        read_yaml(text, "my.yaml")


def test_empty_documents():
    assert read_yaml("", "my.yaml") == read_yaml("# nothing\n", "my.yaml") == {}


def test_written_yaml_is_read_back_unchanged():
    values = {
        "a": 1e-5,
        "b": [128, None],
        "c": "1e-3",
        "d": "on",
        "e": None,
        "f": "é|ü",
        "g": 1e20,
        "h": "none",
    }
    assert read_yaml(write_yaml({"s": values}), "test") == {"s": values}


def test_flatten():
    nested = {"train": {"epochs": 2, "rho": [1]}, "empty": {}, "data.cache": "none", "x": {"y": {"z": None}}}
    assert flatten(nested) == {"train.epochs": 2, "train.rho": [1], "data.cache": "none", "x.y.z": None}


def test_slices_as_in_the_releases_saved_configurations():
    text = yaml.dump({"data": {"splits": {"train": {"files": "train*", "slice": slice(20, None)}}}})
    assert read_yaml(text, "config.yaml") == {
        "data": {"splits": {"train": {"files": "train*", "slice": [20, None, None]}}}
    }
