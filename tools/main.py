"""The command line: trains, evaluates and plans.

    python tools/main.py --mode=train --model=efficientnetv2-s
    python tools/main.py --mode=eval --model_dir=runs/...
    python tools/main.py --mode=plan --hparams=paper --model=efficientnetv2-m
"""

import pathlib
import sys

from absl import app, flags, logging

FLAGS = flags.FLAGS
flags.DEFINE_enum(
    "mode",
    "train",
    ["train", "eval", "plan"],
    "train: trains a network, or goes on with an interrupted training. eval: evaluates what a training left in "
    "--model_dir. plan: prints the stages of a recipe, without building anything.",
)
flags.DEFINE_string("model", None, "Network, for example efficientnetv2-s. Default: the recipe's.")
flags.DEFINE_string(
    "dataset",
    None,
    "digits (needs no download), cifar10, cifar100, flowers102, tf_flowers, cars196, imagenet2012, or tfds:NAME. "
    "Chooses the recipe of the same name where --hparams names none.",
)
flags.DEFINE_multi_string(
    "hparams",
    [],
    "A recipe (a YAML file, or a name in hparams/), or overrides such as train.epochs=20,data.batch_size=64. May be "
    "given several times; later ones win.",
)
flags.DEFINE_string("model_dir", None, "Folder of the training. Default: a new one under ./runs.")
flags.DEFINE_string("data_dir", None, "Folder of the data set. Default: the data set's own.")
# The official release's names.
flags.DEFINE_alias("model_name", "model")
flags.DEFINE_alias("dataset_cfg", "dataset")
flags.DEFINE_alias("hparam_str", "hparams")


def main(argv):
    if argv[1:]:
        raise app.UsageError(f"Arguments that are no flags: {' '.join(argv[1:])}")
    try:
        {"train": _train, "eval": _evaluate, "plan": _plan}[FLAGS.mode]()
    except KeyboardInterrupt:
        _fail("Interrupted. The same command with the same --model_dir goes on from the last checkpoint.", code=130)
    except _expected_errors() as error:
        _fail(str(error))


def _train():
    config = _configure()
    console = _console()
    _show_plan(config, console)
    _load_tensorflow(config, console)
    from efficientnetv2_tf.training import trainer
    from efficientnetv2_tf.training.run_folder import RunFolder

    folder = RunFolder(pathlib.Path(FLAGS.model_dir)) if FLAGS.model_dir else None
    trainer.train(config, folder, console=console)


def _evaluate():
    from efficientnetv2_tf.training.hparams import ConfigError
    from efficientnetv2_tf.training.run_folder import RunFolder

    if not FLAGS.model_dir:
        raise ConfigError("--mode=eval needs --model_dir, the folder of a training.")
    folder, console = RunFolder(pathlib.Path(FLAGS.model_dir)), _console()
    _load_tensorflow(folder.read_config(), console)
    from efficientnetv2_tf.training import trainer

    trainer.evaluate(folder, console=console)


def _plan():
    _show_plan(_configure(), _console())


def _configure():
    """The configuration that the flags ask for; every mistake in them is found here, before TensorFlow loads."""
    from efficientnetv2_tf.data.sources import check_source_name
    from efficientnetv2_tf.training.recipes import load_config
    from efficientnetv2_tf.training.release_keys import recipe_for_dataset

    recipes = [item for item in FLAGS.hparams if "=" not in item]
    recipe = recipes[0] if recipes else recipe_for_dataset(FLAGS.dataset or "digits")
    overrides = list(FLAGS.hparams)
    if recipes:
        overrides.remove(recipe)
    dataset = FLAGS.dataset
    if dataset and recipe_for_dataset(dataset):  # a name of the release's, such as Cifar10Ft
        dataset = load_config(recipe_for_dataset(dataset)).data.dataset
    config = load_config(recipe, overrides, model=FLAGS.model, dataset=dataset, data_dir=FLAGS.data_dir)
    if FLAGS.mode == "train":
        check_source_name(config.data.dataset)
    return config


def _show_plan(config, console):
    from efficientnetv2_tf.training.hparams import resolve
    from efficientnetv2_tf.training.plan import make_plan, plan_table

    config = resolve(config)
    console.print(plan_table(config, make_plan(config)))


def _load_tensorflow(config, console):
    from efficientnetv2_tf.training.startup import load_tensorflow

    console.print("Loading TensorFlow ...")
    load_tensorflow(onednn=config.runtime.onednn)
    logging.set_verbosity(logging.WARNING)


def _console():
    from rich.console import Console

    # Where nobody looks, lines should not be broken for a width that is not there.
    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def _expected_errors():
    """The errors whose message says all; others are ours, and keep their traceback."""
    from efficientnetv2_tf.data.sources import DataError
    from efficientnetv2_tf.training.hparams import ConfigError

    errors = [ConfigError, DataError, OSError]
    if "tensorflow" in sys.modules:
        from efficientnetv2_tf.training.callbacks import NonFiniteLossError
        from efficientnetv2_tf.training.checkpoint import CheckpointError

        errors += [NonFiniteLossError, CheckpointError]
    return tuple(errors)


def _fail(message, code=1):
    print(f"Error: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    app.run(main)
