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
    reason_of,
    versions_of,
)
from efficientnetv2_tf.training.hparams import ConfigError

TRAINING_MODULE = "efficientnetv2_tf.benchmark.training_process"


class Field:
    """Those who take part; each works in a process of its own, and only when it is asked.

    Who cannot do the work is left out; but without this package's own there is nothing to compare, so where one that
    needs no optional package fails, all methods raise `ConfigError` with the reason.

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

    def take_turns_beside(self, reference, request, rounds):
        """Starts each and lets it take all its turns with a reference only, so that at most two are in memory.

        Args:
            reference: name of the one that stays; where it does not take part or was left out, the others are alone.
            request: the same for all.
            rounds: number of turns of each other one, and of the reference with each of them.

        Yields:
            (name, the first answer of that one, {name: [an answer for each round]} of both), as of `take_turns`.
        """
        if reference in self.waiting:
            self.start([reference])
        for name in [name for name in self.waiting if name != reference]:
            self.start([name])
            if name in self.processes:
                facts = self.processes[name].facts
                answers = self.take_turns(request, rounds)
                if name in self.processes:
                    self.leave(name)
                yield name, facts, answers

    def leave_out(self, name, reason):
        """Ends one that cannot be measured, and says why."""
        label = self._peers[name].label
        if name in self.processes:
            self.leave(name)
        if self._peers[name].required:
            raise ConfigError(f"{label} could not be measured: {reason}")
        self.left_out[label] = reason
        self._console.print(f"  {label} is left out: {reason}", markup=False, soft_wrap=True)

    @contextlib.contextmanager
    def _leaving_out(self, name):
        try:
            yield
        except LeftOutError as error:
            self.leave_out(name, str(error))


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


def measure_each(names, measure, console):
    """Measures one after the other; one that fails does not take the others' results with it.

    Args:
        names: of networks, or of whatever is measured.
        measure: function of a name.
        console: a `rich.console.Console`.

    Returns:
        ({name: what `measure` gave}, {name: reason} of those that failed).

    Raises:
        ConfigError: all failed.
    """
    found, left_out = {}, {}
    for name in names:
        try:
            found[name] = measure(name)
        except Exception as error:  # whatever is wrong with this one, the others go on
            left_out[name] = reason_of(error)
            console.print(f"  {name} is left out: {left_out[name]}", markup=False, soft_wrap=True)
    if not found:
        raise ConfigError("; ".join(f"{name}: {reason}" for name, reason in left_out.items()))
    return found, left_out


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
