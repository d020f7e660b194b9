"""Counters of the requests, in Prometheus' text format and under TF Serving's names."""

import collections
import threading

PATH = "/monitoring/prometheus/metrics"
_CODES = {
    200: "OK",
    400: "INVALID_ARGUMENT",
    404: "NOT_FOUND",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_COUNT = ":tensorflow:serving:request_count"
_LATENCY = ":tensorflow:serving:request_latency"


class Metrics:
    """Counts predictions; may be used from several threads."""

    def __init__(self):
        self._counts = collections.Counter()  # (model, code) -> requests
        self._seconds = collections.Counter()  # model -> of all its answered requests
        self._lock = threading.Lock()

    def record(self, model, status, seconds):
        """Counts a request.

        Args:
            model: its name.
            status: of the HTTP answer.
            seconds: that it took.
        """
        with self._lock:
            self._counts[model, _CODES.get(status, "INTERNAL")] += 1
            if status == 200:
                self._seconds[model] += seconds

    def page(self):
        """The counters as text; latencies are in microseconds."""
        with self._lock:
            counts, seconds = sorted(self._counts.items()), dict(self._seconds)
        lines = [f"# TYPE {_COUNT} counter"]
        lines += [f"{_COUNT}{{{_labels(model_name=model, status=code)}}} {n}" for (model, code), n in counts]
        lines += [f"# TYPE {_LATENCY} histogram"]
        for (model, code), n in counts:
            if code == "OK":
                labels = _labels(model_name=model, API="predict", entrypoint="REST")
                lines.append(f'{_LATENCY}_bucket{{{labels},le="+Inf"}} {n}')
                lines.append(f"{_LATENCY}_sum{{{labels}}} {seconds[model] * 1e6:.0f}")
                lines.append(f"{_LATENCY}_count{{{labels}}} {n}")
        return "\n".join(lines) + "\n"


def _labels(**labels):
    return ",".join(f'{name}="{_escape(value)}"' for name, value in labels.items())


def _escape(text):
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
