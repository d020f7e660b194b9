"""Times each stage of a network, and what this machine can do at most, in a process of its own for `roofline.py`.

`python -m` of this module answers one request, see `child_process.py`.
"""

import json

from efficientnetv2_tf.benchmark.steps import make_classifier, medians, network_costs, random_batch, take_turns
from efficientnetv2_tf.child_process import answer_lines
from efficientnetv2_tf.training.hparams import Config

_PRODUCTS = (1024, 2048, 4096)  # sides of the matrices, of which the fastest counts
_STREAM = 2**26  # elements of each of the two arrays, 256 MiB: far more than caches hold
_BYTES = 4  # of a float32


def work(costs, batch_size):
    """Operations and bytes of each stage for one batch.

    Args:
        costs: `StageCost`s.
        batch_size: images.

    Returns:
        A dictionary from the stage's name to {"forward": (operations, bytes), "training": (operations, bytes)}.
    """
    found = {}
    for cost in costs:
        operations = 2 * cost.multiply_adds * batch_size
        moved = cost.product_bytes * batch_size + cost.parameters * _BYTES
        passes = 2 if cost.name == "stem" else 3  # nobody needs the gradient of a picture
        found[cost.name] = {"forward": (operations, moved), "training": (passes * operations, passes * moved)}
    return found


def measure(request, products=_PRODUCTS, stream=_STREAM):
    """Times stages, whole network and machine in turns.

    Args:
        request: {"config", JSON of a resolved `Config`; "image_size", "batch_size", "rounds", "steps", "seed"}.
        products: sides of the square matrices.
        stream: elements of the arrays that measure the memory.

    Returns:
        {"gflops", "gigabytes"} a second of the machine, its best round; "stages" and "whole", see `roofline.measure`,
        without what follows from seconds, operations and bytes.
    """
    config = Config.model_validate_json(request["config"])
    batch_size, image_size = request["batch_size"], request["image_size"]
    batch = random_batch(batch_size, image_size, config.model.num_classes, request["seed"])
    classifier = make_classifier(config)
    costs = network_costs(classifier.network, image_size)
    steps = _stage_steps(classifier.network, costs, batch[0])
    steps |= _whole_steps(classifier, batch)
    limits = {("product", side): _product(side) for side in products} | {"stream": _stream(stream)}
    seconds = take_turns(steps | limits, request["rounds"], request["steps"])
    amounts, times = work(costs, batch_size), medians(seconds)

    def entry(name, kind, operations, moved):
        return {"seconds": times[name, kind], "operations": operations, "bytes": moved}

    stages = [
        {"name": name, **{kind: entry(name, kind, *amount) for kind, amount in kinds.items()}}
        for name, kinds in amounts.items()
    ]
    totals = {
        kind: [sum(column) for column in zip(*(kinds[kind] for kinds in amounts.values()), strict=True)]
        for kind in ("forward", "training")
    }
    return {
        "gflops": max(2 * side**3 / min(seconds["product", side]) for side in products) / 1e9,
        "gigabytes": 3 * _BYTES * stream / min(seconds["stream"]) / 1e9,
        "stages": stages,
        "whole": {"name": "whole network", **{kind: entry("whole", kind, *total) for kind, total in totals.items()}},
    }


def cut(network):
    """The network as Keras models, one a stage of `stage_costs`, which share its variables.

    Args:
        network: an `EfficientNet` with its classifier.
    """
    import keras

    ends, block = [network.get_layer("stem_activation").output], -1
    for stage in network.blocks:
        block += len(stage)
        ends.append(network.get_layer(f"blocks_{block}").output)
    begins, ends = [network.input, *ends], [*ends, network.output]
    return [keras.Model(begin, end) for begin, end in zip(begins, ends, strict=True)]


def _stage_steps(network, costs, images):
    """{(stage, kind): function}, each on inputs that the stages before give for these images."""
    import tensorflow as tf

    steps, x = {}, tf.constant(images)
    for stage, cost in zip(cut(network), costs, strict=True):
        forward, training = _stage_functions(stage, with_inputs=cost.name != "stem")
        outputs = forward(x)
        upstream = tf.random.stateless_normal(outputs.shape, seed=[0, 0], dtype=outputs.dtype)
        steps[cost.name, "forward"] = _ending(forward, x)
        steps[cost.name, "training"] = _ending(training, x, upstream)
        x = outputs
    return steps


def _stage_functions(stage, with_inputs):
    """Forward pass in inference; and in training with gradients of weights and, if asked for, inputs."""
    import tensorflow as tf

    from efficientnetv2_tf.training.as_traced import as_traced

    variables = [v.value for v in stage.trainable_variables]

    @tf.function
    def forward(x):
        return stage(x, training=False)

    @as_traced
    @tf.function
    def training(x, upstream):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = stage(x, training=True)
        return tape.gradient(outputs, [x, *variables] if with_inputs else variables, output_gradients=upstream)

    return forward, training


def _whole_steps(classifier, batch):
    import tensorflow as tf

    from efficientnetv2_tf.training.as_traced import as_traced

    network, (images, labels) = classifier.network, map(tf.constant, batch)
    forward = tf.function(lambda x: network(x, training=False))
    # As `fit` runs it, without a pipeline.
    step = as_traced(tf.function(classifier.train_step))
    whole = {"forward": _ending(forward, images), "training": _ending(step, (images, labels))}
    return {("whole", kind): run for kind, run in whole.items()}


def _ending(function, *arguments):
    """A function without arguments that ends when all of the results are there, on a GPU as well."""
    import tensorflow as tf

    def run():
        results = tf.nest.flatten(function(*arguments))
        tf.reshape(results[-1], [-1])[:1].numpy()

    return run


def _product(side):
    import tensorflow as tf

    matrix = tf.random.stateless_normal([side, side], seed=[0, side])
    return _ending(tf.function(tf.linalg.matmul), matrix, matrix)


def _stream(elements):
    """Reads two arrays and writes one, in place, so that no new memory is asked for."""
    import tensorflow as tf

    total, other = tf.Variable(tf.zeros([elements])), tf.ones([elements])

    @tf.function
    def add():
        total.assign_add(other)
        return other[:1]

    return _ending(add)


def _serve(lines, tell):
    from efficientnetv2_tf.training.startup import load_tensorflow

    request = json.loads(next(lines))
    load_tensorflow(onednn=Config.model_validate_json(request["config"]).runtime.onednn)
    tell(measure(request))


if __name__ == "__main__":
    answer_lines(_serve)
