"""Loading, and the values of the recipes field by field."""

import pytest
import yaml

from efficientnetv2_tf.networks.variants import VARIANTS
from efficientnetv2_tf.training.hparams import Config, ConfigError, diff, flat, resolve
from efficientnetv2_tf.training.recipes import RECIPES_DIR, find_recipe, list_recipes, load_config, to_yaml

RECIPES = [
    *("digits", "testing", "release", "paper", "imagenet21k", "finetune", "imagenet_finetune"),
    *("benchmark_digits", "benchmark_mnist5k", "mnist5k", "cifar10", "cifar100", "flowers102", "tf_flowers", "cars196"),
]


@pytest.fixture
def write(tmp_path):
    """Writes a recipe into a folder of its own and gives its path."""

    def _write(name, text):
        path = tmp_path / f"{name}.yaml"
        path.write_text(text)
        return str(path)

    return _write


def changes(config):
    """What is not the default, as {dotted key: value}."""
    defaults = flat(Config())
    return {key: value for key, value in flat(config).items() if value != defaults[key]}


def error_of(*args, **kwargs):
    with pytest.raises(ConfigError) as caught:
        load_config(*args, **kwargs)
    return str(caught.value)


# --- merging ---


def test_nothing_gives_the_defaults():
    assert load_config() == Config()


def test_order_of_recipe_overrides_and_arguments(write):
    base = write("base", "train: {epochs: 10, rho: 0.1, beta_1: 0.1}\ndata: {dataset: cifar10}")
    more = write("more", "train: {rho: 0.2, beta_1: 0.2}")
    config = load_config(
        base, [more, "train.beta_1=0.3", "train.beta_2=0.4,train.beta_2=0.5"], dataset="digits"
    )
    assert changes(config) == {
        "train.epochs": 10,
        "train.rho": 0.2,
        "train.beta_1": 0.3,
        "train.beta_2": 0.5,
    }


def test_arguments_are_shorthands(tmp_path):
    config = load_config(
        "paper", ["model.name=efficientnetv2-s"], model="efficientnetv2-l", data_dir=tmp_path
    )
    assert config.model.name == "efficientnetv2-l"
    assert config.progressive.randaugment == (5, 25)  # the paper's for L
    assert config.data.data_dir == str(tmp_path)


def test_one_override_may_come_without_a_list():
    assert load_config(None, "train.epochs=20").train.epochs == 20
    assert load_config(None, "").train.epochs == load_config(None, [""]).train.epochs == 350


def test_extends_and_per_model(write):
    write("parent", "train: {epochs: 10, rho: 0.1}\nper_model: {testing: {train: {rho: 0.2, beta_1: 0.2}}}")
    child = write(
        "child", "extends: parent\ntrain: {beta_1: 0.3}\nper_model: {efficientnetv2-s: {data: {flip: off}}}"
    )
    expected = {"train.epochs": 10, "train.rho": 0.1, "train.beta_1": 0.3, "data.flip": False}
    assert changes(load_config(child)) == expected
    config = load_config(child, "model.name=testing,progressive.image_size=32")
    assert (config.train.rho, config.train.beta_1, config.data.flip) == (0.2, 0.3, True)


def test_per_model_loses_against_overrides():
    assert load_config("release", "progressive.mixup=0.7", model="efficientnetv2-m").progressive.mixup == (
        0.7,
        0.7,
    )


def test_one_end_of_a_pair(write):
    config = load_config(
        None, "progressive.randaugment.1=15,progressive.image_size.0=96,progressive.mixup.1=0.2"
    )
    assert config.progressive.randaugment == (5, 15)
    assert config.progressive.image_size == (96, None)
    assert config.progressive.mixup == (0, 0.2)
    assert load_config(
        None, "progressive.randaugment=7,progressive.randaugment.0=3"
    ).progressive.randaugment == (3, 7)
    recipe = write("ends", "progressive: {cutmix.1: 0.5}")
    assert load_config(recipe).progressive.cutmix == (0, 0.5)
    assert "progressive.dropout.0: expected a valid number. Received: None" in error_of(
        None, "progressive.dropout.1=0.3"
    )


@pytest.mark.parametrize("text", ["[5,15]", "5|15", "[5, 15]"])
def test_pairs_in_overrides(text):
    assert load_config(None, f"progressive.randaugment={text}").progressive.randaugment == (5, 15)


def test_numbers_with_exponents_and_booleans(write):
    recipe = write("numbers", "train: {weight_decay: 1e-3, lr_per_256_images: 5E-1}\ndata: {flip: off}")
    assert changes(load_config(recipe)) == {
        "train.weight_decay": 0.001,
        "train.lr_per_256_images": 0.5,
        "data.flip": False,
    }
    assert load_config(None, "train.weight_decay=1e-3").train.weight_decay == 0.001


def test_another_data_set_drops_what_the_recipe_said_of_its_own():
    assert load_config("cifar10").data.num_train_images == 50000
    assert load_config("cifar10", dataset="folder:/photos").data.num_train_images is None
    assert load_config("cifar10", "train.epochs=20").data.num_train_images == 50000
    own = load_config("cifar10", "data.num_train_images=100,model.num_classes=3", dataset="folder:/photos")
    assert (own.data.num_train_images, own.model.num_classes) == (100, 3)


@pytest.mark.parametrize("recipe", RECIPES)
def test_written_configs_are_read_back(recipe, tmp_path):
    path = tmp_path / "config.yaml"
    for config in (load_config(recipe), resolve(load_config(recipe, "model.num_classes=7"))):
        path.write_text(to_yaml(config))
        assert load_config(path) == config
        assert load_config("digits", [str(path)]) == config


# --- errors ---


def test_all_problems_at_once_with_their_origin(write):
    recipe = write("wrong", "train: {epoch: 3, optimizer: lamb}\nprogressive: {randaugment: [5, 40]}\nfoo: 1")
    lines = error_of(recipe, ["train.epochs=ten,data.batch_size=0", "train=5"]).splitlines()
    assert lines[0] == "The configuration has 7 problems:"
    assert {line.strip() for line in lines[1:]} == {
        f"train.epoch is not a key. Did you mean train.epochs? (from {recipe})",
        f"foo is not a key. (from {recipe})",
        "train: expected keys below this section. Received: 5 (from override 'train=5')",
        "data.batch_size: expected a number greater than or equal to 1. Received: 0 "
        "(from override 'data.batch_size=0')",
        "progressive.randaugment.1: expected a number less than or equal to 30. Received: 40 "
        f"(from {recipe})",
        "train.epochs: expected a valid integer. Received: 'ten' (from override 'train.epochs=ten')",
        f"train.optimizer: expected 'rmsprop', 'adamw' or 'sgd'. Received: 'lamb' (from {recipe})",
    }


@pytest.mark.parametrize(
    "key, nearest",
    [
        ("train.epoch", "train.epochs"),
        ("epochs", "train.epochs"),
        ("data.mixup", "progressive.mixup"),
        ("train.learning_rate_schedule", "train.lr_schedule"),
        ("progressive.mixup.2", "progressive.mixup"),
        ("train.epochs.1", "train.epochs"),
    ],
)
def test_unknown_keys_show_the_nearest(key, nearest):
    assert error_of(None, f"{key}=1").startswith(f"{key} is not a key. Did you mean {nearest}?")


def test_contradictions_name_their_origin():
    text = error_of(None, "train.epochs=2,progressive.stages=3")
    assert "train.lr_warmup_epochs: expected at most train.epochs (2). Received: 5.0 (the default)" in text
    assert "progressive.stages: expected at most train.epochs (2). Received: 3 (from override" in text


def test_unknown_models_show_the_nearest():
    assert "Did you mean efficientnetv2-s" in error_of(None, model="efficientnetv2s")
    assert "Received: 'efficientnetv2s' (from the arguments)" in error_of(None, model="efficientnetv2s")


def test_missing_recipes_show_the_nearest_and_all():
    text = error_of("papers")
    assert "Did you mean paper?" in text
    assert all(name in text for name in RECIPES)
    assert "nor KEY=VALUE" in error_of(None, "train.epochs")


def test_malformed_files_name_file_and_line(write):
    recipe = write("bad", "train:\n  epochs: 3\n epochs: 4\n")
    assert error_of(recipe).startswith(f"{recipe}, line 3, column")
    assert error_of(write("twice", "train: {rho: 0.1, rho: 0.2}")).endswith("the key 'rho' is given twice.")


@pytest.mark.parametrize(
    "text, message",
    [
        ("extends: nowhere", "'nowhere' is neither a YAML file nor a recipe"),
        ("extends: [digits, paper]", "extends: expected the name of one recipe"),
        ("extends: wrong", "which extends it in turn"),
        ("per_model: 3", "per_model: expected {MODEL: {SECTION: ...}}"),
        (
            "per_model: {efficientnetv2s: {}}",
            "'efficientnetv2s' is not a model. Did you mean efficientnetv2-s?",
        ),
        ("per_model: {testing: {model: {name: testing}}}", "model.name cannot be set here"),
        ("per_model: {testing: {train: {epoch: 3}}}", "train.epoch is not a key"),
    ],
)
def test_wrong_extends_and_per_model(write, text, message):
    recipe = write("wrong", text)
    assert message in error_of(recipe) and recipe in error_of(recipe)


# --- the recipes ---


def test_recipes_are_found_by_name_and_path():
    assert set(RECIPES) <= set(list_recipes())
    assert find_recipe("paper") == find_recipe("paper.yaml") == find_recipe(RECIPES_DIR / "paper.yaml")


@pytest.mark.parametrize("path", sorted(RECIPES_DIR.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_opens_with_command_result_and_time(path):
    head = path.read_text().split("\n\n")[0]
    for start in ("#   python tools/main.py --mode=train ", "# Expected result: ", "# Time: "):
        assert f"\n{start}" in head


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_list_only_what_differs_from_what_they_extend(recipe):
    document = yaml.safe_load(find_recipe(recipe).read_text())
    base = flat(load_config(document.get("extends")))
    own = {
        f"{section}.{name}": value
        for section, fields in document.items()
        if section not in ("extends", "per_model")
        for name, value in fields.items()
    }
    loaded = flat(load_config(recipe))
    same = [key for key in own if loaded[key] == base[key]]
    # The data set is stated even where it is the default, and the paper's CutMix is off for M, L and XL.
    assert set(same) <= {"data.dataset", "progressive.cutmix"}


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if recipe not in ("release", "paper")])
@pytest.mark.parametrize("model", VARIANTS)
def test_recipes_load_for_every_model(recipe, model):
    first, last = resolve(load_config(recipe, model=model)).progressive.image_size
    assert first <= last


# train_size, eval_size, dropout, last RandAugment, last mixup = cutmix, augmentation; 4 stages
RELEASE = {
    "efficientnetv2-s": (300, 384, 0.2, 10, 0.0, "randaugment"),
    "efficientnetv2-m": (384, 480, 0.3, 15, 0.2, "randaugment"),
    "efficientnetv2-l": (384, 480, 0.4, 20, 0.5, "randaugment"),
    "efficientnetv2-xl": (384, 512, 0.4, 20, 0.5, "randaugment"),
    "efficientnetv2-b0": (192, 224, 0.2, 0, 0.0, "autoaugment"),
    "efficientnetv2-b1": (192, 240, 0.2, 0, 0.0, "autoaugment"),
    "efficientnetv2-b2": (208, 260, 0.3, 0, 0.0, "autoaugment"),
    "efficientnetv2-b3": (240, 300, 0.3, 0, 0.0, "autoaugment"),
}


@pytest.mark.parametrize("model", RELEASE)
def test_release(model):
    config = resolve(load_config("release", model=model))
    train, evaluation, dropout, randaugment, mix, augment = RELEASE[model]
    assert config.progressive.stages == 4
    assert config.progressive.image_size == (128, train)
    assert config.progressive.image_size_ramp == "release"
    assert config.progressive.randaugment[1] == randaugment
    assert config.progressive.randaugment[0] == (5 if randaugment else 0)
    assert config.progressive.mixup == config.progressive.cutmix == (0, mix)
    assert config.progressive.dropout is None
    assert config.model.dropout_rate == dropout
    assert config.model.drop_connect_rate == 0.2
    assert config.data.augment == augment
    assert config.data.randaugment_layers == 2
    assert config.data.eval_image_size == evaluation
    assert (config.data.dataset, config.data.num_train_images) == ("imagenet", 1281167)
    assert config.data.batch_size == 4096
    assert config.train == Config().train  # whose values test_hparams.py lists


@pytest.mark.parametrize(
    "number, train, evaluation", [(0, 176, 224), (3, 240, 300), (4, 304, 380), (7, 480, 600)]
)
def test_release_trains_the_first_family_in_one_stage(number, train, evaluation):
    config = resolve(load_config("release", model=f"efficientnet-b{number}"))
    assert config.progressive.stages == 1
    assert config.progressive.image_size[1] == train
    assert config.data.eval_image_size == evaluation
    assert config.data.augment == "autoaugment"
    assert config.progressive.mixup == config.progressive.cutmix == (0, 0)


def test_release_and_paper_know_every_variant_but_the_testing_one():
    for model in VARIANTS:
        if model != "testing":
            assert load_config("release", model=model) and load_config("paper", model=model)
    assert len([model for model in VARIANTS if model.startswith("efficientnet-")]) == 10


PAPER = {  # first and last stage: image size, RandAugment, mixup, dropout (ICML 2021, Table 6)
    "efficientnetv2-s": ((128, 300), (5, 15), (0, 0), (0.1, 0.3)),
    "efficientnetv2-m": ((128, 380), (5, 20), (0, 0.2), (0.1, 0.4)),
    "efficientnetv2-l": ((128, 380), (5, 25), (0, 0.5), (0.1, 0.5)),
}


@pytest.mark.parametrize("model", PAPER)
def test_paper(model):
    config = resolve(load_config("paper", model=model))
    progressive = config.progressive
    assert (progressive.image_size, progressive.randaugment, progressive.mixup, progressive.dropout) == PAPER[
        model
    ]
    assert progressive.cutmix == (0, 0)
    assert progressive.stages == 4
    assert progressive.image_size_ramp == "linear"
    release = resolve(load_config("release", model=model))
    assert all(line.startswith("progressive.") for line in diff(release, config))


def test_imagenet21k():
    assert changes(resolve(load_config("imagenet21k", model="efficientnetv2-xl"))) == {
        "model.name": "efficientnetv2-xl",
        "model.dropout_rate": 0,
        "model.drop_connect_rate": 0,
        "data.dataset": "imagenet21k",
        "data.num_train_images": 12720275,
        "data.preprocessing": "v2",
        "data.eval_batch_size": 4096,
        "data.eval_image_size": 224,
        "data.augment": "none",
        "data.multi_label": True,
        "progressive.stages": 1,
        "progressive.image_size": (224, 224),
        "train.epochs": 60,
        "train.lr_per_256_images": 0.008,
        "train.lr_schedule": "cosine",
        "train.lr_warmup_epochs": 1,
        "train.label_smoothing": 0,
    }


FINETUNE = {
    "model.dropout_rate": 0,
    "data.batch_size": 512,
    "data.preprocessing": "finetune",
    "data.crop": "none",
    "data.augment": "erase",
    "progressive.stages": 1,
    "progressive.image_size": (None, "eval"),
    "train.epochs": 15,
    "train.min_steps": 10000,
    "train.lr_per_256_images": 0.0005,
    "train.lr_schedule": "constant",
    "train.lr_warmup_epochs": 1,
    "train.ema_decay": 0.9996,
}


@pytest.mark.parametrize(
    "recipe, dataset, images",
    [
        ("imagenet_finetune", "imagenet2012", 1281167),
        ("cifar10", "cifar10", 50000),
        ("cifar100", "cifar100", 50000),
        ("flowers102", "flowers102", 2040),
        ("tf_flowers", "tf_flowers", 2569),
        ("cars196", "cars196", 8144),
    ],
)
def test_finetuning(recipe, dataset, images):
    assert changes(load_config("finetune")) == FINETUNE
    config = load_config(recipe)
    assert changes(config) == FINETUNE | {"data.dataset": dataset, "data.num_train_images": images}
    # What the release has beyond that is the default.
    assert config.train.optimizer == "rmsprop"
    assert config.train.weight_decay == 1e-5
    assert config.train.label_smoothing == 0.1
    assert config.model.drop_connect_rate == 0.2
    assert config.progressive.mixup == config.progressive.cutmix == (0, 0)


@pytest.mark.parametrize("model, size", [("efficientnetv2-s", 384), ("efficientnetv2-b3", 300)])
def test_finetuning_trains_at_the_evaluation_size(model, size):
    config = resolve(load_config("cifar10", model=model))
    assert config.progressive.image_size[1] == config.data.eval_image_size == size
    smaller = resolve(load_config("cifar10", "data.eval_image_size=128", model=model))
    assert smaller.progressive.image_size[1] == smaller.data.eval_image_size == 128


def test_testing_is_small():
    config = load_config("testing")
    assert config.model.name == "testing"
    assert config.data.dataset == "digits"
    assert (config.train.epochs, config.progressive.stages, config.data.batch_size) == (2, 2, 64)
    assert config.progressive.image_size == (24, 32)


def test_digits_is_progressive_and_changes_no_digit_into_another():
    config = load_config("digits")
    assert config.data.dataset == "digits"
    assert config.progressive.stages == 4
    assert config.progressive.image_size[0] < config.progressive.image_size[1] == config.data.eval_image_size
    assert config.progressive.randaugment[0] < config.progressive.randaugment[1]
    assert not config.data.flip and config.data.crop == "none"
