"""How long one picture takes: medians over enough runs, also of TensorFlow with a given number of threads.

TensorFlow fixes its threads when it starts, so a Keras model and a SavedModel are timed in a process of their own.
"""

import json
import os
import statistics
import subprocess
import sys
import time

BUDGET_SECONDS, MOST_RUNS, FEWEST_RUNS = 3.0, 100, 3


def median_milliseconds(call):
    """The median time of a call, over as many as fit into 3 s: 3 to 100 of them, after one that does not count.

    Args:
        call: function without arguments.
    """
    call()
    times, began = [], time.perf_counter()
    while len(times) < FEWEST_RUNS or (len(times) < MOST_RUNS and time.perf_counter() - began < BUDGET_SECONDS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1000


def tensorflow_latencies(network, saved_model, image_size, threads):
    """Times a Keras model in a `tf.function`, and a SavedModel's signature `preprocessed`, on the CPU.

    Args:
        network: path of a .keras file.
        saved_model: path of a SavedModel as `write_saved_model` writes it, or None.
        image_size: side of the picture in pixels.
        threads: number of CPU threads, at least 1.

    Returns:
        {"keras": milliseconds, "saved_model": milliseconds}, of one picture; without a SavedModel the first alone.

    Raises:
        RuntimeError: the process failed; the message has what it wrote last.
    """
    request = {"network": str(network), "saved_model": saved_model and str(saved_model), "image_size": image_size}
    settings = {f"TF_NUM_{kind}OP_THREADS": str(threads) for kind in ("INTRA", "INTER")}
    process = subprocess.run(
        [sys.executable, "-m", "efficientnetv2_tf.deploy.latency", json.dumps(request)],
        env={**os.environ, **settings, "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode:
        raise RuntimeError(f"The latency of TensorFlow could not be measured:\n{process.stderr[-2000:]}")
    return json.loads(process.stdout.splitlines()[-1])


def _measure(network, saved_model, image_size):
    from efficientnetv2_tf.training.startup import load_tensorflow

    load_tensorflow()
    import keras
    import tensorflow as tf

    model = keras.models.load_model(network, compile=False)
    picture = tf.random.stateless_normal([1, image_size, image_size, model.inputs[0].shape[-1]], seed=[0, 0])
    forward = tf.function(lambda images: model(images, training=False), autograph=False)
    latencies = {"keras": median_milliseconds(lambda: forward(picture))}
    if saved_model:
        loaded = tf.saved_model.load(saved_model)
        signature = loaded.signatures["preprocessed"]
        latencies["saved_model"] = median_milliseconds(lambda: signature(preprocessed=picture))
    return latencies


if __name__ == "__main__":
    print(json.dumps(_measure(**json.loads(sys.argv[1]))))
