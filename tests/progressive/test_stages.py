"""The plan: golden tables, no epoch lost, errors."""

import dataclasses

import pytest

from efficientnetv2_tf.progressive.stages import Stage, plan_stages, stage_at


def column(plan, name):
    return [getattr(stage, name) for stage in plan]


class TestPlan:
    def test_the_release_s_plan_for_s(self):
        plan = plan_stages(350, 4, image_size=(128, 300), image_size_ramp="release", magnitude=(5, 10))
        assert column(plan, "image_size") == [171, 214, 257, 300]
        assert column(plan, "magnitude") == pytest.approx([5, 5 + 5 / 3, 5 + 10 / 3, 10])
        assert column(plan, "first_epoch") == [0, 87, 175, 262]
        assert column(plan, "end_epoch") == [87, 175, 262, 350]
        assert column(plan, "mixup_alpha") == column(plan, "cutmix_alpha") == [0, 0, 0, 0]
        assert column(plan, "dropout_rate") == [None] * 4
        assert column(plan, "index") == [0, 1, 2, 3]

    @pytest.mark.parametrize(
        "last, sizes",
        [(384, [192, 256, 320, 384]), (192, [144, 160, 176, 192]), (208, [148, 168, 188, 208]), (128, [128] * 4)],
    )
    def test_the_release_s_ramp(self, last, sizes):
        plan = plan_stages(4, image_size=(128, last), image_size_ramp="release")
        assert column(plan, "image_size") == sizes

    def test_the_paper_s_plan_for_l(self):
        """EfficientNetV2, Table 6."""
        plan = plan_stages(
            8, 4, image_size=(128, 380), magnitude=(5, 25), mixup=(0, 0.5), cutmix=(0, 0.5), dropout=(0.1, 0.5)
        )
        assert column(plan, "image_size") == [128, 212, 296, 380]
        assert column(plan, "magnitude") == pytest.approx([5, 35 / 3, 55 / 3, 25])
        assert column(plan, "mixup_alpha") == pytest.approx([0, 1 / 6, 1 / 3, 0.5])
        assert column(plan, "cutmix_alpha") == pytest.approx([0, 1 / 6, 1 / 3, 0.5])
        assert column(plan, "dropout_rate") == pytest.approx([0.1, 0.7 / 3, 1.1 / 3, 0.5])
        assert column(plan, "epochs") == [2, 2, 2, 2]

    def test_linear_sizes_round_halves_up(self):
        assert column(plan_stages(4, image_size=(128, 300)), "image_size") == [128, 185, 243, 300]
        assert column(plan_stages(3, 3, image_size=(2, 3)), "image_size") == [2, 3, 3]  # 2.5, not 2

    def test_what_falls_may_fall(self):
        plan = plan_stages(3, 3, magnitude=(9, 3), dropout=(0.4, 0.2))
        assert column(plan, "magnitude") == [9, 6, 3]
        assert column(plan, "dropout_rate") == pytest.approx([0.4, 0.3, 0.2])

    @pytest.mark.parametrize(
        "epochs, stages, lengths", [(10, 4, [2, 3, 2, 3]), (7, 4, [1, 2, 2, 2]), (5, 3, [1, 2, 2]), (4, 4, [1] * 4)]
    )
    def test_uneven_epochs(self, epochs, stages, lengths):
        assert column(plan_stages(epochs, stages), "epochs") == lengths

    @pytest.mark.parametrize("ramp", ["linear", "release"])
    def test_one_stage_has_the_last_values(self, ramp):
        (stage,) = plan_stages(
            3,
            1,
            image_size=(128, 300),
            image_size_ramp=ramp,
            magnitude=(5, 15),
            mixup=(0, 0.2),
            cutmix=(0, 0.4),
            dropout=(0.1, 0.3),
        )
        assert stage == Stage(0, 0, 3, 300, 15.0, 0.2, 0.4, 0.3)

    @pytest.mark.parametrize("ramp", ["linear", "release"])
    @pytest.mark.parametrize("stages", range(1, 8))
    def test_no_gap_no_overlap_no_fall(self, stages, ramp):
        for epochs in range(stages, 41):
            plan = plan_stages(epochs, stages, image_size=(32, 97), image_size_ramp=ramp)
            covered = [epoch for stage in plan for epoch in range(stage.first_epoch, stage.end_epoch)]
            assert covered == list(range(epochs))
            assert min(column(plan, "epochs")) >= 1
            assert max(column(plan, "epochs")) - min(column(plan, "epochs")) <= 1
            sizes = column(plan, "image_size")
            assert sizes == sorted(sizes) and sizes[-1] == 97

    def test_frozen(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            plan_stages(4)[0].image_size = 3

    @pytest.mark.parametrize(
        "arguments, message",
        [
            ({"epochs": 3, "stages": 4}, "`epochs` should be at least the number of stages.*epochs=3, stages=4"),
            ({"epochs": 3, "stages": 0}, "`stages` should be at least 1. Received: stages=0"),
            ({"epochs": 0, "stages": 1}, "`epochs` should be at least"),
            ({"image_size": (300, 128)}, r"should not fall.*\(300, 128\)"),
            ({"image_size": (0, 128)}, r"`image_size` should be a pair \(first, last\) within 1..inf"),
            ({"image_size": (128,)}, "`image_size` should be a pair"),
            ({"image_size_ramp": "cosine"}, r"`image_size_ramp` should be one of \('linear', 'release'\).*'cosine'"),
            ({"magnitude": (5, 31)}, r"`magnitude` should be a pair .*within 0..30. Received: magnitude=\(5, 31\)"),
            ({"magnitude": (-1, 5)}, "`magnitude`"),
            ({"mixup": (0, -0.1)}, "`mixup`"),
            ({"cutmix": (0, 0.1, 0.2)}, "`cutmix`"),
            ({"dropout": (0.1, 1.0)}, "`dropout`"),
            ({"dropout": (0.1, float("nan"))}, "`dropout`"),
        ],
    )
    def test_errors(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            plan_stages(**{"epochs": 8, "stages": 4, **arguments})


class TestStageAt:
    def test_every_epoch(self):
        plan = plan_stages(10, 4)
        assert [stage_at(plan, epoch).index for epoch in range(10)] == [0, 0, 1, 1, 1, 2, 2, 3, 3, 3]

    def test_training_on_stays_in_the_last_stage(self):
        assert stage_at(plan_stages(4), 1000).index == 3

    def test_errors(self):
        with pytest.raises(ValueError, match="`epoch` should be at least 0"):
            stage_at(plan_stages(4), -1)
        with pytest.raises(ValueError, match="plan not empty"):
            stage_at((), 0)
