"""The command line: trains, evaluates, plans, imports weights, shows the family, exports, predicts and serves.

python tools/main.py --mode=train --model=efficientnetv2-s
python tools/main.py --mode=eval --model_dir=runs/...
python tools/main.py --mode=plan --hparams=paper --model=efficientnetv2-m
python tools/main.py --mode=import --model=efficientnetv2-s --weights=efficientnetv2-s.tgz --output=s.keras
python tools/main.py --mode=models
python tools/main.py --mode=export --model_dir=runs/... --output=exports
python tools/main.py --mode=predict --images=photos --model_dir=runs/...
python tools/main.py --mode=serve --export=exports
python tools/main.py --mode=benchmark --output=benchmark
"""

import logging as standard_logging
import pathlib
import shlex
import sys

from absl import app, flags, logging

FLAGS = flags.FLAGS
FLAGS["verbosity"].help = (
    "What a training says: -2 only errors (the rest is in summary.json), -1 the usual, 0 also what TensorFlow says and "
    "a line every ten seconds, 1 a line each step."
)
flags.DEFINE_enum(
    "mode",
    "train",
    [
        "train",
        "traineval",
        "eval",
        "plan",
        "preview",
        "verify_data",
        "benchmark",
        "benchmark_input",
        "benchmark_memory",
        "benchmark_fused",
        "search",
        "import",
        "models",
        "export",
        "predict",
        "serve",
    ],
    "train: trains a network, or goes on with an interrupted training (traineval: the official release's name for it). "
    "eval: evaluates what a training left in --model_dir. plan: prints the stages of a recipe, without building "
    "anything. preview: draws what each stage trains on, to --output. verify_data: opens every picture of a data set; "
    "lists and draws what it finds into the folder --output. benchmark: measures this package beside "
    "keras.applications, keras-hub, keras-cv and timm on this machine, into the folder --output. benchmark_input: "
    "measures the input pipeline, beside the official release's way. benchmark_memory: measures what a training step "
    "takes with gradient accumulation and with recomputation. benchmark_fused: measures EfficientNet-B4 with fused "
    "stages, the paper's ablation. search: looks "
    "for a better network, and writes it to the folder --output. import: reads --weights and writes the network with "
    "them to --output. models: prints the family as a table, and draws it to --output. export: writes what a training "
    "left for production to --output. predict: names what the pictures --images show. serve: a stand-in for TF "
    "Serving, for trying.",
)
flags.DEFINE_string("model", None, "Network, for example efficientnetv2-s. Default: the recipe's.")
flags.DEFINE_string(
    "dataset",
    None,
    "digits and mnist5k (need no download), folder:PATH (your own pictures, one folder a class), tfds:NAME, "
    "tfrecord:GLOB, imagenet and imagenet21k (TFRecords in --data_dir), cifar10, cifar100, flowers102, tf_flowers, "
    "cars196 or imagenet2012. Chooses the recipe of the same name, or own_images, where --hparams names none.",
)
flags.DEFINE_multi_string(
    "hparams",
    [],
    "A recipe (a YAML file, or a name in hparams/), or overrides such as train.epochs=20,data.batch_size=64. May be "
    "given several times; later ones win.",
)
flags.DEFINE_string("model_dir", None, "Folder of the training. Default: a new one under ./runs.")
flags.DEFINE_string("data_dir", None, "Folder of the data set. Default: the data set's own.")
flags.DEFINE_string(
    "weights",
    None,
    "For --mode=import: an official checkpoint (prefix, folder or .tgz), a Keras file (.h5, .weights.h5, .keras) of "
    "keras.applications, keras-cv or keras-hub, timm's .safetensors or .pth, or imagenet, imagenet21k or "
    "imagenet21k-ft1k: the official ones, downloaded once.",
)
flags.DEFINE_string(
    "output",
    None,
    "For --mode=import: the .keras file to write. For --mode=models and preview: the .png file to draw; default: "
    "models.png or preview.png. For --mode=verify_data and the benchmarks: the folder for their files; "
    "default: the current one. For --mode=search: the folder of the search; default: search. For --mode=export: the "
    "folder for models. For --mode=predict: a .csv or .json file.",
)
flags.DEFINE_list("format", ["saved_model"], "For --mode=export: of saved_model, tflite and onnx.")
flags.DEFINE_string("name", None, "For --mode=export: of the model's folder and files. Default: the network's.")
flags.DEFINE_list(
    "tflite_modes",
    None,
    "For --mode=export: of float32, float16, dynamic, int8, int8_mixed (sensitive parts in float32) and int16x8. "
    "Default: all but int8_mixed.",
)
flags.DEFINE_bool("uint8_io", None, "For --mode=export: whether TFLite's mode int8 takes and gives uint8.")
flags.DEFINE_integer(
    "tflite_images",
    None,
    "For --mode=export: evaluation pictures on which TFLite is compared, at most. Default: all.",
    lower_bound=1,
)
flags.DEFINE_float(
    "min_agreement", None, "For --mode=export: share of pictures on which each TFLite file has to agree."
)
flags.DEFINE_multi_string("images", [], "For --mode=predict: files, folders and patterns.")
flags.DEFINE_bool("explain", False, "For --mode=predict: draws what the network looked at, beside each picture.")
flags.DEFINE_string("url", None, "For --mode=predict: a model on a server, http://HOST:PORT/v1/models/NAME.")
flags.DEFINE_string(
    "export",
    None,
    "For --mode=serve: the folder with NAME/VERSION/saved_model.pb in it. For --mode=predict: what was exported, a "
    ".keras, .tflite or .onnx file, or the folder of a SavedModel.",
)
flags.DEFINE_integer("port", 8501, "For --mode=serve: port; 0 takes a free one.", lower_bound=0, upper_bound=65535)
flags.DEFINE_string("host", "127.0.0.1", "For --mode=serve: address to listen on. There is no password.")
# The official release's names.
flags.DEFINE_alias("model_name", "model")
flags.DEFINE_alias("dataset_cfg", "dataset")
flags.DEFINE_alias("hparam_str", "hparams")
flags.DEFINE_alias("sweeps", "hparams")
# Taken, so that a command line of the release runs, and reported.
_WITHOUT_MEANING = {
    "tpu": "runtime.strategy and runtime.tpu choose the device",
    "tpu_job_name": "runtime.strategy and runtime.tpu choose the device",
    "tpu_zone": "runtime.strategy and runtime.tpu choose the device",
    "gcp_project": "runtime.strategy and runtime.tpu choose the device",
    "eval_name": "an evaluation has no name",
    "use_tpu": "runtime.strategy and runtime.tpu choose the device",
    "archive_ckpt": "the averaged weights are in model.keras",
    "export_to_tpu": "there is no Estimator any more",
}
for _name, _why in _WITHOUT_MEANING.items():
    _define = flags.DEFINE_bool if _name in ("use_tpu", "archive_ckpt", "export_to_tpu") else flags.DEFINE_string
    _define(_name, None, f"The official release's; ignored: {_why}.")


def main(argv):
    if argv[1:]:
        raise app.UsageError(f"Arguments that are no flags: {' '.join(argv[1:])}")
    for name, why in _WITHOUT_MEANING.items():
        if FLAGS[name].present:
            print(f"ignored: --{name} ({why})", file=sys.stderr)
    try:
        _MODES[FLAGS.mode]()
    except KeyboardInterrupt as error:
        print(str(error) or "Interrupted.", file=sys.stderr)
        sys.exit(getattr(error, "exit_code", 130))
    except _expected_errors() as error:
        place = {"train": "a --model_dir", "traineval": "a --model_dir"}.get(FLAGS.mode, "an --output")
        hint = f" Choose {place} that can be written to, or free some space." if isinstance(error, OSError) else ""
        _fail(f"{error}{hint}")


def _train():
    config = _configure()
    console = _console(config.runtime, quiet=_verbosity() < logging.WARNING)
    _show_plan(config, console)
    _load_tensorflow(config, console)
    from efficientnetv2_tf.training import trainer

    trainer.train(config, FLAGS.model_dir, console=console)


def _evaluate():
    from efficientnetv2_tf.training.cluster import evaluation_runtime
    from efficientnetv2_tf.training.hparams import ConfigError
    from efficientnetv2_tf.training.run_folder import RunFolder

    if not FLAGS.model_dir:
        raise ConfigError("--mode=eval needs --model_dir, the folder of a training.")
    _refuse_configuration()
    config = RunFolder(pathlib.Path(FLAGS.model_dir)).read_config()
    config = config.model_copy(update={"runtime": evaluation_runtime(config.runtime)})
    console = _console(config.runtime)
    _load_tensorflow(config, console)
    from efficientnetv2_tf.training.evaluation import evaluate

    evaluate(FLAGS.model_dir, data_dir=FLAGS.data_dir, console=console)


def _plan():
    _show_plan(_configure(), _console())


def _preview():
    config, output, console = _configure(), _picture("preview.png"), _console()
    _load_tensorflow(config, console)
    from efficientnetv2_tf.training.preview import preview

    preview(config, output, console=console)


def _verify_data():
    config, console = _configure(), _console()
    _load_tensorflow(config, console)
    from efficientnetv2_tf.data import verify
    from efficientnetv2_tf.training.startup import hidden_stderr
    from efficientnetv2_tf.training.task import source_options

    with hidden_stderr():  # of each bad picture the decoders write a line of their own
        report = verify.run(config.data.dataset, source_options(config), output=FLAGS.output or ".", console=console)
    if report.bad:
        sys.exit(1)


def _benchmark():
    from efficientnetv2_tf.benchmark.benchmark import run
    from efficientnetv2_tf.benchmark.config import BenchmarkRecipe
    from efficientnetv2_tf.training.hparams import ConfigError
    from efficientnetv2_tf.training.recipes import load_config

    if FLAGS.dataset or FLAGS.model_dir:
        raise ConfigError(
            "--mode=benchmark has its own data and keeps no training: leave --dataset and --model_dir out. "
            "benchmark.progressive_recipes chooses what is trained."
        )
    one = [f"benchmark.models=[{FLAGS.model}]"] if FLAGS.model else []
    recipe = load_config(None, [*FLAGS.hparams, *one], data_dir=FLAGS.data_dir, schema=BenchmarkRecipe)
    run(recipe, FLAGS.output or ".", command=shlex.join(["python", *sys.argv]), console=_console())


def _benchmark_input():
    config, console = _configure(), _console()
    _load_tensorflow(config, console)
    from efficientnetv2_tf.data.benchmark import benchmark_input
    from efficientnetv2_tf.training.task import make_task

    task = make_task(config, console)
    data = task.config.data
    benchmark_input(task.source, data, task.plan, style=data.preprocessing, output=FLAGS.output or ".", console=console)


def _benchmark_memory():
    from efficientnetv2_tf.training.benchmark_memory import benchmark_memory
    from efficientnetv2_tf.training.recipes import load_config

    defaults = "data.batch_size=32,progressive.image_size=128"
    config = load_config(None, [defaults, *FLAGS.hparams], model=FLAGS.model)
    benchmark_memory(config, output=FLAGS.output or ".", console=_console())


def _benchmark_fused():
    from efficientnetv2_tf.training.recipes import load_config

    defaults = "data.batch_size=16,progressive.image_size=128"
    config, console = load_config(None, [defaults, *FLAGS.hparams], model="efficientnet-b4"), _console()
    _load_tensorflow(config, console)
    from efficientnetv2_tf.search.ablation import benchmark_fused
    from efficientnetv2_tf.training.hparams import resolve

    image_size = resolve(config).progressive.image_size[1]
    benchmark_fused(
        image_size=image_size, batch_size=config.data.batch_size, output=FLAGS.output or ".", console=console
    )


def _search():
    from efficientnetv2_tf.search.hparams import SearchRecipe
    from efficientnetv2_tf.training.hparams import ConfigError

    config, console = _configure("search", SearchRecipe), _console()
    try:
        from efficientnetv2_tf.search.search import search
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error}. --mode=search needs more packages: pip install -e '.[search]'") from None
    search(config, FLAGS.output or "search", console=console)


def _import():
    from efficientnetv2_tf.files import replacing
    from efficientnetv2_tf.training.hparams import ConfigError
    from efficientnetv2_tf.training.recipes import load_config

    missing = [f"--{name}" for name in ("model", "weights", "output") if not FLAGS[name].value]
    if missing:
        raise ConfigError(f"--mode=import needs --model, --weights and --output. Missing: {', '.join(missing)}.")
    output = pathlib.Path(FLAGS.output)
    if output.suffix != ".keras":
        raise ConfigError(f"--output should end in .keras. Received: {output}")
    config, console = load_config(None, FLAGS.hparams, model=FLAGS.model), _console()
    _load_tensorflow(config, console)
    from efficientnetv2_tf.networks.model import get_model
    from efficientnetv2_tf.networks.pretrained import find
    from efficientnetv2_tf.networks.pretrained_files import fetch
    from efficientnetv2_tf.networks.weights import count_classes, load_weights

    known = find(config.model.name, FLAGS.weights)
    weights = fetch(known) if known else FLAGS.weights
    sizes = config.model.model_dump()
    # As many classes as the file has, so that its classifier comes along.
    sizes["num_classes"] = sizes["num_classes"] or count_classes(weights)
    network = get_model(
        sizes.pop("name"),
        include_top=sizes["num_classes"] is not None,
        preprocessing=config.data.preprocessing or (known and known.preprocessing),
        **sizes,
    )
    console.print(str(load_weights(network, weights)), markup=False)
    with replacing(output) as temporary:
        network.save(temporary)
    console.print(f"Wrote {output}: {network.name}, {network.count_params():,} parameters.")


def _models():
    from efficientnetv2_tf.training.family import family_rows, family_table
    from efficientnetv2_tf.training.pictures import draw_family

    output = _picture("models.png")
    rows, console = family_rows(), _console()
    console.print(family_table(rows))
    draw_family(rows, output)
    console.print(f"Wrote {output}")


def _export():
    from efficientnetv2_tf.deploy.exporter import check_export, export
    from efficientnetv2_tf.training.hparams import ConfigError
    from efficientnetv2_tf.training.run_folder import RunFolder

    if not FLAGS.model_dir or not FLAGS.output:
        raise ConfigError("--mode=export needs --model_dir, the folder of a training, and --output, a folder.")
    names = ("name", "tflite_modes", "uint8_io", "min_agreement")
    options = {name: FLAGS[name].value for name in names if FLAGS[name].present}
    check_export(FLAGS.format, **options)
    options["tflite_images"] = FLAGS.tflite_images
    _refuse_configuration()
    console = _console()
    _load_tensorflow(RunFolder(pathlib.Path(FLAGS.model_dir)).read_config(), console)
    export(FLAGS.model_dir, FLAGS.output, FLAGS.format, **options, data_dir=FLAGS.data_dir, console=console)


def _predict():
    from efficientnetv2_tf.deploy.prediction import check_output, find_pictures
    from efficientnetv2_tf.deploy.predictor import predict
    from efficientnetv2_tf.training.hparams import Config, ConfigError
    from efficientnetv2_tf.training.startup import hidden_stderr

    if not FLAGS.images:
        raise ConfigError("--mode=predict needs --images: files, folders or patterns.")
    model = FLAGS.model_dir or FLAGS.export
    if [FLAGS.model_dir, FLAGS.export, FLAGS.url].count(None) != 2:
        raise ConfigError("--mode=predict needs one of --model_dir, --export and --url, to say what is asked.")
    check_output(FLAGS.output)
    images, console = find_pictures(FLAGS.images), _console()
    if model:
        _load_tensorflow(Config(), console)
    with hidden_stderr():  # of each bad picture the decoders write a line of their own
        predict(images, model=model, url=FLAGS.url, output=FLAGS.output, explain=FLAGS.explain, console=console)


def _serve():
    from efficientnetv2_tf.deploy.serving_files import check_base
    from efficientnetv2_tf.training.hparams import Config, ConfigError

    if not FLAGS.export:
        raise ConfigError("--mode=serve needs --export, a folder with NAME/VERSION/saved_model.pb in it.")
    check_base(FLAGS.export)
    console = _console()
    _load_tensorflow(Config(), console)
    try:
        from efficientnetv2_tf.deploy.serving.server import serve
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error}. --mode=serve needs more packages: pip install -e '.[serve]'") from None
    serve(FLAGS.export, host=FLAGS.host, port=FLAGS.port, console=console)


def _refuse_configuration():
    from efficientnetv2_tf.training.hparams import ConfigError

    if FLAGS.model or FLAGS.dataset or FLAGS.hparams:
        raise ConfigError(
            f"--mode={FLAGS.mode} takes a training with its own configuration: leave --model, --dataset and --hparams "
            "out."
        )


def _picture(default):
    """The .png file to write."""
    from efficientnetv2_tf.training.hparams import ConfigError

    output = pathlib.Path(FLAGS.output or default)
    if output.suffix != ".png":
        raise ConfigError(f"--output should end in .png. Received: {output}")
    return output


def _configure(default_recipe=None, schema=None):
    """The configuration that the flags ask for; every mistake in them is found here, before TensorFlow loads."""
    from efficientnetv2_tf.data.sources import check_source, list_sources
    from efficientnetv2_tf.training.hparams import Config
    from efficientnetv2_tf.training.recipes import is_override, load_config
    from efficientnetv2_tf.training.release_keys import recipe_for_dataset

    dataset, recipe = FLAGS.dataset, None
    known = not dataset or ":" in dataset or dataset in list_sources()
    release_name = None if known else recipe_for_dataset(dataset)  # of Cifar10Ft and the like
    # Under the release's names a YAML file goes over the data set's values, as there.
    if release_name or all(not item.strip() or is_override(item) for item in FLAGS.hparams):
        recipe = recipe_for_dataset(dataset) if dataset else default_recipe or "digits"
    if release_name:
        dataset = load_config(release_name).data.dataset
    chosen = {"model": FLAGS.model, "dataset": dataset, "data_dir": FLAGS.data_dir}
    config = load_config(recipe, FLAGS.hparams, **chosen, schema=schema or Config)
    if FLAGS.mode != "plan":
        check_source(config.data.dataset, config.data.data_dir)
    return config


def _show_plan(config, console):
    from efficientnetv2_tf.training.hparams import resolve
    from efficientnetv2_tf.training.plan import make_plan, plan_table

    config = resolve(config)
    console.print(plan_table(config, make_plan(config)))


def _load_tensorflow(config, console):
    from efficientnetv2_tf.training.cluster import cluster_kind
    from efficientnetv2_tf.training.startup import load_tensorflow

    console.print("Loading TensorFlow ...")
    cluster = FLAGS.mode in ("train", "traineval", "eval") and config.runtime.strategy in ("auto", "multi_worker")
    load_tensorflow(
        onednn=config.runtime.onednn,
        logical_cpus=config.runtime.logical_cpus,
        start=not (cluster and cluster_kind(config.runtime)),
        chatty=_verbosity() >= logging.INFO,
    )
    logging.set_verbosity(_verbosity())
    if _verbosity() > logging.INFO:  # what other packages have to say to those who debug them stays out
        standard_logging.getLogger().setLevel(standard_logging.INFO)


def _verbosity():
    # absl's default is -1 before its start, and 0 after it.
    return FLAGS.verbosity if FLAGS["verbosity"].present else logging.WARNING


def _console(runtime=None, *, quiet=False):
    """A console; of the workers of a cluster only the chief has one that prints."""
    from rich.console import Console

    from efficientnetv2_tf.training.cluster import is_chief_process

    if runtime is not None and runtime.strategy in ("auto", "multi_worker"):
        quiet = quiet or not is_chief_process(runtime)
    # Where nobody looks, lines should not be broken for a width that is not there.
    return Console(highlight=False, quiet=quiet, width=None if sys.stdout.isatty() else 160)


def _expected_errors():
    """The errors whose message says all; others are ours, and keep their traceback."""
    from efficientnetv2_tf.data.sources import DataError
    from efficientnetv2_tf.networks.weight_file import WeightsError
    from efficientnetv2_tf.search.space import SpaceError
    from efficientnetv2_tf.training.cluster import ClusterError
    from efficientnetv2_tf.training.hparams import ConfigError

    errors = [ConfigError, ClusterError, DataError, SpaceError, WeightsError, OSError]
    if "tensorflow" in sys.modules:
        from efficientnetv2_tf.training.checkpoint import CheckpointError
        from efficientnetv2_tf.training.nonfinite import NonFiniteError

        errors += [NonFiniteError, CheckpointError]
    if client := sys.modules.get("efficientnetv2_tf.deploy.client"):
        errors.append(client.ServingError)
    return tuple(errors)


_MODES = {
    "train": _train,
    "traineval": _train,
    "eval": _evaluate,
    "plan": _plan,
    "preview": _preview,
    "verify_data": _verify_data,
    "benchmark": _benchmark,
    "benchmark_input": _benchmark_input,
    "benchmark_memory": _benchmark_memory,
    "benchmark_fused": _benchmark_fused,
    "search": _search,
    "import": _import,
    "models": _models,
    "export": _export,
    "predict": _predict,
    "serve": _serve,
}


def _fail(message):
    print(f"Error: {message}", file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    app.run(main)
