"""The processes in which frameworks run networks on an accelerator; `networks.py` has them take turns."""

from efficientnetv2_tf.child_process import ChildEndedError, ChildProcess

_MODULE = "efficientnetv2_tf.benchmark.network_steps"


class BenchmarkError(RuntimeError):
    """A framework cannot be measured, or not with a network; the message says why.

    Args:
        who: what is left out: (framework, network), or (framework, None).
        message: of the exception.
    """

    def __init__(self, who, message):
        super().__init__(message)
        self.who = who


class Framework:
    """A process that builds and runs networks of one framework.

    Args:
        name: one of `networks.FRAMEWORKS`.
        memory: share of the accelerator's memory that it may take.
        precision: "bfloat16" (weights stay float32) or "float32".

    Attributes:
        name: as given.
        about: {"device", "versions"}.

    Raises:
        BenchmarkError: it does not start.
    """

    def __init__(self, name, memory, precision):
        self.name = name
        settings = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "XLA_PYTHON_CLIENT_MEM_FRACTION": f"{memory:.2f}"}
        self._process = ChildProcess(_MODULE, settings, {"KERAS_BACKEND": "jax"})
        try:
            self.about = self.ask({"framework": name, "memory": memory, "precision": precision})
        except BaseException:
            self._process.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.close()

    def ask(self, request):
        """Sends a request and waits for the answer, both dictionaries.

        Raises:
            BenchmarkError: the process ended.
        """
        self._process.send(request)
        try:
            return self._process.receive()
        except ChildEndedError as error:
            raise BenchmarkError((self.name, request.get("network")), f"its process {error}") from error
