"""The process in which one peer trains; `python -m` of this module, asked by `peers.PeerProcess`.

The first request is {"peer", "config", "began", "warm_up"}, answered after the steps of the warm-up; a further one is
{"steps"}, answered with their times. Between answers the training stands still inside its own loop, which for Keras is
`fit`, so that a step is measured with all that belongs to it.
"""

import importlib
import time

import numpy as np

from efficientnetv2_tf.benchmark import peer_networks
from efficientnetv2_tf.benchmark.peers import CLASSES, LEARNING_RATE, WEIGHT_DECAY, serve_peers
from efficientnetv2_tf.child_process import answer_lines
from efficientnetv2_tf.training.hparams import Config
from efficientnetv2_tf.training.process_memory import current_memory, peak_memory

_FOREVER = 10**9  # steps; nobody waits for the last


class Turns:
    """Between the steps of a training: says how long they took, and waits to be asked for more.

    Args:
        work: the first request.
        next_request: function that waits for a further one.
        tell: function that answers.
    """

    def __init__(self, work, next_request, tell):
        self._next_request, self._tell = next_request, tell
        self._began, self._warm_up = work["began"], work["warm_up"]
        self._facts, self._seconds, self._left, self._last = {}, [], None, None

    def imported(self):
        """To be called when the libraries are loaded."""
        self._facts["imported"] = time.time() - self._began

    def built(self, parameters):
        """To be called when network and optimizer are there."""
        self._facts |= {
            "built": time.time() - self._began,
            "parameters": int(parameters),
            "memory_built": current_memory(),
        }

    def step_done(self):
        """To be called when a step has ended."""
        now = time.perf_counter()
        if self._left is None:
            self._warm_up -= 1
            self._facts.setdefault("first_step", time.time() - self._began)
            if self._warm_up <= 0:
                self._wait(self._facts)
            return
        self._seconds.append(now - self._last)
        self._last = now
        if len(self._seconds) == self._left:
            # The first one finds its data where others have used the caches meanwhile.
            self._wait({"seconds": self._seconds[1:], "peak_memory": peak_memory()})

    def _wait(self, answer):
        self._tell(answer)
        self._left, self._seconds = self._next_request()["steps"] + 1, []
        self._last = time.perf_counter()


def batch(config):
    """The one batch that all train on.

    Args:
        config: a resolved `Config`.

    Returns:
        (images: float32 [batch, size, size, 3] in -1..1, labels: float32 [batch, 1000], one-hot).
    """
    rng, size, number = np.random.default_rng(0), config.progressive.image_size[1], config.data.batch_size
    images = rng.uniform(-1, 1, [number, size, size, 3]).astype(np.float32)
    return images, np.eye(CLASSES, dtype=np.float32)[np.arange(number) % CLASSES]


def _train_ours(config, turns, average=False):
    from efficientnetv2_tf.training.startup import load_tensorflow

    load_tensorflow(onednn=config.runtime.onednn)
    import keras
    import tensorflow as tf

    from efficientnetv2_tf.training.building import build_classifier

    turns.imported()
    keras.utils.set_random_seed(config.runtime.seed)
    train = config.train if average else config.train.model_copy(update={"ema_decay": 0.0})
    config = config.model_copy(update={"train": train})
    classifier = build_classifier(config, tf.distribute.get_strategy(), _FOREVER, 1)
    turns.built(_parameters(classifier))
    _fit(classifier, config, turns)


def _train_ours_average(config, turns):
    _train_ours(config, turns, average=True)


def _train_keras(library, build):
    """A function that trains as Keras does by default, on the network that `build(model, image_size)` makes."""

    def train(config, turns):
        import keras

        importlib.import_module(library)
        turns.imported()
        keras.utils.set_random_seed(config.runtime.seed)
        model = build(config.model, config.progressive.image_size[1])
        loss = keras.losses.CategoricalCrossentropy(from_logits=True)
        model.compile(keras_optimizer(model), loss, metrics=[])
        turns.built(_parameters(model))
        _fit(model, config, turns)

    return train


def keras_optimizer(model):
    """Keras' AdamW for a Keras model; as this package's, it decays kernels only."""
    import keras

    from efficientnetv2_tf.training.optimizers import is_kernel

    optimizer = keras.optimizers.AdamW(LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    optimizer.exclude_from_weight_decay([v for v in model.trainable_variables if not is_kernel(v)])
    return optimizer


def _parameters(model):
    return sum(np.prod(variable.shape) for variable in model.trainable_variables)


def _fit(model, config, turns):
    import keras
    import tensorflow as tf

    batches = tf.data.Dataset.from_tensors(batch(config)).repeat(_FOREVER)
    watch = keras.callbacks.LambdaCallback(on_train_batch_end=lambda step, logs: turns.step_done())
    model.fit(batches, verbose=0, shuffle=False, callbacks=[watch])


def _train_timm(config, turns, compiled=False):
    import torch

    importlib.import_module("timm")
    turns.imported()
    torch.manual_seed(config.runtime.seed)
    model = peer_networks.timm_network(config.model).train()
    optimizer = torch_optimizer(model)
    images, labels = map(torch.from_numpy, batch(config))
    images = images.permute(0, 3, 1, 2)  # whose memory is channels last, as that of the network's weights
    turns.built(sum(parameter.numel() for parameter in model.parameters()))
    forward = torch.compile(model, dynamic=False) if compiled else model
    for _ in range(_FOREVER):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(forward(images), labels)
        loss.backward()
        optimizer.step()
        loss.item()
        turns.step_done()


def torch_optimizer(model):
    """PyTorch's AdamW for a `torch.nn.Module`; likewise."""
    import torch

    kernels = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups = [{"params": kernels, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=LEARNING_RATE)


def _train_timm_compiled(config, turns):
    _train_timm(config, turns, compiled=True)


_TRAINERS = {
    "ours": _train_ours,
    "ours_average": _train_ours_average,
    "keras_applications": _train_keras("keras", peer_networks.keras_applications),
    "keras_hub": _train_keras("keras_hub", peer_networks.keras_hub),
    "keras_cv": _train_keras("keras_cv", peer_networks.keras_cv),
    "timm": _train_timm,
    "timm_compiled": _train_timm_compiled,
}


def _begin(work, next_request, tell):
    config = Config.model_validate_json(work["config"])
    _TRAINERS[work["peer"]](config, Turns(work, next_request, tell))


if __name__ == "__main__":
    answer_lines(serve_peers(_begin))
