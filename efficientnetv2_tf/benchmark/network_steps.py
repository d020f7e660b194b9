"""Builds and runs networks of one framework; `networks.py` asks for it, line by line.

`python -m` of this module reads one request in JSON a line on its standard input, and answers each with a line.
"""

import importlib.metadata
import json
import platform
import sys
import time

from efficientnetv2_tf.benchmark.networks import KINDS, network_blocks, timm_name
from efficientnetv2_tf.child_process import answer_lines
from efficientnetv2_tf.networks.variants import get_variant

_CLASSES = 1000
_MOMENTUM, _LEARNING_RATE = 0.9, 1e-3
_DROP_CONNECT_RATE = 0.2
_COMPILATIONS = 64  # of the same code: for training and inference of each network at each batch that was tried
# What frameworks say when there is no memory left, in lower case.
_OUT_OF_MEMORY = ("resource_exhausted", "out of memory", "failed to allocate")


class OnJax:
    """A network of ours on Keras' JAX backend, with jitted steps of SGD with momentum.

    Args:
        name: of the network.
        image_size: side in pixels.
        batch_size: images.
        precision: "bfloat16" or "float32".
    """

    packages = ("jax", "jaxlib", "keras")

    def __init__(self, name, image_size, batch_size, precision):
        import jax
        import keras
        import numpy as np

        model = _keras_model(name, image_size, precision)
        optimizer = keras.optimizers.SGD(_LEARNING_RATE, momentum=_MOMENTUM)
        optimizer.build(model.trainable_variables)
        groups = (model.trainable_variables, model.non_trainable_variables, optimizer.variables)
        # Copies: the step gives its memory away, and the model would be left with arrays that are gone.
        self._state = [[jax.numpy.copy(variable.value) for variable in group] for group in groups]
        rng = np.random.default_rng(0)
        images = rng.uniform(-1, 1, [batch_size, image_size, image_size, 3]).astype(np.float32)
        self._batch = jax.device_put((images, rng.integers(_CLASSES, size=batch_size)))
        self._train, self._infer = _jax_steps(model, optimizer)
        for kind in KINDS:
            self.run(kind, 1)

    @staticmethod
    def describe(memory):
        """The device; `memory` was said to JAX by the environment."""
        import jax

        return jax.devices()[0].device_kind

    def run(self, kind, steps):
        """Runs "training" or "inference" steps to their end."""
        import jax

        for _ in range(steps):
            if kind == "training":
                self._state, result = self._train(self._state, *self._batch)
            else:
                result = self._infer(self._state, self._batch[0])
        jax.block_until_ready(result)


def _keras_model(name, image_size, precision):
    import keras

    from efficientnetv2_tf.networks.model import get_model
    from efficientnetv2_tf.networks.precision import dtype_policy

    keras.utils.set_random_seed(0)
    variant, blocks = network_blocks(name)
    with dtype_policy("mixed_bfloat16" if precision == "bfloat16" else "float32"):
        return get_model(
            variant,
            blocks=list(blocks),
            num_classes=_CLASSES,
            image_size=image_size,
            drop_connect_rate=_DROP_CONNECT_RATE,
        )


def _jax_steps(model, optimizer):
    """Jitted functions: (state, images, labels) to (state, loss), and (state, images) to logits."""
    import jax
    import keras

    def loss(trainable, non_trainable, images, labels):
        logits, updated = model.stateless_call(trainable, non_trainable, images, training=True)
        losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        return keras.ops.mean(losses), updated

    def train(state, images, labels):
        trainable, non_trainable, slots = state
        gradient = jax.value_and_grad(loss, has_aux=True)
        (value, non_trainable), gradients = gradient(trainable, non_trainable, images, labels)
        trainable, slots = optimizer.stateless_apply(slots, gradients, trainable)
        return [trainable, non_trainable, slots], value

    def infer(state, images):
        return model.stateless_call(state[0], state[1], images, training=False)[0]

    return jax.jit(train, donate_argnums=0), jax.jit(infer)


class OnTimm:
    """timm's network under `torch.compile`, channels last, with steps of SGD with momentum. As `OnJax`."""

    packages = ("timm", "torch")

    def __init__(self, name, image_size, batch_size, precision):
        import timm
        import torch

        self._device = _torch_device()
        torch.manual_seed(0)
        torch.backends.cudnn.benchmark = True
        rates = {"drop_rate": get_variant(name).dropout_rate, "drop_path_rate": _DROP_CONNECT_RATE}
        model = timm.create_model(timm_name(name), num_classes=_CLASSES, **rates)
        self._model = model.to(self._device, memory_format=torch.channels_last)
        self._compiled = _compiled(self._model)
        self._optimizer = torch.optim.SGD(self._model.parameters(), _LEARNING_RATE, momentum=_MOMENTUM)
        images = torch.rand(batch_size, 3, image_size, image_size, device=self._device) * 2 - 1
        self._images = images.to(memory_format=torch.channels_last)
        self._labels = torch.randint(_CLASSES, [batch_size], device=self._device)
        self._autocast = torch.autocast(self._device, torch.bfloat16, enabled=precision == "bfloat16")
        for kind in KINDS:
            self.run(kind, 1)

    @staticmethod
    def describe(memory):
        """The device, of whose memory this process takes no more than a share."""
        import torch

        if _torch_device() == "cpu":
            return "cpu"
        torch.cuda.set_per_process_memory_fraction(memory)
        return torch.cuda.get_device_name()

    def run(self, kind, steps):
        """Runs "training" or "inference" steps to their end."""
        import torch

        self._model.train(kind == "training")
        for _ in range(steps):
            if kind == "training":
                with self._autocast:
                    loss = torch.nn.functional.cross_entropy(self._compiled(self._images), self._labels)
                loss.backward()
                self._optimizer.step()
                self._optimizer.zero_grad(set_to_none=True)
            else:
                with torch.inference_mode(), self._autocast:
                    self._compiled(self._images)
        if self._device == "cuda":
            torch.cuda.synchronize()


def _compiled(model):
    """`torch.compile` for these very shapes, as JAX does; with others' too, a second image size would be slower."""
    import torch

    # All networks of a group share the code that is compiled, and so its limit, past which one would run uncompiled.
    # They take turns, so nothing that was compiled before may be dropped.
    for name, value in {"recompile_limit": _COMPILATIONS, "fail_on_recompile_limit_hit": True}.items():
        if hasattr(torch._dynamo.config, name):  # an older PyTorch warns
            setattr(torch._dynamo.config, name, value)
    return torch.compile(model, dynamic=False)


def _torch_device():
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


_FRAMEWORKS = {"jax": OnJax, "timm": OnTimm}


def _serve(lines, tell):
    """Answers requests until there are no more."""
    first = json.loads(next(lines))
    cls, networks = _FRAMEWORKS[first["framework"]], {}
    versions = {"python": platform.python_version()}
    versions |= {package: importlib.metadata.version(package) for package in cls.packages}
    tell({"device": cls.describe(first["memory"]), "versions": versions})
    for line in lines:
        request = json.loads(line)
        name, began = request["network"], time.perf_counter()
        if request["do"] == "run":
            networks[name].run(request["kind"], request["steps"])
        else:
            networks.pop(name, None)
            shape = request["image_size"], request["batch_size"]
            if not _within_memory(networks, name, lambda: cls(name, *shape, first["precision"])):  # noqa: B023
                tell({"out_of_memory": True})
                continue
        tell({"seconds": time.perf_counter() - began})


def _within_memory(networks, name, make):
    """Whether there was memory for what `make` makes, which is then among the networks."""
    try:
        networks[name] = make()
    except (RuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and not any(said in str(error).lower() for said in _OUT_OF_MEMORY):
            raise
        if torch := sys.modules.get("torch"):
            torch.cuda.empty_cache()
        return False
    return True


if __name__ == "__main__":
    answer_lines(_serve)
