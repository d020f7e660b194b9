"""What happens when a loss or a gradient is not finite: stop, skip the step, or go back to a checkpoint."""

import math

import keras

from efficientnetv2_tf.training.finite import loss_scale

_SKIPPED_IN_A_ROW = 20  # steps after which skipping is given up
ROLLBACKS = 3  # of a whole training, restarts included
_ADVICE = (
    "Try a lower train.lr_per_256_images, a longer train.lr_warmup_epochs, train.gradient_clip=1 or, with "
    "mixed_float16, runtime.mixed_precision=mixed_bfloat16."
)


class NonFiniteError(RuntimeError):
    """The loss or a gradient became infinite or no number; the message says where."""


class NonFiniteGuard(keras.callbacks.Callback):
    """Looks after each step whether it was finite; a `Classifier`'s step that was not has changed nothing.

    Args:
        policy: "skip" goes on, and gives up after 20 such steps in a row; the others raise a `NonFiniteError`.
        progress: the `ProgressiveLearning` callback, which knows the stage.
        find_cause: from (epoch, batch), both counted from 0, to a sentence.
        tell: called with the text of the first step that is skipped.
        first_batch: batches of the first epoch that a restart leaves out.
    """

    def __init__(self, policy, progress, find_cause, tell=print, first_batch=0):
        super().__init__()
        self._policy = policy
        self._progress = progress
        self._find_cause = find_cause
        self._tell = tell
        self._offset = first_batch
        self._told = False
        self._epoch = self._in_a_row = 0

    def on_train_begin(self, logs=None):
        self._seen = self._seen_before_epoch = self._skipped()

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        self._seen_before_epoch = self._seen

    def on_train_batch_end(self, batch, logs=None):
        skipped = self._skipped()
        if skipped == self._seen:
            self._in_a_row = 0
            return
        self._seen = skipped
        self._in_a_row += 1
        if self._policy != "skip":
            raise NonFiniteError(self._message(batch))
        if self._in_a_row == _SKIPPED_IN_A_ROW:
            raise NonFiniteError(f"{self._message(batch)} {_SKIPPED_IN_A_ROW} steps in a row were skipped. {_ADVICE}")
        if not self._told:
            self._told = True
            self._tell(f"{self._message(batch)} The step is skipped, and so are others like it.")

    def on_epoch_end(self, epoch, logs=None):
        self._offset = 0
        if self._policy == "skip":
            logs["skipped_steps"] = self._seen - self._seen_before_epoch

    def _skipped(self):
        return int(self.model.finite.skipped.numpy())

    def _message(self, batch):
        stage, optimizer = self._progress.stage, self.model.optimizer
        loss, scale = float(self.model.finite.loss.numpy()), loss_scale(optimizer)
        what = "A gradient is not finite" if math.isfinite(loss) else f"The loss is {loss}"
        return (
            f"{what} in stage {stage.index + 1} ({stage.image_size} px), epoch {self._epoch + 1}, at training step "
            f"{int(optimizer.iterations.numpy()) + 1} (batch {self._offset + batch + 1} of the epoch), with learning "
            f"rate {float(optimizer.learning_rate):.3g} and "
            f"{'no loss scale' if scale is None else f'loss scale {float(scale):g}'}. "
            f"{self._find_cause(self._epoch, self._offset + batch)}"
        )


def fit_with_rollbacks(fit, resume, checkpoints, policy, tell):
    """Trains, and goes back to the newest checkpoint where a step was not finite and "rollback" says so.

    What comes after the checkpoint is trained on with other random numbers: the pictures come in another order, and
    are cropped, augmented and mixed in another way. (PaLM's training left out the batches around a spike: Chowdhery et
    al., 2022, section 5.1. Here an epoch keeps its number of steps, and the learning rate its course.)

    Args:
        fit: trains to the end from a position, which it is given.
        resume: goes back to the newest checkpoint, and gives its position.
        checkpoints: the `Checkpoints`; their `rollbacks` are counted up.
        policy: `train.on_nonfinite`.
        tell: called with a text for each time.

    Returns:
        What `fit` returned.

    Raises:
        NonFiniteError: the policy is another one, or it happened for the fourth time.
    """
    position = resume()
    if policy == "rollback" and position == (0, 0):
        checkpoints.save(*position)  # something to go back to
    while True:
        try:
            return fit(position)
        except NonFiniteError as error:
            if policy != "rollback":
                raise NonFiniteError(f"{error} The checkpoints before it are kept. {_ADVICE}") from None
            rollbacks = int(checkpoints.rollbacks.numpy()) + 1
            if rollbacks > ROLLBACKS:
                raise NonFiniteError(f"{error} It went back {ROLLBACKS} times already. {_ADVICE}") from None
            tell(f"{error} Going back to the newest checkpoint, time {rollbacks} of at most {ROLLBACKS}.")
            position = resume()
            checkpoints.rollbacks.assign(rollbacks)
