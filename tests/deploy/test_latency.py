"""Latencies: how often is measured, never how long it takes. TensorFlow is timed in the command line's own test."""

import itertools

import pytest

from efficientnetv2_tf.deploy import latency


@pytest.fixture
def clock(monkeypatch):
    """Makes calls that take the given seconds in turn, by a clock of their own; they count in `calls`."""

    class Clock:
        def __init__(self):
            self.now, self.calls, self.seconds = 0.0, 0, None

        def call(self):
            self.calls += 1
            self.now += next(self.seconds)

    made = Clock()
    monkeypatch.setattr(latency.time, "perf_counter", lambda: made.now)
    return made


def test_the_median_leaves_out_the_first_call(clock):
    clock.seconds = itertools.chain([50.0], itertools.cycle([0.002, 0.004, 0.003]))
    assert latency.median_milliseconds(clock.call) == pytest.approx(3)
    assert clock.calls == 101


def test_slow_calls_are_made_three_times(clock):
    clock.seconds = iter([9.0, 7.0, 8.0, 6.0])
    assert latency.median_milliseconds(clock.call) == pytest.approx(7000)


def test_time_that_is_up_ends_it(clock):
    clock.seconds = itertools.repeat(0.5)
    latency.median_milliseconds(clock.call)
    assert clock.calls == 1 + 6


def test_what_the_process_said_is_told(tmp_path, monkeypatch):
    failing = tmp_path / "python"
    failing.write_text('#!/bin/sh\necho "cannot open $3" >&2\nexit 3\n')
    failing.chmod(0o755)
    monkeypatch.setattr(latency.sys, "executable", str(failing))
    with pytest.raises(RuntimeError, match=r"(?s)could not be measured.*cannot open .*none\.keras"):
        latency.tensorflow_latencies(tmp_path / "none.keras", None, 32, threads=1)
