"""What a training leaves when it is done: the network, the classes' names, the picture, the last figures."""

import contextlib

from efficientnetv2_tf.files import replacing
from efficientnetv2_tf.training import callbacks, pictures
from efficientnetv2_tf.training.run_folder import write_json


def write_results(classifier, task, folder, summary, console, results):
    """Saves the averaged weights, draws, and sums up.

    Args:
        classifier: the trained `Classifier`.
        task: the `Task`.
        folder: the `RunFolder`.
        summary: the `RunSummary`.
        console: a `rich.console.Console`.
        results: loss and accuracy of (raw weights, averaged weights), as dictionaries.
    """
    raw, averaged = results
    images = task.source.eval.count - summary.count_bad_images()["eval"]
    average = classifier.average.applied() if classifier.average else contextlib.nullcontext()
    with average, replacing(folder.model) as temporary:
        _portable(classifier.network, task.config.model.normalization).save(temporary)
    write_json(folder.classes, list(task.source.class_names))
    title = f"{task.config.model.name} on {task.source.name}: {averaged['accuracy']:.2%}"
    pictures.draw_training(callbacks.read_metrics(folder.metrics), folder.training_picture, title)
    summary.write(
        steps=int(classifier.optimizer.iterations.numpy()),
        parameters=classifier.network.count_params(),
        test_images=images,
        test_accuracy=averaged["accuracy"],
        test_loss=averaged["loss"],
        test_accuracy_raw=raw["accuracy"],
        test_loss_raw=raw["loss"],
    )
    console.print(
        f"Test accuracy {averaged['accuracy']:.4f} with averaged weights, {raw['accuracy']:.4f} with raw weights, "
        f"over {images} images.\nTook {summary.values['seconds']:.0f} s. Written to {folder.path}: "
        + ", ".join(sorted(path.name for path in folder.path.iterdir() if not path.name.startswith(".")))
    )


def _portable(network, normalization):
    """The network with the configured normalisation, where several replicas were trained with another."""
    if network.normalization == normalization:
        return network
    copy = network.from_config({**network.get_config(), "normalization": normalization})
    copy.set_weights(network.get_weights())
    return copy
