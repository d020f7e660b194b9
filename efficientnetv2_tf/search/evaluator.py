"""What a candidate is worth: the process that trains it (`proxy.py`), and the reward of what it measured."""

import dataclasses

from efficientnetv2_tf.child_process import ChildEndedError, ChildProcess
from efficientnetv2_tf.training.hparams import ConfigError

_NOT_FINITE = "NonFiniteError"
_CANDIDATES = 50  # after which a new process begins, for memory that libraries keep


class CandidateError(RuntimeError):
    """A candidate could not be trained; the message says why.

    Attributes:
        is_of_the_network: it is known that the machine is not the reason.
    """

    is_of_the_network = False


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What a candidate's short training gave.

    Attributes:
        accuracy: of the averaged weights after the last epoch.
        step_seconds: of a training step, the median.
        step_ratio: of a training step's time to the backbone's, measured in turns; the median.
        step_spread: half the range of the middle half of these ratios, as a share of the ratio.
        load: processes that wanted to run, per CPU, on average over the minute before; None where nobody counts.
        epochs: that were trained.
    """

    accuracy: float
    step_seconds: float
    step_ratio: float
    step_spread: float
    load: float | None
    epochs: int


def reward(accuracy, step_ratio, parameter_ratio, *, step_time_exponent, parameters_exponent):
    """A * S^w * P^v (EfficientNetV2, ICML 2021, section 3.3).

    S and P are shares of the backbone's, so that the backbone's reward is its accuracy. As factors that are the same
    for all networks, they change no order.

    Args:
        accuracy: A, in [0, 1].
        step_ratio: S, time of a training step / the backbone's.
        parameter_ratio: P, parameters / the backbone's.
        step_time_exponent: w, the paper's -0.07.
        parameters_exponent: v, the paper's -0.05.
    """
    return accuracy * step_ratio**step_time_exponent * parameter_ratio**parameters_exponent


class Evaluator:
    """Evaluates candidates in a process of its own, which is started again where one has ended it.

    Args:
        recipe: a `SearchRecipe`.

    Attributes:
        num_classes: of the data set.

    Raises:
        ConfigError: the data set is not to be had.
    """

    def __init__(self, recipe):
        self._recipe = recipe
        self._process = None
        self._evaluated = 0
        self._start()

    def evaluate(self, blocks, go_on=lambda epoch, accuracy, step_ratio: True):
        """Trains and measures one network.

        Args:
            blocks: block strings.
            go_on: called after each epoch (counted from 0) but the last; False ends the training.

        Returns:
            A `Measurement`.

        Raises:
            CandidateError: it cannot be trained: its loss is not finite, or it takes more memory than there is.
            ConfigError: the data cannot be read.
        """
        if self._process is None or self._evaluated == _CANDIDATES:
            self._start()
        self._evaluated += 1
        self._process.send(list(blocks))
        step, accuracy, epochs = None, None, 0
        while True:
            answer = self._receive()
            if "step_ratio" in answer:
                step = answer
            elif "epoch" in answer:
                accuracy, epochs = answer["accuracy"], answer["epoch"] + 1
                last = epochs == self._recipe.search.proxy_epochs
                self._process.send(last or bool(go_on(answer["epoch"], accuracy, step["step_ratio"])))
            elif "done" in answer:
                return Measurement(accuracy=accuracy, epochs=epochs, **step)
            elif "failed" in answer:
                self.close()  # a new process is as good as the first; this one may have little memory left
                error = CandidateError(answer["failed"])
                error.is_of_the_network = answer["failed"].startswith(_NOT_FINITE)
                raise error

    def _start(self):
        self.close()
        self._evaluated = 0
        onednn = {"TF_ENABLE_ONEDNN_OPTS": "1" if self._recipe.runtime.onednn else "0"}
        self._process = ChildProcess("efficientnetv2_tf.search.proxy", onednn)
        try:
            self._process.send(self._recipe.model_dump(mode="json"))
            self.num_classes = self._receive()["num_classes"]
        except CandidateError as error:
            raise ConfigError(f"No candidate can be trained. {error}") from error
        except BaseException:
            self.close()
            raise

    def _receive(self):
        try:
            answer = self._process.receive()
        except ChildEndedError as error:
            self.close()
            raise CandidateError(f"The process that trained it {error}") from error
        if "error" in answer:
            self.close()
            raise ConfigError(answer["error"])
        return answer

    def close(self):
        """Ends the process, in whatever it is doing."""
        if self._process is not None:
            self._process.close()
        self._process = None
