"""Tensors of TF Serving's REST interface: read from JSON, written to JSON.

A request gives them by row, `{"instances": [...]}`, or by column, `{"inputs": ...}`, and is answered in kind. Where
JSON leaves things open, this follows what TF Serving 2.20 does.
"""

import base64
import itertools
import json
import re

import numpy as np

_BASE64 = re.compile(r"[A-Za-z0-9+/]*([=.]{0,2})")  # both are padding
# What an integer in JSON may be for each type. The small types take all of int32 and wrap around, as TF Serving's do.
_INTEGERS = {
    **dict.fromkeys(("int8", "int16", "int32", "uint8"), np.iinfo("int32")),
    **{name: np.iinfo(name) for name in ("int64", "uint32", "uint64")},
}
# From here on not every integer has a float of its own. Beyond 64 bits an integer in JSON counts as a float.
_EXACT = {"float32": 2**24, "float64": 2**53}
_WRITABLE = {*_INTEGERS, *_EXACT, "bool", "object"}


class RequestError(Exception):
    """A request that cannot be answered.

    Attributes:
        status: of the HTTP answer.
    """

    def __init__(self, message, status=400):
        super().__init__(message)
        self.status = status


class _Literal(float):
    """NaN, Infinity or -Infinity, which a request has to spell out; a number that is too large is an error."""


def parse_object(body):
    """The JSON object that a request's body begins with; as with TF Serving, what follows it is ignored.

    Args:
        body: bytes. Strings in it may hold bytes that are no UTF-8.

    Returns:
        A dictionary; of equal keys the first one counts.

    Raises:
        RequestError: the body does not begin with a JSON object.
    """
    text = body.decode("utf-8-sig", "surrogateescape").lstrip(" \t\r\n")
    if not text:
        raise RequestError("The body should be a JSON object. Received: nothing.")
    try:
        document, _ = _DECODER.raw_decode(text)
    except RecursionError:
        raise RequestError("The body is not JSON that can be read: it is nested too deeply.") from None
    except ValueError as error:
        raise RequestError(f"The body is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise RequestError(f"The body should be a JSON object. Received: {_show(document)}")
    return document


def read_tensors(document, dtypes):
    """The tensors that a request feeds.

    Args:
        document: what `parse_object` gave.
        dtypes: names of a signature's inputs -> names of their types, such as "float32" or "string".

    Returns:
        (whether they came by row, dictionary of name -> array). Strings are arrays of bytes objects. Shapes are those
        of the lists; by row, the first dimension counts the rows. Shapes are not compared with the signature's.

    Raises:
        RequestError: inputs are missing, unknown, of another type or of uneven shape.
    """
    by_row = "instances" in document
    if by_row == ("inputs" in document):
        raise RequestError(f"Expected either 'instances' or 'inputs'. Received the keys: {_names(document)}")
    columns = _from_rows(document["instances"], dtypes) if by_row else _from_columns(document["inputs"], dtypes)
    return by_row, {name: _read(name, columns[name], dtype) for name, dtype in dtypes.items()}


def write_tensors(outputs, by_row):
    """The answer to a request.

    Args:
        outputs: dictionary of name -> array, or scalar.
        by_row: whether the request came by row.

    Returns:
        `{"predictions": [...]}` by row, else `{"outputs": ...}`. One output comes bare, several by name. Strings are
        base64 where the output's name ends in _bytes; elsewhere each of their bytes is one character.

    Raises:
        RequestError: no outputs, a type that TF Serving does not write, or outputs that cannot be cut into rows.
    """
    if not outputs:
        raise RequestError("The signature has no outputs.")
    # NumPy's own strings lose zeros at their end.
    arrays = {name: np.asarray(value, object if isinstance(value, bytes) else None) for name, value in outputs.items()}
    if by_row:
        _check_rows(arrays)
    columns = {name: _write(name, array) for name, array in arrays.items()}
    if not by_row:
        return {"outputs": _unwrap(columns)}
    rows = zip(*columns.values(), strict=True)
    return {"predictions": [_unwrap(dict(zip(columns, row, strict=True))) for row in rows]}


def _from_rows(rows, names):
    if not isinstance(rows, list) or not rows:
        raise RequestError(f"'instances' should be a list of at least one row. Received: {_show(rows)}")
    named = _is_object(rows[0])
    if not named and len(names) > 1:
        raise RequestError(f"Each row should be an object with the keys {_names(names)}. Received: {_show(rows[0])}")
    for number, row in enumerate(rows):
        if _is_object(row) != named:
            raise RequestError(f"Rows should be all objects or all values. Row {number} is unlike row 0: {_show(row)}")
        if named and row.keys() != names.keys():
            raise RequestError(f"Row {number} should have the keys {_names(names)}. Received: {_names(row)}")
    return {name: [row[name] for row in rows] if named else rows for name in names}


def _from_columns(inputs, names):
    if not _is_object(inputs):
        if len(names) > 1:
            raise RequestError(f"'inputs' should be an object with the keys {_names(names)}. Received: {_show(inputs)}")
        return dict.fromkeys(names, inputs)
    missing = names.keys() - inputs.keys()
    if missing:
        raise RequestError(f"'inputs' should have the keys {_names(names)}. Missing: {_names(missing)}")
    return inputs


def _read(name, value, dtype):
    shape, values = _shape_and_values(name, value)
    return _converter(name, dtype)(name, values, dtype).reshape(shape)


def _shape_and_values(name, value):
    shape, values = [], [value]
    while values and isinstance(values[0], list):
        sizes = {len(item) if isinstance(item, list) else None for item in values}
        if len(sizes) > 1:
            raise RequestError(f"{name}: lists should have one shape. At depth {len(shape)} they differ in length.")
        shape.append(sizes.pop())
        values = [*itertools.chain.from_iterable(values)]
    return shape, values


def _converter(name, dtype):
    if dtype == "string":
        return _read_strings
    if dtype == "bool":
        return _read_bools
    if dtype in _INTEGERS:
        return _read_integers
    if dtype in _EXACT:
        return _read_floats
    raise RequestError(f"{name}: {dtype} cannot be given in JSON.")


def _read_strings(name, values, dtype):
    strings = [_string(name, value) for value in values]
    array = np.empty(len(strings), object)
    array[:] = strings
    return array


def _string(name, value):
    if isinstance(value, str):
        try:
            return value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise RequestError(f"{name}: a string holds half of a surrogate pair.") from None
    if not _is_base64(value):
        raise RequestError(f'{name}: expected a string or {{"b64": "..."}}. Received: {_show(value)}')
    text = "".join(value["b64"].split())
    padding = _BASE64.fullmatch(text)
    missing = -len(text.rstrip("=.")) % 4
    if not padding or missing == 3 or len(padding[1]) not in (0, missing):
        raise RequestError(f"{name}: this is not base64: {_show(value['b64'])}")
    return base64.b64decode(text.rstrip("=.") + "=" * missing)


def _read_bools(name, values, dtype):
    _check_types(name, values, {bool}, dtype)
    return np.array(values, bool)


def _read_integers(name, values, dtype):
    _check_types(name, values, {int}, dtype)
    limits = _INTEGERS[dtype]
    for value in (min(values, default=0), max(values, default=0)):
        if not limits.min <= value <= limits.max:
            raise RequestError(f"{name}: {dtype} should lie in {limits.min}..{limits.max}. Received: {value}")
    return np.array(values, limits.dtype).astype(dtype)


def _read_floats(name, values, dtype):
    if int in _check_types(name, values, {int, float, _Literal}, dtype):
        _check_exact(name, [value for value in values if type(value) is int], dtype)
    try:
        array = np.array(values, "float64")
    except OverflowError:
        raise RequestError(f"{name}: a number is too large for {dtype}.") from None
    for index in np.flatnonzero(np.abs(array) > np.finfo(dtype).max):
        if type(values[index]) is not _Literal:
            raise RequestError(f"{name}: {_show(values[index])} is too large for {dtype}.")
    return array.astype(dtype)


def _check_exact(name, integers, dtype):
    for value in integers:
        if abs(value) >= _EXACT[dtype] and -(2**63) <= value < 2**64:
            raise RequestError(f"{name}: not every integer is a {dtype} from {_EXACT[dtype]} on. Received: {value}")


def _check_types(name, values, expected, dtype):
    types = {*map(type, values)}
    if not types <= expected:
        other = next(value for value in values if type(value) not in expected)
        raise RequestError(f"{name}: expected {dtype}. Received: {_show(other)}")
    return types


def _check_rows(arrays):
    for name, array in arrays.items():
        if not array.ndim or not len(array):
            raise RequestError(f"The output {name} has no batch dimension, or no rows: ask by column, with 'inputs'.")
    if len({len(array) for array in arrays.values()}) > 1:
        sizes = ", ".join(f"{name} {len(array)}" for name, array in arrays.items())
        raise RequestError(f"The outputs differ in their first dimension ({sizes}): ask by column, with 'inputs'.")


def _write(name, array):
    if array.dtype.name not in _WRITABLE and array.size:  # TF Serving looks at values, one by one
        raise RequestError(f"The output {name} is {array.dtype.name}, which cannot be written as JSON.")
    if array.dtype == np.float32:
        return array.astype(str).astype("float64").tolist()  # the shortest digits that are this float32
    if array.dtype != object:
        return array.tolist()
    write = _write_base64 if name.endswith("_bytes") else _write_characters
    return np.asarray(np.frompyfunc(write, 1, 1)(array), object).tolist()


def _write_base64(string):
    return {"b64": base64.b64encode(string).decode()}


def _write_characters(string):
    return string.decode("latin-1")


def _unwrap(columns):
    return columns if len(columns) > 1 else next(iter(columns.values()))


def _is_base64(value):
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def _is_object(value):
    return isinstance(value, dict) and not _is_base64(value)


def _names(keys):
    return ", ".join(repr(key) for key in sorted(keys)) or "none"


def _show(value):
    text = json.dumps(value)
    return text if len(text) < 80 else f"{text[:77]}..."


def _first_of_equal_keys(pairs):
    return dict(reversed(pairs))


_DECODER = json.JSONDecoder(object_pairs_hook=_first_of_equal_keys, parse_constant=_Literal)
