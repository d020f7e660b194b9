"""Measuring in turns (A B C A B C ...): what else the machine does slows all, so ratios stay where seconds do not."""

import contextlib
import statistics
import time

from efficientnetv2_tf.benchmark.peers import (
    TRAINING,
    LeftOutError,
    PeerProcess,
    chosen,
    network_config,
    versions_of,
)

TRAINING_MODULE = "efficientnetv2_tf.benchmark.training_process"


class Field:
    """Those who take part; each works in a process of its own, and only when it is asked.

    Args:
        module: that measures.
        peers: `Peer`s.
        requests: {name: first request} of each.
        console: a `rich.console.Console`.

    Attributes:
        processes: {name: `PeerProcess`} of those that are still there.
        left_out: {label: reason} of the others.
    """

    def __init__(self, module, peers, requests, console):
        self._module, self._requests, self._console = module, requests, console
        self._peers = {peer.name: peer for peer in peers}
        self.processes, self.left_out = {}, {}

    @property
    def waiting(self):
        """Names of those that were not left out, in their order."""
        return [name for name, peer in self._peers.items() if peer.label not in self.left_out]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes.values():
            process.close()

    def start(self, names=None):
        """Starts all, or some, one after the other, each to the end of its warm-up."""
        for name in names or self.waiting:
            began = time.perf_counter()
            with self._leaving_out(name):
                self.processes[name] = PeerProcess(self._module, self._peers[name], self._requests[name])
                self._console.print(f"  {self._peers[name].label}: ready after {time.perf_counter() - began:.1f} s")

    def leave(self, name):
        """Ends one that is not needed any more."""
        self.processes.pop(name).close()

    def take_turns(self, request, rounds):
        """Asks each of them in turns.

        Args:
            request: the same for all.
            rounds: number of turns of each.

        Returns:
            {name: [an answer for each round]} of those that stayed to the end.
        """
        answers = {name: [] for name in self.processes}
        for _ in range(rounds):
            for name in [*self.processes]:
                with self._leaving_out(name):
                    answers[name].append(self.processes[name].ask(request))
        return {name: answers[name] for name in self.processes}

    @contextlib.contextmanager
    def _leaving_out(self, name):
        try:
            yield
        except LeftOutError as error:
            self.left_out[self._peers[name].label] = str(error)
            self._console.print(f"  {self._peers[name].label} is left out: {error}", markup=False, soft_wrap=True)
            if name in self.processes:
                self.leave(name)


def training_field(recipe, model, console, *, names=None, warm_up=3):
    """The `Field` of those who train a network.

    Args:
        recipe: a `BenchmarkRecipe`.
        model: name of the network.
        console: a `rich.console.Console`.
        names: of those that are wanted; None wants all that the recipe asks for.
        warm_up: steps of each before its first turn, at least 1.
    """
    peers = [peer for peer in chosen(TRAINING, recipe) if names is None or peer.name in names]
    request = {"config": network_config(recipe, model).model_dump_json(), "warm_up": warm_up}
    return Field(TRAINING_MODULE, peers, {peer.name: request for peer in peers}, console)


def spread(values):
    """{"median", "low", "high"}: of the rounds, with the quartiles."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return {"median": middle, "low": low, "high": high}


def ratios(values, references):
    """Of each round to the same round of another, and their `spread`.

    Args:
        values: one a round.
        references: likewise; None where the other one is not there.

    Returns:
        A `spread`, or None.
    """
    if references is None:
        return None
    return spread([mine / other for mine, other in zip(values, references, strict=True)])


def described(peers, names):
    """{name: {"label", "ours", "versions"}} of the peers with these names."""
    return {
        peer.name: {"label": peer.label, "ours": peer.ours, "versions": versions_of(peer.packages)}
        for peer in peers
        if peer.name in names
    }
