"""The Keras callback that makes a training progressive."""

import keras

from efficientnetv2_tf.networks.layers import ScheduledDropout
from efficientnetv2_tf.progressive.stages import stage_at


class ProgressiveLearning(keras.callbacks.Callback):
    """Switches image size, augmentation and dropout at stage boundaries within one `model.fit`.

    The stage is a function of the epoch alone, so a training that starts at `initial_epoch`, or is started again
    after a crash, has the right values with nothing restored.

    The epoch's values are added to the logs of `on_epoch_end` (`stage`, `image_size`, `magnitude`, `mixup_alpha`,
    `cutmix_alpha`, `dropout_rate`), so History, CSVLogger and TensorBoard show them; put this callback first.

    Args:
        plan: tuple of `Stage`s, from `plan_stages`.
        controls: the `StageControls` that the data pipeline reads.

    Raises:
        ValueError: at the start of training, if the plan sets dropout and the model has no `ScheduledDropout`.
    """

    def __init__(self, plan, controls):
        super().__init__()
        self.plan = tuple(plan)
        self.controls = controls
        self.stage = None
        self._dropouts = []

    def on_train_begin(self, logs=None):
        self.stage = None
        self._dropouts = [x for x in self.model._flatten_layers() if isinstance(x, ScheduledDropout)]
        if not self._dropouts and any(stage.dropout_rate is not None for stage in self.plan):
            raise ValueError(
                "The plan changes dropout, but the model has no ScheduledDropout layer. Use "
                "efficientnetv2_tf.ScheduledDropout in place of keras.layers.Dropout, or plan with dropout=None."
            )

    def on_epoch_begin(self, epoch, logs=None):
        self.stage = stage_at(self.plan, epoch)
        self.controls.assign(self.stage, epoch)
        if self.stage.dropout_rate is not None:
            for layer in self._dropouts:
                layer.rate = self.stage.dropout_rate

    def on_epoch_end(self, epoch, logs=None):
        # Whatever was skipped belonged to the epoch that a restart went on with.
        self.controls.first_batch.assign(0)
        if logs is not None:
            logs.update(
                stage=self.stage.index,
                image_size=self.stage.image_size,
                magnitude=self.stage.magnitude,
                mixup_alpha=self.stage.mixup_alpha,
                cutmix_alpha=self.stage.cutmix_alpha,
            )
            if self._dropouts:
                logs["dropout_rate"] = self._dropouts[0].rate
