"""Block strings: what the parser refuses, round trips, and expansion to real blocks."""

import dataclasses
import itertools

import pytest

from efficientnetv2_tf.networks import block_string
from efficientnetv2_tf.networks.block_string import BlockSpec, expand, format_block, parse_block
from efficientnetv2_tf.networks.variants import VARIANTS

ALL_STRINGS = sorted({text for variant in VARIANTS.values() for text in variant.blocks})
PLAIN = BlockSpec(repeats=2, kernel_size=3, stride=1, expand_ratio=1, input_filters=24, output_filters=24)


class TestParse:
    def test_every_field(self):
        assert parse_block("r6_k5_s2_e4_i64_o128_se0.25") == BlockSpec(6, 5, 2, 4, 64, 128, 0.25, False)
        assert parse_block("r2_k3_s1_e1_i24_o24_c1") == dataclasses.replace(PLAIN, fused=True)

    def test_order_does_not_matter_and_c0_is_the_default(self):
        assert parse_block("o24_i24_c0_e1_s1_k3_r2") == PLAIN

    @pytest.mark.parametrize(
        "text, problem",
        [
            ("r2_zz9_k3_s1_e1_i24_o24", r"Unknown field 'zz9'"),
            ("r2_k3_s1_e1_i24_o24_noskip", r"Unknown field 'noskip'"),
            ("r2_k3_s1_e1_i24_o24_", r"Unknown field ''"),
            ("r2__k3_s1_e1_i24_o24", r"Unknown field ''"),
            ("r2_k3_s1_e1_i24_o24_c", r"Unknown field 'c'"),
            ("r2_k3_s1_e1_i-24_o24", r"Unknown field 'i-24'"),
            ("r2_k3_s1_e1_i24_o24_se.5", r"Unknown field 'se.5'"),
            ("r2_k3_s11_e1_i24_o24 ", r"Unknown field 'o24 '"),
            ("R2_k3_s1_e1_i24_o24", r"Unknown field 'R2'"),
            ("", r"Unknown field ''"),
            ("r2_k3_s1_e1_i24_o24_r3", r"Repeated field 'r' \(repeats\)"),
            ("r2_k3_s1_e1_i24_o24_c1_c1", r"Repeated field 'c' \(fused\)"),
            ("k3_s1_e1_i24_o24", r"Missing field r \(repeats\)"),
            ("r2_k3_s1", r"Missing field e \(expand_ratio\), i \(input_filters\), o \(output_filters\)"),
            ("r2.5_k3_s1_e1_i24_o24", r"Field 'r' \(repeats\).* must be whole. Received: 2.5"),
            ("r2_k3_s1_e1_i24.0_o24", r"Field 'i' \(input_filters\).* must be whole. Received: 24.0"),
            ("r2_k3_s1_e1_i24_o24_c2", r"Field 'c' \(fused\).* must be 0 or 1. Received: 2"),
            ("r2_k4_s1_e1_i24_o24", r"`kernel_size` \(k\) must be odd, received 4"),
            ("r2_k3_s3_e1_i24_o24", r"`stride` \(s\) must be 1 or 2, received 3"),
            ("r2_k3_s0_e1_i24_o24", r"`stride` \(s\) must be 1 or 2, received 0"),
            ("r0_k3_s1_e1_i24_o24", r"`repeats` \(r\) must be at least 1, received 0"),
            ("r2_k3_s1_e0_i24_o24", r"`expand_ratio` \(e\) must be at least 1, received 0"),
            ("r2_k3_s1_e1_i0_o24", r"`input_filters` \(i\) must be positive, received 0"),
            ("r2_k3_s1_e1_i24_o0", r"`output_filters` \(o\) must be positive, received 0"),
            ("r2_k3_s1_e1_i24_o24_se1.5", r"`se_ratio` \(se\) must be within 0..1, received 1.5"),
        ],
    )
    def test_refuses_with_the_string_and_the_field(self, text, problem):
        with pytest.raises(ValueError, match=problem) as caught:
            parse_block(text)
        assert repr(text) in str(caught.value)

    @pytest.mark.parametrize("thing", [None, 3, PLAIN])
    def test_refuses_what_is_no_string(self, thing):
        with pytest.raises(ValueError, match=r"A block string was expected.*Received: "):
            parse_block(thing)


class TestFormat:
    @pytest.mark.parametrize("text", ALL_STRINGS)
    def test_round_trip_of_the_strings_of_all_variants(self, text):
        assert format_block(parse_block(text)) == text

    @pytest.mark.parametrize("ratio", [1 / 24, 0.0625, 1 / 3, 0.1 + 0.2, 1e-7, 1.0, 1])
    def test_round_trip_of_odd_ratios_is_exact(self, ratio):
        spec = dataclasses.replace(PLAIN, se_ratio=ratio)
        assert parse_block(format_block(spec)) == spec
        assert "e-" not in format_block(spec)

    def test_a_third_keeps_its_bottleneck(self):
        # 48 * 0.3333333333 is 15.99..., one channel less.
        spec = dataclasses.replace(PLAIN, input_filters=48, se_ratio=1 / 3)
        assert spec.squeezed_filters == parse_block(format_block(spec)).squeezed_filters == 16

    def test_what_is_off_is_left_out(self):
        assert format_block(PLAIN) == "r2_k3_s1_e1_i24_o24"
        assert format_block(dataclasses.replace(PLAIN, se_ratio=1)).endswith("_se1")


class TestBlockSpec:
    def test_frozen(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            PLAIN.repeats = 3

    @pytest.mark.parametrize(
        "filters, ratio, squeezed", [(64, 0.25, 16), (30, 0.25, 7), (8, 0.01, 1), (8, 0, 0), (8, 1, 8)]
    )
    def test_the_bottleneck_is_rounded_down_but_never_empty(self, filters, ratio, squeezed):
        assert dataclasses.replace(PLAIN, input_filters=filters, se_ratio=ratio).squeezed_filters == squeezed

    def test_the_bottleneck_is_counted_from_the_input_not_from_the_expansion(self):
        spec = dataclasses.replace(PLAIN, expand_ratio=6, se_ratio=0.25)
        assert (spec.expanded_filters, spec.squeezed_filters) == (144, 6)

    @pytest.mark.parametrize("stride, outputs, skip", [(1, 24, True), (2, 24, False), (1, 32, False)])
    def test_skip(self, stride, outputs, skip):
        assert dataclasses.replace(PLAIN, stride=stride, output_filters=outputs).has_skip is skip


class TestRounding:
    @pytest.mark.parametrize(
        "filters, width, rounded",
        [
            (32, 1.0, 32),
            (32, 1.1, 32),  # 35.2
            (40, 1.1, 48),  # 44.0 lies between 40 and 48
            (20, 1.0, 24),  # a tie goes up
            (12, 1.0, 16),
            (28, 1.0, 32),
            (16, 1.2, 16),  # 19.2: more than 10 % lost, kept all the same
            (1280, 1.1, 1408),
            (1280, 1.2, 1536),
            (24, 0.1, 8),  # never below one step
            (1280, 4.3, 5504),
        ],
    )
    def test_filters(self, filters, width, rounded):
        assert block_string.round_filters(filters, width) == rounded

    @pytest.mark.parametrize(
        "repeats, depth, rounded",
        [(1, 1.0, 1), (1, 1.1, 2), (5, 1.4, 7), (8, 1.4, 12), (4, 3.1, 13), (3, 0.2, 1)],
    )
    def test_repeats_go_up(self, repeats, depth, rounded):
        assert block_string.round_repeats(repeats, depth) == rounded


class TestExpand:
    def test_only_the_first_block_has_the_stride_and_the_other_input(self):
        ((first, second, third),) = expand(["r3_k3_s2_e4_i24_o48_c1"])
        assert first == BlockSpec(1, 3, 2, 4, 24, 48, 0.0, True)
        assert second == third == BlockSpec(1, 3, 1, 4, 48, 48, 0.0, True)

    def test_coefficients(self):
        stages = expand(["r1_k3_s1_e1_i32_o20", "r3_k5_s2_e6_i20_o40_se0.25"], 1.1, 1.4)
        assert [len(stage) for stage in stages] == [2, 5]
        assert [(b.input_filters, b.output_filters) for b in stages[0]] == [(32, 24), (24, 24)]
        assert [(b.input_filters, b.output_filters) for b in stages[1]] == [(24, 48)] + 4 * [(48, 48)]

    @pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda variant: variant.name)
    def test_channels_chain_through_every_variant(self, variant):
        stages = expand(variant.blocks, variant.width_coefficient, variant.depth_coefficient)
        blocks = [block for stage in stages for block in stage]
        assert all(block.repeats == 1 for block in blocks)
        for before, after in itertools.pairwise(blocks):
            assert before.output_filters == after.input_filters

    def test_takes_specs_and_changes_nothing(self):
        spec = parse_block("r3_k3_s2_e4_i24_o48_c1")
        stages = expand([spec], 2.0, 2.0)
        assert format_block(spec) == "r3_k3_s2_e4_i24_o48_c1"
        assert stages == expand(["r3_k3_s2_e4_i24_o48_c1"], 2.0, 2.0)
        assert isinstance(stages, tuple) and isinstance(stages[0], tuple)

    def test_stages_that_do_not_fit(self):
        with pytest.raises(ValueError, match=r"'r1_k3_s1_e1_i32_o32' takes 32 channels.*gives 24 \(o\)"):
            expand(["r2_k3_s1_e1_i24_o24", "r1_k3_s1_e1_i32_o32"])

    @pytest.mark.parametrize("value", [0, -1.0, float("nan")])
    @pytest.mark.parametrize("name", ["width_coefficient", "depth_coefficient"])
    def test_coefficients_must_be_positive(self, name, value):
        with pytest.raises(ValueError, match=f"`{name}` should be above 0"):
            expand(["r2_k3_s1_e1_i24_o24"], **{name: value})

    def test_no_stages(self):
        with pytest.raises(ValueError, match="at least one block string"):
            expand([])
