"""Figures of the report, against ones worked out by hand."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from efficientnetv2_tf.deploy import tflite_report
from efficientnetv2_tf.deploy.tflite_report import Comparison, Row, compare, report_json, report_table, size_of


def rows_of(*tops, classes=4, share=0.7):
    """Probabilities [len(tops), classes] with these top classes."""
    probabilities = np.full([len(tops), classes], (1 - share) / (classes - 1), np.float32)
    probabilities[np.arange(len(tops)), tops] = share
    return probabilities


def test_agreement_and_accuracy_are_counted_over_all_batches():
    comparison = Comparison()
    comparison.add(rows_of(0, 1, 2), rows_of(0, 1, 3), np.eye(4)[[0, 0, 2]])
    comparison.add(rows_of(3, share=0.6), rows_of(3), np.eye(4)[[3]])
    assert comparison.images == 4
    assert comparison.as_fields() == {
        "accuracy": 0.75,
        "agreement": 0.75,
        "probability_difference": pytest.approx(0.6),  # of 0.7 and 0.1, in the third picture
    }
    assert comparison.accuracy == 0.75


def test_any_of_several_labels_is_right_and_without_one_none():
    comparison = Comparison()
    comparison.add(rows_of(0, 1, 2), rows_of(0, 1, 2), np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]))
    assert comparison.accuracy == pytest.approx(2 / 3)


def test_all_models_see_the_same_pictures_which_are_read_once():
    batches = iter([(np.zeros([2, 1, 1, 3]), np.eye(4)[[0, 1]]), (np.ones([1, 1, 1, 3]), np.eye(4)[[2]])])
    answers = {0.0: rows_of(0, 1), 1.0: rows_of(2)}
    models = {"same": lambda pixels: answers[pixels.max()], "always 0": lambda pixels: rows_of(*[0] * len(pixels))}
    comparisons, own = compare(models, models["same"], batches)
    assert own.accuracy == 1 and own.images == 3
    assert comparisons["same"].as_fields() == {"accuracy": 1, "agreement": 1, "probability_difference": 0}
    assert comparisons["always 0"].agreeing == 1
    with pytest.raises(ValueError, match="at least one evaluation picture"):
        compare(models, models["same"], [])


ROWS = [
    Row("Keras", 24_300_000, {1: 19.4211, 2: 11.0}, accuracy=0.98),
    Row("int8", 7_140_000, {1: 0.307, 2: 0.2}, 0.9778, 0.9972, 0.078, {"file": "net-int8.tflite"}),
]


def test_the_table_has_a_line_for_each_format():
    text = io.StringIO()
    Console(file=text, width=120).print(report_table(ROWS, "net: 360 pictures"))
    heading = next(line for line in text.getvalue().splitlines() if "format" in line)
    assert [cell.strip() for cell in heading.strip("┃").split("┃")] == [
        "format", "size", "1 thread", "2 threads", "agreement", "accuracy", "largest difference",
    ]  # fmt: skip
    keras, int8 = ([cell.strip() for cell in line.strip("│").split("│")] for line in text.getvalue().splitlines()[4:6])
    assert keras == ["Keras", "24.30 MB", "19.42 ms", "11.00 ms", "", "98.00%", ""]
    assert int8 == ["int8", "7.14 MB", "0.31 ms", "0.20 ms", "99.72%", "97.78%", "7.8e-02"]


def test_the_json_has_what_the_table_has():
    report = json.loads(json.dumps(report_json(ROWS, {"network": "net"})))
    assert report["network"] == "net" and report["machine"]["cpus"] >= 1
    assert report["formats"] == {
        "Keras": {"bytes": 24_300_000, "latency_ms": {"1": 19.421, "2": 11.0}, "accuracy": 0.98},
        "int8": {
            "bytes": 7_140_000, "latency_ms": {"1": 0.307, "2": 0.2}, "file": "net-int8.tflite", "accuracy": 0.9778,
            "agreement": 0.9972, "probability_difference": 0.078,
        },
    }  # fmt: skip


def test_keras_and_the_saved_model_have_their_own_lines(make_bundle, monkeypatch, tmp_path):
    asked = []

    def latencies(network, saved_model, image_size, threads):
        asked.append((network.suffix, network.stat().st_size, image_size))
        return {"keras": 10.0 / threads, "saved_model": 8.0 / threads}

    monkeypatch.setattr(tflite_report, "tensorflow_latencies", latencies)
    (tmp_path / "variables").mkdir()
    (tmp_path / "variables" / "data").write_bytes(b"12345")
    (tmp_path / "saved_model.pb").write_bytes(b"123")
    keras, saved = tflite_report.tensorflow_rows(make_bundle(), tmp_path, (1, 2), 0.9)
    assert asked == [(".keras", keras.size, 32)] * 2
    assert keras == Row("Keras", keras.size, {1: 10.0, 2: 5.0}, accuracy=0.9)
    assert saved == Row("SavedModel", 8, {1: 8.0, 2: 4.0})
    (only,) = tflite_report.tensorflow_rows(make_bundle(), None, (), 0.9)
    assert only.latency_ms == {} and len(asked) == 2


def test_the_size_of_a_folder_is_that_of_its_files(tmp_path):
    (tmp_path / "a").write_bytes(b"12")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").write_bytes(b"345")
    assert (size_of(tmp_path), size_of(tmp_path / "a")) == (5, 2)
