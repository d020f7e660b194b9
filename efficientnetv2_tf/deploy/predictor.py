"""What pictures show, by a model on this machine or by a server. Importing this needs no TensorFlow."""

import pathlib

from rich.console import Console
from rich.progress import Progress

from efficientnetv2_tf.data.folder_listing import EXPLANATION
from efficientnetv2_tf.data.sources import DataError
from efficientnetv2_tf.deploy.prediction import (
    Prediction,
    check_output,
    find_pictures,
    prediction_table,
    write_predictions,
)
from efficientnetv2_tf.training.hparams import ConfigError

_BATCH_SIZE = 16


def predict(inputs, *, model=None, url=None, output=None, explain=False, console=None):
    """Names what pictures show, prints a table, and writes it.

    Files that cannot be read or decoded are reported and passed over.

    Args:
        inputs: files, folders and glob patterns; see `prediction.find_pictures`.
        model: path of a training's folder, a .keras file, or what `export` wrote; see `runners.open_model`.
        url: of a model on a server instead, http://HOST:PORT/v1/models/NAME; see `client.predict`.
        output: path of a .csv or .json file to write, or None.
        explain: whether to draw, beside each picture PATH, what the network looked at, as PATH.explain.png: the picture
            and the same with a heat map. It takes a training, a .keras file or a SavedModel.
        console: a `rich.console.Console`; None prints to the terminal.

    Returns:
        A list with a `Prediction` for each picture.

    Raises:
        ConfigError: an argument is impossible, or there is no such model.
        ServingError: the server cannot be reached, or answers with an error that is not a picture's fault.
        DataError: not one of the pictures can be read; `output` is written all the same.
        OSError: a folder cannot be read, or something cannot be written.
    """
    check_output(output)
    if (model is None) == (url is None):
        raise ConfigError("Expected a model's path or a server's address, and not both.")
    if url and explain:
        raise ConfigError("A server's answer has no heat map to draw: explain with a training or a SavedModel.")
    console, paths = console or Console(), find_pictures(inputs)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("Predicting", total=len(paths))
        predictions = _ask(paths, model, url, explain, lambda number: bar.advance(task, number))
    console.print(prediction_table(predictions))
    if output:
        write_predictions(predictions, output)
        console.print(f"Wrote {output}")
    if all(prediction.problem for prediction in predictions):
        raise DataError(f"Not one of {len(predictions)} files is a picture that can be read.")
    return predictions


def _ask(paths, model, url, explain, advance):
    if url:
        from efficientnetv2_tf.deploy import client

        return client.predict(paths, url, progress=advance)
    from efficientnetv2_tf.deploy.runners import open_model

    classify, predictions = open_model(model, explain=explain), []
    for start in range(0, len(paths), _BATCH_SIZE):
        batch = paths[start : start + _BATCH_SIZE]
        predictions += _classify(batch, classify, explain)
        advance(len(batch))
    return predictions


def _classify(paths, classify, explain):
    """A `Prediction` for each of a few paths."""
    contents = [_read(path) for path in paths]
    outputs = classify([b"" if isinstance(content, OSError) else content for content in contents])
    predictions = []
    for row, (path, content) in enumerate(zip(paths, contents, strict=True)):
        prediction = _prediction(path, content, outputs["classes"][row], outputs["scores"][row])
        if explain and not prediction.problem:
            _draw(prediction, content, outputs["heatmap"][row], outputs["region"][row])
        predictions.append(prediction)
    return predictions


def _read(path):
    try:
        return path.read_bytes()
    except OSError as error:
        return error


def _prediction(path, content, classes, scores):
    if isinstance(content, OSError):
        return Prediction(path, problem=content.strerror or str(content))
    if not any(classes):
        return Prediction(path, problem=_why(content))
    return Prediction(path, tuple(name.decode() for name in classes), tuple(map(float, scores)))


def _why(content):
    """Why a picture was not decoded."""
    from efficientnetv2_tf.data.image_check import check_image, pillow_without_limit

    with pillow_without_limit():
        facts = check_image(content)
    return f"{facts.problem}: {facts.detail}" if facts.problem else "it cannot be decoded"


def _draw(prediction, content, heatmap, region):
    from efficientnetv2_tf.data.decode import decode
    from efficientnetv2_tf.deploy.explain import draw_explanation

    path = pathlib.Path(prediction.path)
    title = f"{prediction.classes[0]}, {prediction.scores[0]:.1%}"
    draw_explanation(decode(content).numpy(), heatmap, region, title, path.with_name(path.name + EXPLANATION))
