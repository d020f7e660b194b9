"""The parts that compare with peers: rates and ratios from known times, tables, and what becomes of those that die."""

import json

import pytest

from efficientnetv2_tf.benchmark import first_step, inference, memory, training, turns
from efficientnetv2_tf.training.pictures import load_pyplot

B0 = "efficientnetv2-b0"


def drawn(part, result):
    """All texts of the part's picture."""
    pyplot = load_pyplot()
    from matplotlib import text

    figure = pyplot.figure(figsize=(8, 4), layout="constrained")
    part.draw(figure.subfigures(1, 1), result)
    figure.draw_without_rendering()
    texts = [item.get_text() for item in figure.findobj(text.Text)]
    pyplot.close(figure)
    return texts


def test_turns_keep_the_ratio_where_the_machine_slows_down(fake_children, recipe, console):
    result = training.measure(recipe(), console)
    json.dumps(result, allow_nan=False)
    found = result["models"][B0]
    ours, reference = found["peers"]["ours"], found["peers"]["keras_applications"]
    assert ours["images_per_second"] == pytest.approx([40, 20, 40])  # batch 4, 0.1 s, and 0.2 s in the second turn
    assert ours["median"] == pytest.approx(40) and ours["low"] == pytest.approx(30)
    assert ours["ratio"] == pytest.approx({"median": 2, "low": 2, "high": 2})
    assert reference["ratio"]["median"] == 1 and not reference["ours"]
    assert found["peers"]["ours_average"]["ratio"]["median"] == pytest.approx(1.6)


def test_one_works_at_a_time_and_in_turns(fake_children, recipe, console):
    training.measure(recipe("benchmark.libraries=[keras.applications]"), console)
    names = ["ours", "ours_average", "keras_applications"]
    assert fake_children() == [("start", name) for name in names] + [("turn", name) for name in names] * 3


def test_who_dies_or_is_missing_is_named_and_the_others_go_on(fake_children, recipe, console):
    found = training.measure(recipe(), console)["models"][B0]
    assert {*found["peers"]} == {"ours", "ours_average", "keras_applications"}
    assert found["left_out"]["keras-cv"] == "it has no such network"
    assert "ended with -9" in found["left_out"]["keras-hub"]
    assert found["left_out"]["timm, torch.compile"] == "not installed: torchvision"
    assert "keras-hub is left out: its process ended with -9" in console.file.getvalue()
    assert fake_children().count(("turn", "keras_applications")) == 3


def test_training_as_table_and_picture(fake_children, recipe, console):
    result = training.measure(recipe(), console)
    (table,) = training.tables(result)
    assert table.rows[0] == ("efficientnetv2_tf", "40.0", "30.0 - 40.0", "2.00", "7")
    assert "keras-cv (it has no such network)" in table.note
    assert {"40 (2.00 x)", "goal: 1.3 x", B0, "keras.applications"} <= {*drawn(training, result)}


def test_without_the_reference_there_is_no_ratio(fake_children, recipe, console):
    result = training.measure(recipe("benchmark.libraries=[]"), console)
    assert result["models"][B0]["peers"]["ours"]["ratio"] is None
    assert training.tables(result)[0].rows[0][3] == "-"
    assert "goal: 1.3 x" not in drawn(training, result)


def test_first_step_in_fresh_processes(fake_children, recipe, console):
    result = first_step.measure(recipe(), console)
    json.dumps(result, allow_nan=False)
    names = ["ours", "ours_average", "keras_applications"]
    assert fake_children() == [("start", name) for name in names] * 2
    ours = result["models"][B0]["peers"]["ours"]
    assert [ours[key] for key in ("importing", "building", "rest", "median")] == [1.0, 0.5, 8.5, 10.0]
    assert ours["ratio"]["median"] == 0.5
    (table,) = first_step.tables(result)
    assert table.rows[0] == (B0, "efficientnetv2_tf", "10.0", "1.0 (10%)", "0.5 (5%)", "8.5 (85%)", "0.50")
    assert "10.0 s (0.50 x)" in drawn(first_step, result)


def test_memory_of_one_process_after_the_other(fake_children, recipe, console):
    result = memory.measure(recipe("benchmark.libraries=[keras.applications]"), console)
    json.dumps(result, allow_nan=False)
    names = ["ours", "ours_average", "keras_applications"]
    assert fake_children() == [(what, name) for name in names for what in ("start", "turn")]
    ours = result["models"][B0]["peers"]["ours"]
    assert (ours["peak"], ours["steps"]) == (2 * 2**30, 2**30)
    assert ours["ratio"] == pytest.approx(2 / 3) and ours["steps_ratio"] == pytest.approx(1 / 2)
    (table,) = memory.tables(result)
    assert table.rows[0] == ("efficientnetv2_tf", "2,048", "0.67", "1,024", "0.50")
    assert "2,048 (0.67 x)" in drawn(memory, result)


def test_inference_beside_both_ways_of_keras(fake_children, recipe, console):
    result = inference.measure(recipe("benchmark.inference_batch_sizes=[1,8]"), console)
    json.dumps(result, allow_nan=False)
    assert fake_children()[0] == ("start", "export")
    one, eight = (result["models"][B0]["batches"][size]["saved_model"] for size in ("1", "8"))
    assert one["median"] == pytest.approx(10) and eight["images_per_second"] == pytest.approx([40, 80, 40])
    assert one["ratios"]["keras_predict"]["median"] == pytest.approx(4)
    assert one["ratios"]["keras_function"]["median"] == pytest.approx(2)
    first, second = inference.tables(result)
    assert first.title.endswith("batch 1") and second.title.endswith("batch 8")
    assert first.rows[0] == ("efficientnetv2_tf, SavedModel", "10.0", "7.5 - 10.0", "4.00", "2.00")
    assert "10 (4.00 x)" in drawn(inference, result)


def test_spread_of_one_value():
    assert turns.spread([3.0]) == {"median": 3.0, "low": 3.0, "high": 3.0}
    assert turns.spread([1.0, 2.0, 3.0]) == {"median": 2.0, "low": 1.5, "high": 2.5}
