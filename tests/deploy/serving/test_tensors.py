"""Tensors from JSON and to JSON, as TF Serving reads and writes them."""

import json
import math

import numpy as np
import pytest

from efficientnetv2_tf.deploy.serving.tensors import RequestError, parse_object, read_tensors, write_tensors

INT = {"k": "int64"}
FLOAT = {"x": "float32"}
TEXT = {"t": "string"}


def read(body, dtypes):
    document = body if isinstance(body, dict) else parse_object(body.encode())
    return read_tensors(document, dtypes)[1]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"a": 1}', {"a": 1}),
        (b' \r\n\t{"a": 1} and more', {"a": 1}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b'{"a": 1, "a": 2}', {"a": 1}),
        (b"{}", {}),
    ],
)
def test_the_first_object_of_a_body_counts(body, expected):
    assert parse_object(body) == expected


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "nothing"),
        (b"  ", "nothing"),
        (b"\x89PNG", "not JSON"),
        (b'{"a": ', "not JSON"),
        (b'{"a": 01}', "not JSON"),
        (b"[1]", r"should be a JSON object. Received: \[1\]"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"1" * 5000 + b"}", "not JSON"),
    ],
)
def test_a_body_that_is_no_object_is_refused(body, message):
    with pytest.raises(RequestError, match=message) as caught:
        parse_object(body)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ({"instances": [1, 2, 3]}, (3,)),
        ({"instances": [{"k": 1}, {"k": 2}]}, (2,)),
        ({"instances": [[1, 2]]}, (1, 2)),
        ({"instances": [[]]}, (1, 0)),
        ({"inputs": 5}, ()),
        ({"inputs": []}, (0,)),
        ({"inputs": [[], []]}, (2, 0)),
        ({"inputs": {"k": [[1], [2]]}}, (2, 1)),
        ({"inputs": {"k": [1], "other": "x"}}, (1,)),
    ],
)
def test_shapes_are_those_of_the_lists(body, shape):
    array = read(body, INT)["k"]
    assert array.shape == shape
    assert array.dtype == np.int64


def test_rows_and_columns_give_the_same():
    dtypes = {"k": "int64", "t": "string"}
    by_row = read({"instances": [{"k": 1, "t": "a"}, {"k": 2, "t": {"b64": "Yg=="}}]}, dtypes)
    by_column = read({"inputs": {"k": [1, 2], "t": ["a", "b"]}}, dtypes)
    assert by_row["k"].tolist() == by_column["k"].tolist() == [1, 2]
    assert by_row["t"].tolist() == by_column["t"].tolist() == [b"a", b"b"]


@pytest.mark.parametrize(
    ("body", "dtypes", "message"),
    [
        ({}, INT, "either 'instances' or 'inputs'. Received the keys: none"),
        ({"instances": [], "inputs": []}, INT, "either"),
        ({"instances": []}, INT, "at least one row"),
        ({"instances": 1}, INT, "list"),
        ({"instances": [1, {"k": 2}]}, INT, "Row 1 is unlike row 0"),
        ({"instances": [{"k": 2}, 1]}, INT, "Row 1 is unlike row 0"),
        ({"instances": [{"k": 2, "x": 1}]}, INT, "should have the keys 'k'. Received: 'k', 'x'"),
        ({"instances": [{}]}, INT, "Received: none"),
        ({"instances": [{"b64": 5}]}, TEXT, "should have the keys 't'. Received: 'b64'"),
        ({"instances": ["a"]}, {**INT, **TEXT}, "object with the keys 'k', 't'"),
        ({"instances": [{"b64": "YQ=="}]}, {**INT, **TEXT}, "object with the keys"),
        ({"instances": [[1], [1, 2]]}, INT, "At depth 1"),
        ({"instances": [[1], 2]}, INT, "At depth 1"),
        ({"instances": [2, [1]]}, INT, "k: expected int64"),
        ({"inputs": [1]}, {**INT, **TEXT}, "object with the keys"),
        ({"inputs": {"k": [1]}}, {**INT, **TEXT}, "Missing: 't'"),
        ({"inputs": None}, INT, "expected int64. Received: null"),
        ({"inputs": [1]}, {"k": "float16"}, "float16 cannot be given in JSON"),
    ],
)
def test_a_request_of_another_form_is_refused(body, dtypes, message):
    with pytest.raises(RequestError, match=message) as caught:
        read(body, dtypes)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("int64", 1.0),
        ("int64", True),
        ("int64", "1"),
        ("int64", None),
        ("int64", 2**63),
        ("int64", -(2**63) - 1),
        ("int32", 2**31),
        ("uint8", 2**31),
        ("uint32", -1),
        ("uint64", 2**64),
        ("float32", True),
        ("float32", "1"),
        ("float32", {"b64": "YQ=="}),
        ("float32", 2**24),
        ("float32", -(2**24)),
        ("float32", 1e39),
        ("float64", 2**53),
        ("float64", 10**400),
        ("bool", 1),
        ("string", 1),
        ("string", {"b64": 1}),
    ],
)
def test_a_value_of_another_type_is_refused(dtype, value):
    with pytest.raises(RequestError):
        read({"inputs": {"x": [value]}}, {"x": dtype})


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        ("int64", 2**63 - 1, 2**63 - 1),
        ("int64", -(2**63), -(2**63)),
        ("uint64", 2**64 - 1, 2**64 - 1),
        ("uint8", 255, 255),
        ("uint8", 300, 44),  # only int32's range is checked
        ("float32", 2**24 - 1, 2**24 - 1),
        ("float32", 2.0**24, 2**24),
        ("float64", 2**53 - 1, 2**53 - 1),
        ("float64", 2**70, 2.0**70),  # beyond 64 bits JSON's integers are floats
        ("float32", 0.1, np.float32(0.1)),
        ("bool", True, True),
    ],
)
def test_a_value_that_fits_is_taken(dtype, value, expected):
    array = read({"inputs": {"x": [value]}}, {"x": dtype})["x"]
    assert array.dtype.name == dtype
    assert array[0] == expected


def test_infinity_must_be_spelled_out():
    values = read('{"inputs": [Infinity, -Infinity, NaN, 1]}', FLOAT)["x"].tolist()
    assert values[:2] == [math.inf, -math.inf]
    assert math.isnan(values[2])
    with pytest.raises(RequestError, match="too large"):
        read('{"inputs": [1e999]}', FLOAT)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", b""), ("YWJj", b"abc"), ("YWI=", b"ab"), ("YWI", b"ab"), ("Y Q\n==", b"a"), ("/+8.", b"\xff\xef")],
)
def test_base64_is_decoded(text, expected):
    assert read({"inputs": [{"b64": text}]}, TEXT)["t"].tolist() == [expected]


@pytest.mark.parametrize("text", ["YWJ$", "Y", "YWJjZ", "YWJj=", "YQ=", "YQ==YQ==", "_-8=", "data:;base64,YWJj"])
def test_what_is_not_base64_is_refused(text):
    with pytest.raises(RequestError, match="t: this is not base64"):
        read({"inputs": [{"b64": text}]}, TEXT)


def test_strings_are_bytes():
    assert read({"inputs": ["é", "a\0"]}, TEXT)["t"].tolist() == ["é".encode(), b"a\0"]
    raw = parse_object(b'{"inputs": ["\xff"]}')
    assert read_tensors(raw, TEXT)[1]["t"].tolist() == [b"\xff"]
    with pytest.raises(RequestError, match="surrogate"):
        read(r'{"inputs": ["\ud800"]}', TEXT)


def strings(*values):
    return np.array(values, object)


def test_one_output_comes_bare_and_several_by_name():
    k = np.array([1, 2])
    assert write_tensors({"k": k}, by_row=True) == {"predictions": [1, 2]}
    assert write_tensors({"k": k}, by_row=False) == {"outputs": [1, 2]}
    assert write_tensors({"k": k, "l": k[:, None]}, by_row=True) == {
        "predictions": [{"k": 1, "l": [1]}, {"k": 2, "l": [2]}]
    }
    assert write_tensors({"k": k, "l": k[:1]}, by_row=False) == {"outputs": {"k": [1, 2], "l": [1]}}


def test_strings_are_base64_where_the_name_says_bytes():
    value = strings(b"\xc3\xa9\0")
    assert write_tensors({"a": value, "a_bytes": value}, by_row=False) == {
        "outputs": {"a": ["\xc3\xa9\0"], "a_bytes": [{"b64": "w6kA"}]}
    }
    assert write_tensors({"a": b"x\0"}, by_row=False) == {"outputs": "x\0"}
    assert write_tensors({"a_bytes": b"x\0"}, by_row=False) == {"outputs": {"b64": "eAA="}}


def test_floats_have_the_digits_of_their_type():
    values = np.array([0.1, 1e-30, 1 / 3, 1], "float32")
    text = json.dumps(write_tensors({"x": values}, by_row=False))
    assert text == '{"outputs": [0.1, 1e-30, 0.33333334, 1.0]}'
    assert np.array_equal(np.array(json.loads(text)["outputs"], "float32"), values)
    assert json.dumps(write_tensors({"x": np.float64(1 / 3)}, by_row=False)) == '{"outputs": 0.3333333333333333}'
    assert (
        json.dumps(write_tensors({"x": np.array([np.nan, -np.inf])}, by_row=False)) == '{"outputs": [NaN, -Infinity]}'
    )


@pytest.mark.parametrize("dtype", ["bool", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64", "float64"])
def test_each_type_that_tf_serving_writes_is_written(dtype):
    assert write_tensors({"x": np.zeros([1, 2], dtype)}, by_row=True) == {"predictions": [[0, 0]]}
    assert write_tensors({"x": np.zeros([0, 2], dtype)}, by_row=False) == {"outputs": []}


def test_a_type_without_a_value_is_written_whatever_it_is():
    assert write_tensors({"x": np.zeros(0, "float16")}, by_row=False) == {"outputs": []}
    assert write_tensors({"x": np.zeros([2, 0], "float16")}, by_row=True) == {"predictions": [[], []]}


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({}, "no outputs"),
        ({"x": np.zeros(1, "float16")}, "x is float16, which cannot"),
        ({"x": np.zeros(1, "complex64")}, "complex64"),
        ({"x": np.float32(0)}, "x has no batch dimension"),
        ({"x": np.zeros([0, 2])}, "or no rows"),
        ({"x": np.zeros(1), "y": np.zeros(2)}, "x 1, y 2"),
    ],
)
def test_outputs_that_cannot_be_written_by_row_are_refused(outputs, message):
    with pytest.raises(RequestError, match=message):
        write_tensors(outputs, by_row=True)
