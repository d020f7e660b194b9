"""The parts that compare with peers: rates and ratios from known times, tables, and what becomes of those that die."""

import json

import pytest

from efficientnetv2_tf.benchmark import bars, first_step, inference, memory, peers, training, turns
from efficientnetv2_tf.training.hparams import ConfigError
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


def test_one_works_at_a_time_and_in_turns_with_the_reference(fake_children, recipe, console):
    result = training.measure(recipe("benchmark.libraries=[keras.applications]"), console)
    expected = [("start", "keras_applications")]
    for name in ("ours", "ours_average"):
        expected += [("start", name)] + [("turn", "keras_applications"), ("turn", name)] * 3
    assert fake_children() == expected
    found = result["models"][B0]["peers"]
    assert len(found["keras_applications"]["images_per_second"]) == 6 and len(found["ours"]["images_per_second"]) == 3


@pytest.mark.parametrize("libraries, most", [("keras.applications,keras-hub", 2), ("keras-hub", 1)])
def test_no_more_than_two_are_in_memory(fake_children, recipe, console, monkeypatch, libraries, most):
    alive, counts = set(), []

    class Counted(peers.PeerProcess):
        def __init__(self, module, peer, request):
            super().__init__(module, peer, request)
            alive.add(self)
            counts.append(len(alive))

        def close(self):
            super().close()
            alive.discard(self)

    monkeypatch.setattr(turns, "PeerProcess", Counted)
    training.measure(recipe(f"benchmark.libraries=[{libraries}]"), console)
    assert max(counts) == most and not alive


@pytest.mark.parametrize("part, failing", [(training, "ours_average"), (memory, "ours"), (inference, "saved_model")])
def test_without_this_package_s_own_there_is_nothing_to_compare(
    fake_children, recipe, console, monkeypatch, part, failing
):
    monkeypatch.setenv("FAKE_FAILING", failing)
    with pytest.raises(ConfigError, match=r"efficientnetv2_tf.* could not be measured: it has no such network"):
        part.measure(recipe("benchmark.libraries=[]"), console)


def test_of_this_package_s_own_those_that_need_other_packages_are_left_out(fake_children, recipe, console, monkeypatch):
    monkeypatch.setenv("FAKE_FAILING", "tflite_int8")
    found = inference.measure(recipe("benchmark.libraries=[],benchmark.inference_batch_sizes=[1]"), console)
    assert found["models"][B0]["left_out"] == {"efficientnetv2_tf, TFLite int8": "it has no such network"}


def test_who_dies_or_is_missing_is_named_and_the_others_go_on(fake_children, recipe, console):
    found = training.measure(recipe(), console)["models"][B0]
    assert {*found["peers"]} == {"ours", "ours_average", "keras_applications"}
    assert found["left_out"]["keras-cv"] == "it has no such network"
    assert "ended with -9" in found["left_out"]["keras-hub"]
    assert found["left_out"]["timm, torch.compile"] == "not installed: torchvision"
    assert "keras-hub is left out: its process ended with -9" in console.file.getvalue()
    assert fake_children().count(("turn", "keras_applications")) == 9  # with keras-hub too, till it died and after
    assert len(found["peers"]["keras_applications"]["images_per_second"]) == 9


def test_training_as_table_and_picture(fake_children, recipe, console):
    result = training.measure(recipe(), console)
    (table,) = training.tables(result)
    assert table.rows[0] == ("efficientnetv2_tf", "40.0", "30.0 - 40.0", "2.00", "7")
    assert "keras-cv (it has no such network)" in table.note
    assert {"40 (2.00 x)", "goal: 1.3 x", B0, "keras.applications"} <= {*drawn(training, result)}
    # In the order of the ratios, though the machine was slower when this one was measured.
    result["models"][B0]["peers"]["ours"]["median"] = 1.0
    assert training.tables(result)[0].rows[0][:2] == ("efficientnetv2_tf", "1.0")


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


def test_memory_that_the_system_does_not_tell(fake_children, recipe, console, monkeypatch):
    one = recipe("benchmark.libraries=[keras.applications]")
    monkeypatch.setenv("FAKE_MEMORY", json.dumps({"keras_applications": [2**30, 2**30]}))  # its steps took nothing
    result = memory.measure(one, console)
    ours = result["models"][B0]["peers"]["ours"]
    assert (ours["ratio"], ours["steps_ratio"]) == (2, None)
    assert memory.tables(result)[0].rows[-1] == (
        "efficientnetv2_tf, with moving average",
        "2,304",
        "2.25",
        "1,280",
        "-",
    )
    monkeypatch.setenv("FAKE_MEMORY", json.dumps({"keras_applications": [None, None]}))
    found = memory.measure(one, console)["models"][B0]
    assert found["left_out"]["keras.applications"] == "this system does not tell how much memory a process takes"
    assert found["peers"]["ours"]["ratio"] is None
    monkeypatch.setenv("FAKE_MEMORY", json.dumps({"ours": [2**30, None]}))
    with pytest.raises(ConfigError, match="efficientnetv2_tf could not be measured: this system does not tell"):
        memory.measure(one, console)


def test_inference_beside_both_ways_of_keras(fake_children, recipe, console):
    result = inference.measure(recipe("benchmark.inference_batch_sizes=[1,8]"), console)
    json.dumps(result, allow_nan=False)
    assert fake_children()[0] == ("start", "export")
    one, eight = (result["models"][B0]["batches"][size]["saved_model"] for size in ("1", "8"))
    assert one["median"] == pytest.approx(10) and eight["images_per_second"] == pytest.approx([80, 40, 80])
    assert one["ratios"]["keras_predict"]["median"] == pytest.approx(4)
    assert one["ratios"]["keras_function"]["median"] == pytest.approx(2)
    first, second = inference.tables(result)
    assert first.title.endswith("batch 1") and second.title.endswith("batch 8")
    assert first.rows[0] == ("efficientnetv2_tf, SavedModel", "10.0", "7.5 - 10.0", "4.00", "2.00")
    assert {"10 (2.00 x)", "goal: 1.3 x tf.function"} <= {*drawn(inference, result)}
    for found in result["models"][B0]["batches"].values():
        del found["keras_function"]
    assert {"10 (4.00 x)", "goal: 1.3 x predict"} <= {*drawn(inference, result)}


@pytest.mark.parametrize("goal", [1.0, 5.0, 9.0])
def test_the_goal_s_text_covers_neither_bars_nor_values(goal):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 2), layout="constrained")
    axis = figure.subplots()
    rows = [bars.Bar(f"{value}", value, f"{value} ({value / 4:.2f} x)", value > 5) for value in (2, 4, 6, 8)]
    bars.draw_bars(axis, "title", rows, (goal, "goal: 1.3 x tf.function"))
    figure.draw_without_rendering()
    *values, text = (text.get_window_extent() for text in axis.texts)
    others = [*values, *(patch.get_window_extent() for patch in axis.patches), axis.title.get_window_extent()]
    assert len(others) == 9 and not any(text.overlaps(other) for other in others)
    assert axis.bbox.x0 < text.x0 and text.x1 < axis.bbox.x1


def test_one_that_fails_does_not_take_the_others_with_it(console):
    def measure(name):
        if name < "c":
            raise ConfigError(name + " has " + "no " * 200 + "memory")
        return name.upper()

    found, left_out = turns.measure_each("abc", measure, console)
    assert found == {"c": "C"} and [*left_out] == ["a", "b"]
    assert left_out["a"].startswith("a has no") and left_out["a"].endswith("no memory") and len(left_out["a"]) < 310
    with pytest.raises(ConfigError, match=r"a: a has no .* memory; b: b has no"):
        turns.measure_each("ab", measure, console)


def test_spread_of_one_value():
    assert turns.spread([3.0]) == {"median": 3.0, "low": 3.0, "high": 3.0}
    assert turns.spread([1.0, 2.0, 3.0]) == {"median": 2.0, "low": 1.5, "high": 2.5}
