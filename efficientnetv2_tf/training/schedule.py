"""The learning rate over the steps of a training."""

import keras
from keras import ops

KINDS = ("exponential", "cosine", "constant")


class WarmupSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then exponential or cosine decay, or none: the official release's schedule.

    Args:
        peak: learning rate at the end of the warm-up, for the batch size in use.
        kind: "exponential" multiplies by `decay_factor` once every `decay_steps`; "cosine" falls to 0 over
            `total_steps`, counted from the first; "constant" stays.
        total_steps: of the whole training.
        warmup_steps: steps over which the rate rises from 0.
        decay_steps: of "exponential", above 0.
        decay_factor: of "exponential", in (0, 1].
        minimum: the decay stops there.
    """

    def __init__(
        self,
        peak,
        kind="exponential",
        *,
        total_steps,
        warmup_steps=0,
        decay_steps=1.0,
        decay_factor=0.97,
        minimum=0.0,
    ):
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"`kind` should be one of {KINDS}. Received: kind={kind!r}")
        self._config = {
            "peak": peak,
            "kind": kind,
            "total_steps": total_steps,
            "warmup_steps": warmup_steps,
            "decay_steps": decay_steps,
            "decay_factor": decay_factor,
            "minimum": minimum,
        }

    def __call__(self, step):
        c = self._config
        step = ops.cast(step, "float32")
        rate = c["peak"] * ops.ones_like(step)
        if c["kind"] == "exponential":
            rate = rate * ops.power(c["decay_factor"], ops.floor(step / c["decay_steps"]))
        elif c["kind"] == "cosine":
            rate = rate * 0.5 * (1.0 + ops.cos(3.141592653589793 * ops.minimum(step / c["total_steps"], 1.0)))
        rate = ops.maximum(rate, c["minimum"])
        if c["warmup_steps"]:
            rate = ops.where(step < c["warmup_steps"], c["peak"] * step / c["warmup_steps"], rate)
        return rate

    def get_config(self):
        return dict(self._config)


def make_schedule(config, batch_size, steps_per_epoch, epochs):
    """The schedule that a `TrainConfig` asks for.

    Args:
        config: a `TrainConfig`; its learning rates are for 256 images.
        batch_size: images of one step over all replicas; the rates are scaled by batch_size / 256.
        steps_per_epoch: training steps of one epoch.
        epochs: of the whole training.
    """
    scale = batch_size / 256
    return WarmupSchedule(
        config.lr_per_256_images * scale,
        config.lr_schedule,
        total_steps=steps_per_epoch * epochs,
        warmup_steps=int(config.lr_warmup_epochs * steps_per_epoch),
        decay_steps=config.lr_decay_epochs * steps_per_epoch,
        decay_factor=config.lr_decay_factor,
        minimum=config.lr_min_per_256_images * scale,
    )
