"""Compound scaling against the paper's numbers, V2's against the released sizes."""

import math

import pytest

from efficientnetv2_tf.networks import scaling
from efficientnetv2_tf.networks.block_string import expand, parse_block
from efficientnetv2_tf.networks.cost import multiply_adds, parameters
from efficientnetv2_tf.networks.variants import VARIANTS

S = VARIANTS["efficientnetv2-s"].blocks


def test_scaling_and_cost_need_no_framework(run_python):
    modules = ["networks.scaling", "networks.cost"]
    imports = "\n".join(f"import efficientnetv2_tf.{module}" for module in modules)
    code = f"import sys\n{imports}\nprint({{'tensorflow', 'keras', 'numpy'}} & {{*sys.modules}})"
    assert run_python(code).strip() == "set()"


class TestCompoundScaling:
    def test_the_papers_bases(self):
        one = scaling.compound_scaling(1)
        assert (one.depth, one.width, one.resolution) == (1.2, 1.1, 1.15)
        assert one.multiply_adds_factor == pytest.approx(1.920, abs=5e-4)

    def test_phi_is_an_exponent(self):
        three = scaling.compound_scaling(3)
        assert (three.depth, three.width, three.resolution) == pytest.approx((1.728, 1.331, 1.520875))
        assert scaling.compound_scaling(0) == scaling.Scaling(1.0, 1.0, 1.0)

    def test_own_bases(self):
        assert scaling.compound_scaling(2, alpha=2, beta=1, gamma=3) == scaling.Scaling(4, 1, 9)

    @pytest.mark.parametrize("name", ["alpha", "beta", "gamma"])
    def test_a_base_below_one_is_an_error(self, name):
        with pytest.raises(ValueError, match=f"`{name}` should be at least 1. Received: {name}=0.9"):
            scaling.compound_scaling(1, **{name: 0.9})

    def test_scaling_a_network_multiplies_its_cost_by_about_two(self):
        # Where rounding is small: no B0, whose first stages have one block.
        blocks, step = ["r20_k3_s2_e4_i400_o400", "r20_k3_s2_e4_i400_o400"], scaling.compound_scaling(1)
        small = multiply_adds(expand(blocks), 448)
        large = multiply_adds(expand(blocks, step.width, step.depth), round(448 * step.resolution))
        assert large / small == pytest.approx(1.92, rel=0.02)


class TestGridSearch:
    def test_candidates_keep_the_constraint(self):
        candidates = scaling.compound_candidates()
        assert (1.2, 1.1, 1.15) in candidates
        assert (2.0, 1.0, 1.0) in candidates
        assert (1.0, 1.0, 1.4) in candidates
        assert (1.0, 1.0, 1.5) not in candidates
        assert len({*candidates}) == len(candidates) > 50
        for alpha, beta, gamma in candidates:
            assert 1.9 - 1e-6 <= alpha * beta**2 * gamma**2 <= 2.1 + 1e-6
            assert min(alpha, beta, gamma) >= 1

    def test_a_coarse_grid_by_hand(self):
        # 1, 1.5, 2 each: only 2 * 1 * 1 gives 2.
        assert scaling.compound_candidates(step=0.5, tolerance=0) == ((2.0, 1.0, 1.0),)
        # 1 * 1.5^2 = 2.25, twice; 1.5 is 0.5 away.
        assert scaling.compound_candidates(step=0.5, tolerance=0.25) == ((1, 1, 1.5), (1, 1.5, 1), (2, 1, 1))

    @pytest.mark.parametrize("wrong", [{"step": 0}, {"tolerance": -0.1}])
    def test_an_impossible_grid_is_an_error(self, wrong):
        with pytest.raises(ValueError, match="`step` should be above 0 and `tolerance` at least 0"):
            scaling.compound_candidates(**wrong)

    def test_the_best_comes_first(self):
        def accuracy(alpha, beta, gamma):
            return -((alpha - 1.2) ** 2 + (beta - 1.1) ** 2 + (gamma - 1.15) ** 2)

        found = scaling.search_compound_scaling(accuracy)
        assert found[0] == (0.0, (1.2, 1.1, 1.15))
        assert len(found) == len(scaling.compound_candidates())
        assert [score for score, _ in found] == sorted((score for score, _ in found), reverse=True)

    def test_own_candidates_and_ties_in_their_order(self):
        tried = [(2, 1, 1), (1, 1.4, 1), (1, 1, 1.4)]
        found = scaling.search_compound_scaling(lambda *_: 0.5, tried)
        assert found == tuple((0.5, bases) for bases in tried)

    def test_none_is_an_error(self):
        with pytest.raises(ValueError, match="No candidates"):
            scaling.search_compound_scaling(max, [])


class TestReleasedBesideFormula:
    def test_the_released_coefficients(self):
        rows = scaling.released_beside_formula()
        assert [row.name for row in rows] == [f"efficientnet-b{number}" for number in range(1, 8)]
        assert [row.released.depth for row in rows] == [1.1, 1.2, 1.4, 1.8, 2.2, 2.6, 3.1]
        assert [row.released.width for row in rows] == [1.0, 1.1, 1.2, 1.4, 1.6, 1.8, 2.0]
        assert [row.released_size for row in rows] == [240, 260, 300, 380, 456, 528, 600]
        assert rows[-1].released.resolution == pytest.approx(600 / 224)

    def test_the_formula_is_near_and_no_other_phi_is_nearer(self):
        def distance(row, phi):
            other = scaling.compound_scaling(phi)
            pairs = zip(vars(row.released).values(), vars(other).values(), strict=True)
            return sum(math.log(a / b) ** 2 for a, b in pairs)

        for row in scaling.released_beside_formula():
            assert row.formula == scaling.compound_scaling(row.phi)
            assert distance(row, row.phi) < min(distance(row, row.phi - 0.01), distance(row, row.phi + 0.01))
            for field in ("depth", "width", "resolution"):
                assert getattr(row.formula, field) == pytest.approx(getattr(row.released, field), rel=0.09)

    def test_b2_and_b7_in_numbers(self):
        rows = {row.name: row for row in scaling.released_beside_formula()}
        assert (round(rows["efficientnet-b2"].phi, 2), rows["efficientnet-b2"].formula_size) == (1.02, 258)
        assert (round(rows["efficientnet-b7"].phi, 2), rows["efficientnet-b7"].formula_size) == (6.63, 566)

    def test_phi_of_an_exact_scaling_is_found(self):
        assert scaling.fitted_phi(scaling.compound_scaling(2.5)) == pytest.approx(2.5)


class TestScaleV2:
    def test_only_the_late_stages_get_the_additional_layers(self):
        scaled = [parse_block(text) for text in scaling.scale_v2(S, 1.2, 1.0, late_depth=2.0)]
        assert [block.repeats for block in scaled] == [3, 5, 5, 8, 18, 30]

    def test_without_a_late_depth_it_is_plain_scaling(self):
        assert expand(scaling.scale_v2(S, 1.3, 1.2)) == expand(S, 1.2, 1.3)

    def test_ones_change_nothing(self):
        assert scaling.scale_v2(S, 1, 1) == S

    def test_takes_specs_and_other_stages(self):
        specs = [parse_block(text) for text in VARIANTS["testing"].blocks]
        scaled = scaling.scale_v2(specs, 1, 1, late_depth=3, late_stages=(4,))
        assert [parse_block(text).repeats for text in scaled] == [1, 2, 1, 6, 1]

    @pytest.mark.parametrize(
        "arguments, message",
        [
            ({"depth": 0, "width": 1}, "depth_coefficient"),
            ({"depth": 1, "width": -1}, "width_coefficient"),
            ({"depth": 1.5, "width": 1, "late_depth": 1.2}, "`late_depth` should be at least `depth`"),
            ({"depth": 1, "width": 1, "late_stages": (6, 7)}, "stages 1 to 6. Received: late_stages=.6, 7."),
            ({"depth": 1, "width": 1, "late_stages": (0,)}, "stages 1 to 6"),
        ],
    )
    def test_impossible_ones_are_errors(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            scaling.scale_v2(S, **arguments)


class TestScaleImageSize:
    @pytest.mark.parametrize(
        "size, resolution, expected",
        [(384, 1.0, 384), (384, 1.25, 480), (384, 1.5, 480), (224, 1.15, 256), (224, 1.0, 224), (8, 1, 16)],
    )
    def test_multiples_of_16_up_to_480(self, size, resolution, expected):
        assert scaling.scale_image_size(size, resolution) == expected

    def test_another_cap(self):
        assert scaling.scale_image_size(384, 2.0, maximum=520) == 520

    @pytest.mark.parametrize("wrong", [(0, 1), (384, 0), (384, -1)])
    def test_impossible_ones_are_errors(self, wrong):
        with pytest.raises(ValueError, match="should be above 0"):
            scaling.scale_image_size(*wrong)


class TestScaledFamily:
    def test_s_is_the_network_itself_and_no_image_is_larger_than_480(self):
        small, medium, large = scaling.scaled_family(S)
        assert (small.name, small.blocks, small.train_size, small.eval_size) == ("s", S, 304, 384)
        assert (medium.name, medium.train_size, medium.eval_size) == ("m", 384, 480)
        assert (large.name, large.train_size, large.eval_size) == ("l", 384, 480)

    def test_the_late_stages_grow_most(self):
        networks = scaling.scaled_family(S)
        repeats = [[parse_block(text).repeats for text in network.blocks] for network in networks]
        assert repeats == [[2, 4, 4, 6, 9, 15], [3, 5, 5, 8, 17, 27], [3, 6, 6, 9, 22, 36]]

    @pytest.mark.parametrize("index, name", [(1, "efficientnetv2-m"), (2, "efficientnetv2-l")])
    def test_from_s_come_about_the_released_costs(self, index, name):
        network, released = scaling.scaled_family(S)[index], VARIANTS[name]
        blocks = expand(network.blocks)
        assert parameters(blocks)[0] == pytest.approx(released.parameters, rel=0.1)
        cost = multiply_adds(expand(released.blocks), released.eval_size)
        assert network.eval_size == released.eval_size
        assert multiply_adds(blocks, network.eval_size) == pytest.approx(cost, rel=0.1)

    def test_of_a_smaller_network(self):
        blocks = VARIANTS["testing"].blocks
        sizes = scaling.scaled_family(blocks, eval_size=32, late_stages=(4, 5))
        assert [network.eval_size for network in sizes] == [32, 48, 48]
        costs = [multiply_adds(expand(network.blocks), network.eval_size) for network in sizes]
        assert costs == sorted(costs)
        assert len({*costs}) == 3
