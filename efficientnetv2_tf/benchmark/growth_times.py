"""Times steps of growing work, in processes of their own for `growth.py`.

`python -m` of this module answers one request, see `child_process.py`.
"""

import json
import time

from efficientnetv2_tf.benchmark.steps import make_classifier, medians, network_costs, random_batch, take_turns
from efficientnetv2_tf.child_process import answer_lines
from efficientnetv2_tf.networks.variants import get_variant
from efficientnetv2_tf.training.hparams import Config

_WORK = "multiply-adds"


def measure_steps(request):
    """Series by image size, batch size and depth, and of the first step by depth; see `growth.measure`.

    Args:
        request: {"config", JSON of a resolved `Config`; "image_size", "batch_size", "rounds", "steps", "seed"; and
            "image_sizes", "batch_sizes", "depths", ascending}.
    """
    config = Config.model_validate_json(request["config"])
    size, batch_size, depths = request["image_size"], request["batch_size"], request["depths"]
    _FirstStep(config, depths[0], request)  # so that no depth pays for what only the first of all steps needs
    networks = {depth: _FirstStep(config, depth, request) for depth in depths}
    own = networks.get(1.0) or _FirstStep(config, 1.0, request)
    points = {("image size", side): (own, side, batch_size) for side in request["image_sizes"]}
    points |= {("batch size", number): (own, size, number) for number in request["batch_sizes"]}
    points |= {("depth", depth): (network, size, batch_size) for depth, network in networks.items()}
    steps = {
        (*point, kind): run
        for point, (network, *shape) in points.items()
        for kind, run in network.steps(*shape, request["seed"]).items()
    }
    seconds = medians(take_turns(steps, request["rounds"], request["steps"]))
    series = []
    for name, unit in (("image size", " px"), ("batch size", ""), ("depth", "")):
        values = [value for series_name, value in points if series_name == name]
        works = [points[name, value][0].work(*points[name, value][1:]) for value in values]
        costs = {kind: [seconds[name, value, kind] for value in values] for kind in ("training", "inference")}
        series.append(_series(name, unit, _WORK, values, works, costs))
    firsts = [*networks.values()]
    costs = {"first step": [first.seconds for first in firsts], "graph nodes": [first.nodes for first in firsts]}
    series.append(_series("depth", "", "blocks", depths, [first.blocks for first in firsts], costs))
    return series


def _series(name, unit, work, values, works, costs):
    return {"name": name, "unit": unit, "work": work, "values": values, "works": works, "costs": costs}


class _FirstStep:
    """A network that was built and has made its first training step, whatever the shape of the pictures.

    Attributes:
        seconds: from nothing to the end of that step, without loading TensorFlow.
        nodes: of the step's graph, functions included.
        blocks: of the network.
    """

    def __init__(self, config, depth, request):
        import tensorflow as tf

        from efficientnetv2_tf.training.as_traced import as_traced

        model = config.model
        own = model.depth_coefficient or get_variant(model.name).depth_coefficient
        config = config.model_copy(update={"model": model.model_copy(update={"depth_coefficient": own * depth})})
        self._classes = model.num_classes
        batch = random_batch(request["batch_size"], request["image_size"], self._classes, request["seed"])
        began = time.perf_counter()
        classifier = make_classifier(config)
        self._network = network = classifier.network
        images, labels = tf.TensorSpec([None, None, None, 3]), tf.TensorSpec([None, self._classes])
        # As `fit` runs it, without a pipeline.
        traced = tf.function(classifier.train_step, input_signature=[(images, labels)])
        self._train = as_traced(traced)
        self._infer = tf.function(lambda x: network(x, training=False), input_signature=[images])
        float(self._train(batch)["loss"])
        self.seconds = time.perf_counter() - began
        self.blocks = sum(map(len, network.blocks))
        graph = traced.get_concrete_function().graph.as_graph_def()
        self.nodes = len(graph.node) + sum(len(function.node_def) for function in graph.library.function)

    def work(self, image_size, batch_size):
        """Multiply-adds of a forward pass of a batch."""
        return batch_size * sum(cost.multiply_adds for cost in network_costs(self._network, image_size))

    def steps(self, image_size, batch_size, seed):
        """{"training", "inference"}: functions that run a step to its end."""
        import tensorflow as tf

        images, labels = map(tf.constant, random_batch(batch_size, image_size, self._classes, seed))
        return {
            "training": lambda: float(self._train((images, labels))["loss"]),
            "inference": lambda: self._infer(images).numpy(),
        }


def measure_replicas(request):
    """The series by "replicas" of the request, each with a batch of its own on a logical CPU."""
    import tensorflow as tf

    config, steps, works = Config.model_validate_json(request["config"]), {}, []
    for number in request["replicas"]:
        devices = [f"CPU:{index}" for index in range(number)]
        strategy = tf.distribute.MirroredStrategy(devices) if number > 1 else tf.distribute.get_strategy()
        classifier = make_classifier(config, strategy)
        batch = random_batch(number * request["batch_size"], request["image_size"], config.model.num_classes)
        batches = strategy.experimental_distribute_dataset(tf.data.Dataset.from_tensors(batch).repeat())
        steps[number] = _training_step(classifier, iter(batches))
        works.append(_work(classifier, request, number))
    seconds = medians(take_turns(steps, request["rounds"], request["steps"]))
    costs = {"training": [seconds[number] for number in request["replicas"]]}
    return _series("replicas", "", _WORK, request["replicas"], works, costs)


def measure_worker(request):
    """(work, seconds of a training step) of the workers together; each calls it, with TF_CONFIG set."""
    import tensorflow as tf

    from efficientnetv2_tf.training.strategy import distribute, make_strategy, num_workers

    config = Config.model_validate_json(request["config"])
    strategy = make_strategy(config.runtime.model_copy(update={"strategy": "multi_worker"}))
    classifier = make_classifier(config, strategy)
    batch = random_batch(request["batch_size"], request["image_size"], config.model.num_classes)
    steps = 1 + request["rounds"] * request["steps"]  # an unmeasured one comes first
    batches = distribute(strategy, lambda shard: tf.data.Dataset.from_tensors(batch).repeat(steps), steps)
    run = _training_step(classifier, iter(batches))
    seconds = medians(take_turns({"training": run}, request["rounds"], request["steps"]))
    return _work(classifier, request, num_workers(strategy)), seconds["training"]


def _training_step(classifier, batches):
    classifier.make_train_function()
    return lambda: float(classifier.train_function(batches)["loss"])


def _work(classifier, request, number):
    costs = network_costs(classifier.network, request["image_size"])
    return number * request["batch_size"] * sum(cost.multiply_adds for cost in costs)


def _serve(lines, tell):
    from efficientnetv2_tf.training.startup import load_tensorflow

    request = json.loads(next(lines))
    kind, onednn = request["kind"], Config.model_validate_json(request["config"]).runtime.onednn
    logical_cpus = max(request["replicas"]) if kind == "replicas" else 1
    load_tensorflow(onednn=onednn, logical_cpus=logical_cpus, start=kind != "worker")
    measured = {"steps": measure_steps, "replicas": measure_replicas, "worker": measure_worker}[kind](request)
    tell(measured)
    next(lines, None)  # a worker that ends takes those down that still have to answer


if __name__ == "__main__":
    answer_lines(_serve)
