"""Requests that were sent to TF Serving 2.20.0, and its answers (requests.json).

They go to the stand-in, or to a real server where TFS_URL says so; make_models.py tells how to start one.
"""

import json
import os
import pathlib

import pytest
import requests

REQUESTS = json.loads((pathlib.Path(__file__).parent / "requests.json").read_text())


@pytest.fixture(scope="module")
def tf_serving(request):
    return os.environ.get("TFS_URL") or request.getfixturevalue("address")


def without_tensor_names(value):
    """Metadata without the tensors' names, which depend on the TensorFlow that saved the model."""
    if isinstance(value, list):
        return [without_tensor_names(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: without_tensor_names(item) for key, item in value.items() if key != "name" or "dtype" not in value}


def approximately(value):
    """`value` with numbers that compare to 1e-6; pytest.approx takes no nested ones."""
    if isinstance(value, list):
        return [approximately(item) for item in value]
    if isinstance(value, dict):
        return {key: approximately(item) for key, item in value.items()}
    return pytest.approx(value, abs=1e-6, rel=0) if isinstance(value, float) else value


@pytest.mark.parametrize("number", range(len(REQUESTS)))
def test_answers_as_tf_serving_does(tf_serving, number):
    recorded = REQUESTS[number]
    answer = requests.request(
        recorded["method"], tf_serving + recorded["path"], data=recorded["body"].encode(), timeout=60
    )
    assert answer.status_code == recorded["status"], answer.text
    if recorded["status"] == 200:
        # The record has a character for each byte of a string.
        found = json.loads(answer.content.decode("latin-1"))
        assert without_tensor_names(found) == approximately(without_tensor_names(recorded["response"]))
        assert answer.headers["Content-Type"] == "application/json"
    elif recorded["path"].startswith("/v1/"):
        assert answer.json()["error"]
