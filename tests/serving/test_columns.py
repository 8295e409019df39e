"""Columns pass between server and worker as they are, and requests are read in each of MLflow's shapes."""

import json
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond.kernel.errors import InvalidArgument
from millpond.serving import columns
from millpond.serving.shapes import read_rows

KINDS = (
    st.floats(), st.integers(), st.text(), st.booleans(), st.lists(st.integers()), st.binary(), st.dates(),
    st.datetimes().map(lambda time: time.replace(fold=0)), st.decimals(allow_nan=False),
    st.dictionaries(st.text(), st.none() | st.floats(allow_nan=False)),
)  # fmt: skip


@given(st.lists(st.sampled_from(KINDS).flatmap(lambda kind: st.lists(st.none() | kind)), max_size=5))
def test_columns_arrive_as_they_were_sent(given: list[list[Any]]) -> None:
    sent = {f"c{number}": values for number, values in enumerate(given)}
    found, beside = columns.decode(columns.encode(sent, more={"a": 1}))
    assert repr(found) == repr(sent), "NaN is NaN, and -0.0 is not 0.0"
    assert beside == {"more": {"a": 1}}


def test_times_arrive_in_utc_and_kinds_do_not_mix() -> None:
    berlin = datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=1)))
    found, _ = columns.decode(columns.encode({"at": [berlin, None, datetime(2026, 1, 2, tzinfo=UTC)]}))
    assert found == {"at": [datetime(2026, 1, 2, 2), None, datetime(2026, 1, 2)]}
    for mixed in ([Decimal(1), 1], [date(2026, 1, 2), "2026-01-02"]):
        with pytest.raises(ValueError, match="several kinds"):
            columns.encode({"a": mixed})
    for nonsense in (b"", b"[]", b"{}", b'{"columns": 1}', b'{"columns": [["a", "time", ["x"]]]}',
                     b'{"columns": [["a", "decimal", ["x"]]]}', b'{"columns": [["a", "odd", [1]]]}'):  # fmt: skip
        with pytest.raises(ValueError, match=r"."):
            columns.decode(nonsense)


def test_each_shape_gives_the_same_rows() -> None:
    rows = [{"id": 1, "x": None}, {"id": 2, "x": [1]}]
    split = {"columns": ["id", "x"], "index": [7, 8], "data": [[1, None], [2, [1]]]}
    for told in ({"dataframe_records": rows}, {"dataframe_split": split}, {"instances": rows}, {"inputs": rows},
                 {"inputs": {"id": [1, 2], "x": [None, [1]]}}):  # fmt: skip
        assert read_rows(json.dumps(told | {"params": {"a": 1}}).encode()) == (rows, {"a": 1})
    assert read_rows(b'{"inputs": {"id": 1}}') == ([{"id": 1}], None)
    assert read_rows(b'{"inputs": {"id": []}}') == ([], None)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"{", "not JSON"), (b"[" * 100_000, "not JSON"), (b"\xff", "not JSON"), (b"[]", "one of dataframe_records"),
        (b'{"inputs": [], "instances": []}', "one of"), (b'{"instances": [[1]]}', "names"),
        (b'{"dataframe_records": {"id": 1}}', "list of objects"), (b'{"dataframe_split": {"data": []}}', "columns"),
        (b'{"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}', "for each of the columns"),
        (b'{"dataframe_split": {"columns": [1], "data": [[1]]}}', "texts"),
        (b'{"inputs": {"a": [1], "b": [1, 2]}}', "one length"), (b'{"inputs": {"a": [1], "b": 2}}', "one length"),
        (b'{"inputs": [], "params": []}', "params"),
    ],
)  # fmt: skip
def test_other_shapes_are_refused(body: bytes, why: str) -> None:
    with pytest.raises(InvalidArgument, match=why):
        read_rows(body)
