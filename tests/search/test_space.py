"""Every choice is a network, and what it costs is known before it is built."""

import itertools
import random

import pytest

from efficientnetv2_tf.networks.block_string import expand, parse_block
from efficientnetv2_tf.networks.cost import parameters, variant_multiply_adds
from efficientnetv2_tf.networks.variants import get_variant
from efficientnetv2_tf.search.space import Cost, SearchSpace, SpaceError


def random_network(space, seed):
    generator = random.Random(seed)
    return space.network(lambda _, options: generator.choice(options))


def test_b4_s_space_has_the_paper_s_choices():
    space = SearchSpace()
    options = space.options()
    assert len(options) == 7 * 5
    assert options["stage 2 operation"] == ("mbconv", "fused_mbconv")
    assert options["stage 2 kernel size"] == (3, 5)
    assert options["stage 2 expand ratio"] == (1, 4, 6)
    assert options["stage 1 layers"] == (1, 2, 3, 4)  # B4's first stage has two blocks, and none has less than one
    assert options["stage 6 layers"] == (6, 7, 8, 9, 10)
    # 24 of operation, kernel, expansion and squeeze-and-excitation; stages 1 and 7 have four numbers of layers.
    assert space.size == 24**7 * 4**2 * 5**5


@pytest.mark.parametrize("backbone", ["efficientnet-b4", "efficientnetv2-s", "efficientnetv2-b0"])
def test_every_choice_is_a_network_with_the_backbone_s_channels_and_strides(backbone):
    space = SearchSpace(backbone)
    variant = get_variant(backbone)
    shape = [
        (stage[0].stride, stage[0].input_filters, stage[0].output_filters)
        for stage in expand(variant.blocks, variant.width_coefficient, variant.depth_coefficient)
    ]
    for seed in range(20):
        blocks = random_network(space, seed)
        specs = [parse_block(block) for block in blocks]
        assert [(spec.stride, spec.input_filters, spec.output_filters) for spec in specs] == shape
        assert [len(stage) for stage in expand(blocks)] == [spec.repeats for spec in specs]


def test_the_backbone_costs_what_its_variant_does():
    space = SearchSpace("efficientnet-b4", image_size=380)
    cost = space.cost(space.backbone_blocks())
    assert cost == Cost(get_variant("efficientnet-b4").parameters, variant_multiply_adds("efficientnet-b4", 380))


def test_a_network_has_the_parameters_that_were_counted():
    from efficientnetv2_tf.networks.model import get_model

    space = SearchSpace("efficientnetv2-b0", width_coefficient=0.25, depth_coefficient=0.2, num_classes=10)
    blocks = random_network(space, 3)
    model = get_model(
        "efficientnetv2-b0",
        blocks=list(blocks),
        width_coefficient=1,
        depth_coefficient=1,
        feature_size=space.scaled_feature_size,
        num_classes=10,
    )
    trainable = sum(variable.shape.num_elements() for variable in model.trainable_variables)
    assert space.cost(blocks).parameters == trainable
    assert parameters(expand(blocks), feature_size=space.scaled_feature_size, num_classes=10)[0] == trainable


def test_limits_are_those_of_the_costs():
    free = SearchSpace("efficientnetv2-b0")
    networks = [random_network(free, seed) for seed in range(30)]
    costs = sorted(free.cost(blocks).parameters for blocks in networks)
    limited = SearchSpace("efficientnetv2-b0", max_parameters=costs[14])
    assert sum(limited.excess(blocks) is None for blocks in networks) == 15
    largest = max(networks, key=lambda blocks: free.cost(blocks).parameters)
    assert limited.excess(largest) == f"{costs[-1]:,} parameters, more than max_parameters={costs[14]:,}"


def test_limits_that_nothing_satisfies():
    with pytest.raises(SpaceError, match=r"`max_parameters` should be at least ([\d,]+), which .* Received: 1,000"):
        SearchSpace(max_parameters=1000)
    with pytest.raises(SpaceError, match="`max_multiply_adds` should be at least"):
        SearchSpace(max_multiply_adds=1000)


def test_the_least_cost_is_that_of_a_network():
    """The limit that the message gives can be set, and one less cannot."""
    space = SearchSpace("efficientnetv2-b0", layer_changes=(0, 1))
    least = space._least()
    SearchSpace("efficientnetv2-b0", layer_changes=(0, 1), max_parameters=least.parameters)
    with pytest.raises(SpaceError):
        SearchSpace("efficientnetv2-b0", layer_changes=(0, 1), max_parameters=least.parameters - 1)
    assert all(space.cost(random_network(space, seed)).parameters >= least.parameters for seed in range(50))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"operations": ()}, "`operations` should have at least one option"),
        ({"operations": ("conv",)}, "`operations` should be of .* Received: conv"),
        ({"kernel_sizes": (3, 3)}, "`kernel_sizes` should have each option once"),
        ({"kernel_sizes": (4,)}, "impossible option.*must be odd"),
        ({"expand_ratios": (0,)}, "impossible option.*must be at least 1"),
        ({"se_ratios": (1.5,)}, "impossible option.*within 0..1"),
    ],
)
def test_no_space(changes, message):
    with pytest.raises(SpaceError, match=message):
        SearchSpace(**changes)


def test_the_space_is_the_same_in_each_process():
    """The order of the options decides what a seed gives."""
    assert random_network(SearchSpace(), 0) == random_network(SearchSpace(), 0)
    assert [*SearchSpace().options()][:5] == [
        f"stage 1 {what}" for what in ("operation", "kernel size", "expand ratio", "layers", "se ratio")
    ]


def test_width_is_one_choice_for_all_stages():
    space = SearchSpace("efficientnetv2-b0", width_factors=(0.5, 1.0), max_parameters=10**7)
    assert next(iter(space.options())) == "width factor" and len(space.options()) == 1 + 6 * 5
    own = SearchSpace("efficientnetv2-b0")
    assert space.size == 2 * own.size
    choose = {"width factor": 1.0}
    assert space.network(lambda name, options: choose.get(name, options[0])) == own.network(lambda _, o: o[0])
    narrow = [parse_block(block) for block in space.network(lambda _, options: options[0])]
    wide = [parse_block(block) for block in own.network(lambda _, options: options[0])]
    assert [spec.output_filters for spec in narrow] == [8, 16, 24, 48, 56, 96]
    assert [spec.output_filters for spec in wide] == [16, 32, 48, 96, 112, 192]
    assert all(a.output_filters == b.input_filters for a, b in itertools.pairwise(narrow))
    with pytest.raises(SpaceError, match="`max_parameters` should be at least"):
        SearchSpace("efficientnetv2-b0", width_factors=(0.5, 1.0), max_parameters=space._least().parameters - 1)
    assert space._least().parameters < own._least().parameters


def test_efficientnetv2_s_pattern():
    blocks = SearchSpace("efficientnet-b0").v2_blocks()
    assert blocks[0] == "r1_k3_s1_e1_i32_o16_c1"
    assert blocks[2] == "r2_k3_s2_e4_i24_o40_c1"
    assert blocks[3] == "r3_k3_s2_e4_i40_o80_se0.25"
    assert blocks[6] == "r1_k3_s1_e6_i192_o320_se0.25"
    # That of V2-B0 is its own.
    assert SearchSpace("efficientnetv2-b0").v2_blocks() == SearchSpace("efficientnetv2-b0").backbone_blocks()


def test_share_within_limits():
    space = SearchSpace("efficientnetv2-b0", num_classes=10)
    assert space.share_within_limits() == 1.0
    middle = sorted(space.cost(random_network(space, seed)).parameters for seed in range(101))[50]
    half = SearchSpace("efficientnetv2-b0", num_classes=10, max_parameters=middle)
    assert 0.3 < half.share_within_limits() < 0.7
