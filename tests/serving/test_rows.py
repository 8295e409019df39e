"""Which requests are read past MLflow: the plain ones in each form, and no others."""

import json
from typing import Any

import numpy as np
import pytest
from mlflow.types.schema import ColSpec, Schema, TensorSpec

from millpond.serving.worker.answers import Unsuited
from millpond.serving.worker.rows import FORMS, RowReader

NUMBERS = Schema([ColSpec("double", "a"), ColSpec("double", "b c")])
MIXED = Schema([ColSpec("long", "n"), ColSpec("float", "x"), ColSpec("boolean", "yes"), ColSpec("string", "text")])
ROW: dict[str, Any] = {"n": 7, "x": 0.1, "yes": True, "text": "größe"}


def body(given: Any) -> bytes:
    return json.dumps(given).encode()


@pytest.mark.parametrize(
    "given",
    [
        {"dataframe_records": [{"b c": 2, "a": None}, {"a": 3.5, "b c": 4}]},
        {"dataframe_split": {"columns": ["b c", "a"], "data": [[2, None], [4, 3.5]]}},
        {"instances": [{"a": None, "b c": 2}, {"a": 3.5, "b c": 4}]},
        {"inputs": {"a": [None, 3.5], "b c": [2, 4]}},
        {"inputs": [{"a": None, "b c": 2}, {"a": 3.5, "b c": 4}]},
    ],
    ids=FORMS[1:2] + FORMS[:1] + FORMS[2:],
)
def test_doubles_become_one_matrix_in_the_order_of_the_signature(given: Any) -> None:
    rows = RowReader(NUMBERS).read(body(given))
    assert rows.matrix is not None
    np.testing.assert_array_equal(rows.matrix, [[np.nan, 2], [3.5, 4]])
    assert list(rows.given().columns) == ["a", "b c"]


def test_other_types_become_columns() -> None:
    frame = RowReader(MIXED).read(body({"dataframe_records": [ROW, ROW | {"text": None}]})).given()
    assert [str(dtype) for dtype in frame.dtypes] == ["int64", "float32", "bool", "object"]
    assert frame.iloc[1].tolist() == [7, np.float32(0.1), True, None]


def test_an_index_is_the_frames() -> None:
    given = {"dataframe_split": {"columns": ["a", "b c"], "index": [7, 9], "data": [[1, 2], [3, 4]]}}
    assert list(RowReader(NUMBERS).read(body(given)).given().index) == [7, 9]


def test_a_tensor_is_an_array_of_its_type_and_shape() -> None:
    reader = RowReader(Schema([TensorSpec(np.dtype("float32"), (-1, 2, 1))]))
    array = reader.read(b'{"instances": [[[1], [2.5]]]}').given()
    assert (array.shape, array.dtype) == ((1, 2, 1), np.float32)
    for bad in (b'{"instances": [[[1]]]}', b'{"instances": [[1, 2]]}', b'{"instances": [[["1"], [2]]]}'):
        with pytest.raises(Unsuited):
            reader.read(bad)


@pytest.mark.parametrize(
    "change",
    [
        {"n": 1.0},
        {"n": None},
        {"n": True},
        {"n": 2**63},
        {"x": "1"},
        {"x": False},
        {"yes": 1},
        {"text": 5},
        {"more": 1},
    ],
    ids=str,
)
def test_what_has_another_type_is_left_to_mlflow(change: dict[str, Any]) -> None:
    with pytest.raises(Unsuited):
        RowReader(MIXED).read(body({"dataframe_records": [ROW | change]}))


@pytest.mark.parametrize(
    "given",
    [
        b"", b"{", b"[]", b"7", b"\xff", b"{}", b'{"dataframe_records": []}', b'{"messages": []}',
        b'{"dataframe_records": [{"a": 1}]}', b'{"dataframe_records": [{"a": NaN, "b c": 1}]}',
        b'{"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}',
        b'{"dataframe_split": {"columns": ["a", "b c"], "data": [[1, 2], [3]]}}',
        b'{"dataframe_split": {"columns": ["a", "b c"], "index": [1, 2], "data": [[1, 2]]}}',
        b'{"inputs": {"a": [1, 2], "b c": [1]}}', b'{"inputs": {"a": 1, "b c": 1}}',
        b'{"inputs": {"a": [1], "b c": [1]}, "params": {"x": 1}}',
        b'{"inputs": {"a": [1], "b c": [1]}, "instances": [{"a": 1, "b c": 2}]}',
    ],
)  # fmt: skip
def test_what_is_not_plain_is_left_to_mlflow(given: bytes) -> None:
    with pytest.raises(Unsuited):
        RowReader(NUMBERS).read(given)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (Schema([ColSpec("datetime", "at")]), r"at \(DataType.datetime\)"),
        (Schema([ColSpec("double")]), "does not name its columns"),
        (Schema([TensorSpec(np.dtype("U"), (-1,))]), "not one tensor of numbers"),
    ],
)
def test_a_signature_that_is_not_read_here_is_told(schema: Schema, said: str) -> None:
    with pytest.raises(Unsuited, match=said):
        RowReader(schema)


def test_an_odd_name_leaves_the_form_without_keys() -> None:
    assert RowReader(Schema([ColSpec("double", 'a "quoted" name')])).forms == ("dataframe_split",)
