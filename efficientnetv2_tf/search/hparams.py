"""The configuration of a search: a recipe, which is what the found network is trained with, and a section `search`."""

from typing import Annotated, Literal

import pydantic
from pydantic import Field

from efficientnetv2_tf.networks.block_string import round_filters
from efficientnetv2_tf.networks.variants import get_variant
from efficientnetv2_tf.search.space import OPERATIONS, SearchSpace, SpaceError
from efficientnetv2_tf.training.hparams import (
    Amount,
    Config,
    ConfigError,
    Count,
    CountOrOff,
    Frozen,
    Integers,
    ModelConfig,
    Numbers,
    Strings,
    resolve,
)

Weight = Annotated[float, Field(le=0)]  # an exponent of the reward; 0 is off


class SearchConfig(Frozen):
    """What is searched, how, and what a candidate is trained with (EfficientNetV2, ICML 2021, section 3.3).

    The backbone is the recipe's `model`: any variant, of any width and depth.
    """

    # random; tpe: tree-structured Parzen estimator; reinforce: a controller that learns by policy gradients
    sampler: Literal["random", "tpe", "reinforce"] = "tpe"
    trials: Count = 1000  # networks to evaluate, over all processes of the study
    minutes: Amount = 0.0  # after which this process begins no more; 0: off
    prune: bool = True  # end a training that is behind the median of the others at the same epoch
    step_time_exponent: Weight = -0.07  # of the reward: w, of the training step's time ...
    parameters_exponent: Weight = -0.05  # ... and v, of the number of parameters
    study: Annotated[str, Field(min_length=1)] = "efficientnetv2"  # its name in the storage
    # sqlite:///FILE, postgresql+psycopg://..., mysql+pymysql://..., or a file FILE.journal; None: study.db in --output
    storage: str | None = None
    operations: Strings = OPERATIONS
    kernel_sizes: Integers = (3, 5)
    expand_ratios: Integers = (1, 4, 6)
    layer_changes: Integers = (-2, -1, 0, 1, 2)  # to the number of blocks that the backbone's stage has
    se_ratios: Numbers = (0.0, 0.25)  # 0: no squeeze-and-excitation
    width_factors: Numbers = (1.0,)  # of which one multiplies the channels of all stages
    max_parameters: Count | None = None
    max_multiply_adds: Count | None = None  # of an image of the proxy's size
    proxy_epochs: Count = 10
    proxy_image_size: Count | None = None  # px; None: the first stage's of the recipe
    proxy_train_split: str | None = None  # None: the recipe's
    # What candidates are judged by. None is the recipe's own, after which its test accuracy tells less than it seems.
    proxy_eval_split: str | None = None
    seed: CountOrOff = 0  # of what is drawn; that of the trainings is runtime.seed


class SearchRecipe(Config):
    """A `Config`, and what of it a search is to improve."""

    model: ModelConfig = ModelConfig(name="efficientnet-b4")  # the paper's backbone
    search: SearchConfig = SearchConfig()


def check_recipe(recipe):
    """Refuses what a search cannot do.

    Args:
        recipe: a `SearchRecipe`.

    Raises:
        ConfigError: there is such a thing, or the short training is impossible.
    """
    if recipe.train.init_weights is not None:
        raise ConfigError(
            "train.init_weights: expected null, for pretrained weights fit no other network than their own. Received: "
            f"{recipe.train.init_weights}"
        )
    if recipe.runtime.strategy not in ("auto", "one_device"):
        raise ConfigError(
            "runtime.strategy: expected auto or one_device, for each process of a search trains on one device; start "
            f"one for each, with CUDA_VISIBLE_DEVICES=0 and so on. Received: {recipe.runtime.strategy}"
        )
    proxy_config(recipe)


def proxy_config(recipe, blocks=None):
    """The short training that a candidate is judged by.

    Args:
        recipe: a `SearchRecipe`.
        blocks: block strings, with all scaling applied; None is the backbone.

    Returns:
        A `Config`: one stage of few epochs at a small size, with the recipe's first, weakest regularisation.
    """
    search, progressive = recipe.search, resolve(recipe).progressive
    size = search.proxy_image_size or progressive.image_size[0]
    first = {name: (getattr(progressive, name)[0],) * 2 for name in ("randaugment", "mixup", "cutmix")}
    dropout = None if progressive.dropout is None else (progressive.dropout[0],) * 2
    epochs = search.proxy_epochs
    warmup = min(recipe.train.lr_warmup_epochs, epochs / 4)
    return plain_config(
        recipe,
        blocks,
        data={
            "eval_image_size": size,
            "train_split": search.proxy_train_split or recipe.data.train_split,
            "eval_split": search.proxy_eval_split or recipe.data.eval_split,
            "num_train_images": None,
        },
        progressive={"stages": 1, "image_size": (size, size), "dropout": dropout, **first},
        train={"epochs": epochs, "min_steps": 0, "lr_warmup_epochs": warmup, "eval_every_epochs": 1},
    )


def plain_config(recipe, blocks=None, **changes):
    """The recipe without its section `search`.

    Args:
        recipe: a `SearchRecipe`.
        blocks: block strings of the network, with all scaling applied; None is the backbone.
        **changes: for each section a dictionary of values to replace.

    Returns:
        A `Config`.

    Raises:
        ConfigError: the changes contradict what the recipe says.
    """
    if blocks is not None:
        # The feature size is scaled like the blocks: by the coefficients that are 1 from here on.
        scaled = {"width_coefficient": 1.0, "depth_coefficient": 1.0, "feature_size": _feature_size(recipe.model)}
        changes["model"] = {"blocks": tuple(blocks), **scaled, **changes.get("model", {})}
    sections = {name: getattr(recipe, name) for name in Config.model_fields}
    for name, values in changes.items():
        sections[name] = sections[name].model_copy(update=values)
    try:
        return Config(**sections)
    except pydantic.ValidationError as error:
        problems = "; ".join(item["msg"] for item in error.errors(include_url=False))
        raise ConfigError(f"The search's short training is impossible with this recipe: {problems}") from error


def _feature_size(model):
    """Channels of the last convolution of every candidate."""
    variant = get_variant(model.name)
    width = variant.width_coefficient if model.width_coefficient is None else model.width_coefficient
    return round_filters(model.feature_size or variant.feature_size, width)


def make_space(recipe, num_classes=1000):
    """The networks that a recipe searches among.

    Args:
        recipe: a `SearchRecipe`.
        num_classes: of the data set.

    Returns:
        A `SearchSpace`.

    Raises:
        SpaceError: there is nothing to choose from, an option is impossible, or no network is within the limits.
    """
    model, search = recipe.model, recipe.search
    if model.blocks is not None:
        raise SpaceError(
            "model.blocks: expected null, for a search begins from a variant (model.name, model.width_coefficient, "
            f"model.depth_coefficient). Received: {list(model.blocks)}"
        )
    return SearchSpace(
        backbone=model.name,
        width_coefficient=model.width_coefficient,
        depth_coefficient=model.depth_coefficient,
        feature_size=model.feature_size,
        num_classes=num_classes,
        image_size=search.proxy_image_size or resolve(recipe).progressive.image_size[0],
        **{
            name: getattr(search, name)
            for name in (
                "operations", "kernel_sizes", "expand_ratios", "layer_changes", "se_ratios", "width_factors",
                "max_parameters", "max_multiply_adds",
            )
        },
    )
