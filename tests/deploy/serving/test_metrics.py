"""Counters in Prometheus' text format."""

from efficientnetv2_tf.deploy.serving.metrics import Metrics


def test_requests_are_counted_by_model_and_code():
    metrics = Metrics()
    for status, seconds in ((200, 0.25), (200, 0.5), (400, 9), (500, 9)):
        metrics.record("a", status, seconds)
    metrics.record('b"\\\n', 404, 1)
    lines = metrics.page().splitlines()
    assert lines[:5] == [
        "# TYPE :tensorflow:serving:request_count counter",
        ':tensorflow:serving:request_count{model_name="a",status="INTERNAL"} 1',
        ':tensorflow:serving:request_count{model_name="a",status="INVALID_ARGUMENT"} 1',
        ':tensorflow:serving:request_count{model_name="a",status="OK"} 2',
        r':tensorflow:serving:request_count{model_name="b\"\\\n",status="NOT_FOUND"} 1',
    ]
    labels = 'model_name="a",API="predict",entrypoint="REST"'
    assert lines[5:] == [
        "# TYPE :tensorflow:serving:request_latency histogram",
        f':tensorflow:serving:request_latency_bucket{{{labels},le="+Inf"}} 2',
        f":tensorflow:serving:request_latency_sum{{{labels}}} 750000",
        f":tensorflow:serving:request_latency_count{{{labels}}} 2",
    ]
