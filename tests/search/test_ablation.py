"""Fusing B4's stages costs what the paper says."""

import io
import json

import pytest
import rich.console

from efficientnetv2_tf.networks.block_string import parse_block
from efficientnetv2_tf.networks.variants import get_variant
from efficientnetv2_tf.search import ablation
from efficientnetv2_tf.search.ablation import benchmark_fused, fused_blocks, fused_table


def test_costs_are_the_paper_s_within_three_percent():
    paper = {"none": (19.3, 4.5), "stages 1-3": (20.0, 7.5), "stages 1-5": (43.4, 21.3), "stages 1-7": (132.0, 34.4)}
    rows = fused_table(380)
    assert [row.name for row in rows] == [*paper]
    for row in rows:
        parameters, multiply_adds = paper[row.name]
        assert row.parameters / 1e6 == pytest.approx(parameters, rel=0.03)
        assert row.multiply_adds / 1e9 == pytest.approx(multiply_adds, rel=0.03)
    # The counts themselves, so that a change of the reading shows.
    assert [row.parameters for row in rows] == [19_341_616, 19_990_168, 43_201_192, 134_266_600]


def test_multiply_adds_follow_the_image_size():
    for small, large in zip(fused_table(190), fused_table(380), strict=True):
        assert 3.5 < large.multiply_adds / small.multiply_adds < 4.1
        assert small.parameters == large.parameters


def test_only_the_first_stages_are_fused():
    for stages in (0, 3, 5, 7):
        specs = [parse_block(block) for block in fused_blocks(stages)]
        assert [spec.fused for spec in specs] == [number <= stages for number in range(1, 8)]
    before, after = ([parse_block(block) for block in blocks] for blocks in (fused_blocks(0), fused_blocks(7)))
    assert [spec.kernel_size for spec in before] == [3, 3, 5, 3, 5, 5, 3]
    assert [spec.kernel_size for spec in after] == [3, 3, 3, 3, 5, 5, 3]
    assert fused_blocks(0) == tuple(get_variant("efficientnet-b4").blocks)


@pytest.mark.slow
def test_measures_every_row(tmp_path, monkeypatch):
    monkeypatch.setattr(ablation, "_REPEATS", 1)
    monkeypatch.setattr(ablation, "PUBLISHED", {stages: ablation.PUBLISHED[stages] for stages in (0, 7)})
    console = rich.console.Console(file=io.StringIO(), width=200)
    small = {"width_coefficient": 0.25, "depth_coefficient": 0.1}
    results = benchmark_fused(image_size=33, batch_size=2, output=tmp_path, console=console, **small)
    assert [row["name"] for row in results] == ["none", "stages 1-7"]
    assert results[0]["train_ratio"] == results[0]["infer_ratio"] == 1
    assert results[1]["train_ratio"] == results[1]["train"] / results[0]["train"]
    assert json.loads((tmp_path / "benchmark_fused.json").read_text())["rows"][1]["infer"] == results[1]["infer"]
    assert "0.97" in console.file.getvalue()  # 254 / 262, the paper's TPU
