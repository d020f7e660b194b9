"""The variables through which a running training changes its data pipeline."""

import tensorflow as tf


class StageControls:
    """Live settings of a tf.data pipeline: its `map` functions read them, a callback writes them.

    tf.data captures the variables by reference, so a change acts on the elements produced after it. Prefetched
    elements of an epoch are not affected if each epoch makes a fresh iterator, which `fit` does when the
    dataset ends by itself (leave `steps_per_epoch` at None).

    Attributes:
        image_size: int32 scalar, pixels.
        magnitude: float32 scalar, RandAugment's, 0..30.
        mixup_alpha: float32 scalar; 0 is off.
        cutmix_alpha: float32 scalar; 0 is off.
        epoch: int64 scalar, counted from 0; a seed for what should differ from epoch to epoch.
        first_batch: int64 scalar, batches of the epoch to leave out because they were trained on before a restart.

    Raises:
        RuntimeError: made inside a `tf.distribute` strategy's scope, where variables are mirrored and tf.data
            cannot read them.
    """

    def __init__(self, stage=None):
        if tf.distribute.has_strategy():
            raise RuntimeError(
                "StageControls must be made outside of `strategy.scope()`: a data pipeline cannot read mirrored "
                "variables. Make it before entering the scope."
            )
        self.image_size = tf.Variable(0, dtype=tf.int32, trainable=False, name="image_size")
        self.magnitude = tf.Variable(0.0, trainable=False, name="magnitude")
        self.mixup_alpha = tf.Variable(0.0, trainable=False, name="mixup_alpha")
        self.cutmix_alpha = tf.Variable(0.0, trainable=False, name="cutmix_alpha")
        self.epoch = tf.Variable(0, dtype=tf.int64, trainable=False, name="epoch")
        self.first_batch = tf.Variable(0, dtype=tf.int64, trainable=False, name="first_batch")
        if stage is not None:
            self.assign(stage)

    def assign(self, stage, epoch=None):
        """Takes over a `Stage`'s values.

        Args:
            stage: the `Stage` that begins or goes on.
            epoch: counted from 0; None is the stage's first.
        """
        self.image_size.assign(stage.image_size)
        self.magnitude.assign(stage.magnitude)
        self.mixup_alpha.assign(stage.mixup_alpha)
        self.cutmix_alpha.assign(stage.cutmix_alpha)
        self.epoch.assign(stage.first_epoch if epoch is None else epoch)
