"""What TF Serving's REST interface answers beyond the recorded requests."""

import json

import pytest

from efficientnetv2_tf.deploy.serving.rest import Target, answer, parse_target
from efficientnetv2_tf.deploy.serving.tensors import RequestError

WHITE_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4//8/AAX+Av4N70a4AAAAAElFTkSuQmCC"


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("POST", "/v1/models/m:predict", Target("predict", "m")),
        ("POST", "/V1/Models/m/Versions/007:predict", Target("predict", "m", 7)),
        ("POST", "/v1/models/m/labels/stable:classify", Target("classify", "m", label="stable")),
        ("POST", "/v1/models/a%20b%2Fc:regress", Target("regress", "a b/c")),
        ("GET", "/v1/models/m", Target("status", "m")),
        ("GET", "/v1/models/m/versions/3", Target("status", "m", 3)),
        ("GET", "/v1/models/m/versions/3/metadata", Target("metadata", "m", 3)),
        ("GET", "/v1/models/metadata", Target("status", "metadata")),
        ("GET", "/v1/models/m/METADATA", Target("status", "m")),
        ("GET", "/v1/models/m?x=1", Target("status", "m?x=1")),
    ],
)
def test_paths_are_read_as_tf_serving_reads_them(method, target, expected):
    assert parse_target(method, target) == expected


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/v1/models"),
        ("GET", "/v1/models/"),
        ("GET", "/v1/"),
        ("GET", "/v1/models/m:predict"),
        ("GET", "/v1/models/m/versions/x"),
        ("GET", "/v1/models/m/versions/²"),
        ("GET", "/v1/models/m/nothing"),
        ("GET", "/v1/models/m/versions/99999999999999999999"),
        ("POST", "/v1/models/m"),
        ("POST", "/v1/models/m:explain"),
        ("POST", "/v1/models/m:PREDICT"),
        ("POST", "/v1/models/m:predict?x=1"),
        ("POST", "/v1/models/m:predict/"),
        ("POST", "/v1/models/m/versions/1/labels/x:predict"),
        ("HEAD", "/v1/models/m"),
        ("PUT", "/v1/models/m:predict"),
        ("DELETE", "/v1/models/m"),
    ],
)
def test_other_paths_are_malformed(method, target):
    with pytest.raises(RequestError) as caught:
        parse_target(method, target)
    assert caught.value.status == 400


@pytest.fixture
def post(store):
    """Asks a model; the answer, or the error's status."""

    def ask(model, body, verb="predict", **target):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            return answer(store, Target(verb, model, **target), content)
        except RequestError as error:
            return error.status

    return ask


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"signature_name": "scalar", "inputs": {"k": [1, 2]}}, {"outputs": 3}),
        ({"signature_name": "scalar", "inputs": []}, {"outputs": 0}),
        ({"signature_name": "scalar", "inputs": [-(2**63)], "extra": {"k": "x"}}, {"outputs": -(2**63)}),
        ({"signature_name": "scalar", "instances": [{"k": [1, 2]}, {"k": [3, 4]}]}, {"predictions": [4, 6]}),
        ({"signature_name": "half", "inputs": []}, {"outputs": []}),
        ({"signature_name": "half", "instances": [[]]}, {"predictions": [[]]}),
        (b'{"signature_name": "scalar", "instances": [[1]], "inputs_": NaN}', {"predictions": [1]}),
        (
            b'{"inputs": {"img": "\\u00e9\\ud83d\\ude00", "k": 0}}',
            {
                "outputs": {
                    "echo": "\xc3\xa9\xf0\x9f\x98\x80",
                    "echo_bytes": {"b64": "w6nwn5iA"},
                    "k2": 0,
                    "d": 0.0,
                }
            },
        ),
        ({"signature_name": "scalar", "instances": [[1, 2], [3, 4]]}, {"predictions": [4, 6]}),
        ({"inputs": {"img": [], "k": []}}, {"outputs": {"echo": [], "echo_bytes": [], "k2": [], "d": []}}),
        (
            {"signature_name": "", "inputs": {"img": {"b64": "YQ"}, "k": 3, "more": 1}},
            {"outputs": {"echo": "a", "echo_bytes": {"b64": "YQ=="}, "k2": 6, "d": 1.0}},
        ),
        (
            {"inputs": {"img": ["a"], "k": [3, 6]}},
            {"outputs": {"echo": ["a"], "echo_bytes": [{"b64": "YQ=="}], "k2": [6, 12], "d": [1.0, 2.0]}},
        ),
        (
            {"instances": [{"img": ["a", ""], "k": 3}]},
            {"predictions": [{"echo": ["a", ""], "echo_bytes": [{"b64": "YQ=="}, {"b64": ""}], "k2": 6, "d": 1.0}]},
        ),
    ],
)
def test_what_is_answered(post, body, expected):
    assert post("echo", body) == expected


@pytest.mark.parametrize(
    "body",
    [
        {"signature_name": "nope", "instances": [1]},
        {"signature_name": "__saved_model_init_op", "instances": [1]},
        {"signature_name": None, "instances": [1]},
        {"signature_name": "scalar", "inputs": 5},
        {"signature_name": "scalar", "instances": [1]},
        {"signature_name": "half", "inputs": [1]},
        {"signature_name": "Scalar", "inputs": [1]},
        {"signature_name": "scalar"},
        {"signature_name": "scalar", "instances": [1], "inputs": [1]},
        {"signature_name": "scalar", "instances": []},
        {"signature_name": "scalar", "instances": {}},
        {"signature_name": "scalar", "instances": None},
        {"signature_name": "scalar", "instances": [[]]},
        {"signature_name": "scalar", "instances": [[1, 2], [3]]},
        {"signature_name": "scalar", "instances": [{"k": 1}, 2]},
        {"signature_name": "scalar", "instances": [{"k": 1, "img": "a"}]},
        {"signature_name": "scalar", "inputs": [[1, 2], 3]},
        {"signature_name": "scalar", "inputs": {"K": [1]}},
        {"signature_name": "scalar", "inputs": {"b64": "YQ=="}},
        {"signature_name": "scalar", "inputs": [True]},
        {"signature_name": "scalar", "inputs": [1.0]},
        {"signature_name": "scalar", "inputs": [None]},
        {"signature_name": "scalar", "inputs": [-(2**63) - 1]},
        {"instances": [{"b64": "YQ=="}]},
        {"instances": [{"img": {"b64": 5}, "k": 3}]},
        {"instances": [{"img": {"b64": {"b64": "YQ=="}}, "k": 3}]},
        {"instances": [{"img": None, "k": 3}]},
        {"inputs": ["a", 1]},
        {"inputs": {"img": ["a"], "k": [[1], [2, 3]]}},
        {"instances": [{"img": "a", "k": "3"}]},
        {"instances": [{"img": "a"}]},
        {"instances": [{"img": {"b64": "$"}, "k": 3}]},
        {"inputs": {"img": {"b64": "YQ==", "x": 1}, "k": 3}},
        b"\xff\xd8\xff\xe0",
    ],
)
def test_what_is_refused(post, body):
    assert post("echo", body) == 400


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"instances": [{"b64": WHITE_PNG}] * 2}, [["d", "c"]] * 2),
        ({"instances": [{"image_bytes": {"b64": WHITE_PNG}}]}, [["d", "c"]]),
        ({"signature_name": "serving_default", "instances": [{"b64": WHITE_PNG.rstrip("=")}]}, [["d", "c"]]),
        ({"inputs": [{"b64": WHITE_PNG}]}, [["d", "c"]]),
        ({"inputs": {"image_bytes": [{"b64": WHITE_PNG}], "other": 1}}, [["d", "c"]]),
        ({"inputs": []}, []),
    ],
)
def test_pictures_may_be_given_in_several_ways(post, body, expected):
    answered = post("tiny", body)
    if "inputs" in body:
        assert answered["outputs"]["top_classes"] == expected
    else:
        assert [row["top_classes"] for row in answered["predictions"]] == expected


def test_a_model_that_is_not_there_is_not_found_once_the_body_is_read(post):
    good = {"instances": [1]}
    assert post("nope", good) == 404
    assert post("echo", good, version=7) == 404
    assert post("nope", b"{") == 400
    assert post("nope", good, label="stable") == 400


@pytest.mark.parametrize("verb", ["classify", "regress"])
def test_predict_signatures_neither_classify_nor_regress(post, verb):
    assert post("tiny", {"examples": [{"x": 1}]}, verb) == 400
    assert post("tiny", {"examples": []}, verb) == 400
    assert post("nope", {"examples": [1]}, verb) == 400
    assert post("nope", {"examples": [{"x": 1}]}, verb) == 404
    assert post("nope", {}, verb) == 400


def test_status_is_given_for_a_label_too_but_metadata_is_not(store):
    status = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for target in (Target("status", "tiny", 1), Target("status", "tiny", label="stable")):
        assert answer(store, target, b"") == {"model_version_status": [status]}
    with pytest.raises(RequestError, match="'stable'") as caught:
        answer(store, Target("metadata", "tiny", label="stable"), b"")
    assert caught.value.status == 400


@pytest.mark.parametrize("target", [Target("status", "nope"), Target("status", "tiny", 2), Target("metadata", "nope")])
def test_nothing_is_told_of_what_is_not_there(store, target):
    with pytest.raises(RequestError) as caught:
        answer(store, target, b"")
    assert caught.value.status == 404
