"""Requests and answers told apart row by row, and as rows of the table."""

import json
import tracemalloc
from typing import Any

import pytest

from millpond.catalog.names import ObjectName
from millpond.inference_tables.bodies import inputs_of, predictions_of, told_by_answer, told_by_request
from millpond.inference_tables.rows import payload_rows
from millpond.inference_tables.segments import Record
from millpond.inference_tables.views import views_of
from millpond.serving.columns import encode
from millpond.serving.openapi import InputField, ModelInput


@pytest.mark.parametrize(
    ("asked", "rows"),
    [
        ({"dataframe_records": [{"a": 1}, {"a": None}]}, [{"a": 1}, {"a": None}]),
        ({"dataframe_split": {"columns": ["a", "b"], "data": [[1, "x"]]}}, [{"a": 1, "b": "x"}]),
        ({"dataframe_split": {"data": [[1, 2]]}}, [[1, 2]]),
        ({"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}, None),
        ({"instances": [{"a": 1}, [2]]}, [{"a": 1}, [2]]),
        ({"inputs": {"a": [1, 2], "b": ["x", "y"]}}, [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]),
        ({"inputs": {"a": [1, 2], "b": ["x"]}}, None),
        ({"inputs": [[1.5], [2]]}, [[1.5], [2]]),
        ({"inputs": {"a": 1}}, [{"a": 1}]),
        ({"messages": []}, None),
        ([1], None),
        (None, None),
    ],
)
def test_the_rows_of_a_request(asked: Any, rows: list[Any] | None) -> None:
    found = inputs_of(asked)
    assert (None if found is None else [json.loads(each) for each in found]) == rows


def test_the_predictions_of_an_answer() -> None:
    assert predictions_of({"predictions": [1, 0.5, "yes", None, [1, 2], 1 << 70]}) == [
        "1", "0.5", "yes", "null", "[1,2]", str(1 << 70)
    ]  # fmt: skip
    assert predictions_of({"outputs": [{"a": 1}]}) == ['{"a":1}']
    assert predictions_of({"predictions": {"a": [1, 2]}}) == ['{"a":1}', '{"a":2}']
    assert predictions_of({"predictions": 3}) is None
    assert predictions_of("no") is None


@pytest.mark.parametrize(
    "asked",
    [
        {"columns": ["a", "b c", "%"], "data": [[1, -2.5e-7, None], [True, 1 << 70, 3]]},
        {"columns": ["a"], "data": [[1], [2]]},
        {"columns": ["a"], "data": [[], [2]]},
        {"columns": ["a"], "data": [[1], 2, [3]]},
        {"columns": ["a"], "data": [[1], [2], 3]},
        {"columns": ["a"], "data": [[[1]], [2]]},
        {"columns": ["a"], "data": [[1], [[2]]]},
        {"columns": ["a", "b"], "data": [[1, [2]], [3, 4]]},
        {"columns": ["a", "b"], "data": [[1, 2], [3]]},
        {"columns": ["a", "b"], "data": [[1, "],["], [3, "}"]]},
        {"columns": ["a", "a"], "data": [[1, 2]]},
        {"columns": ["\u00e4", '"'], "data": [[1, 2]]},
        {"columns": ["a"], "data": []},
        {"columns": [], "data": [[]]},
        {"columns": ["a"], "data": {"a": [1]}},
        {"columns": None, "data": [[1]]},
    ],
)
def test_numbers_that_are_cut_out_of_a_request_are_as_when_it_is_parsed(asked: Any) -> None:
    for separators in ((",", ":"), (", ", ": "), ("\n,\t", " : ")):
        body = json.dumps({"dataframe_split": asked}, separators=separators).encode()
        cut, parsed = told_by_request(body, "application/json").inputs, inputs_of(json.loads(body))
        assert (cut and [*map(json.loads, cut)]) == (parsed and [*map(json.loads, parsed)])


@pytest.mark.parametrize(
    "answered",
    [[1, 2.5, None], [1], [], [[1, 2], [3]], [{"a": 1}], ["x", "1, 2"], {"a": [1, 2]}, {}, 3, None, [True, 1e-300]],
)
def test_numbers_that_are_cut_out_of_an_answer_are_as_when_it_is_parsed(answered: Any) -> None:
    body = json.dumps({"predictions": answered}).encode()
    assert told_by_answer(body) == predictions_of({"predictions": answered})


def record(**about: Any) -> dict[str, Any]:
    told = {
        "id": "i", "client": None, "who": "w", "type": "application/json", "at": 1_700_000_000_123, "direct": False,
        "entity": "e", "model": "m", "version": "2", "config": 3, "status": 200, "s": (0.01, 0.001, 0.002, 0.004),
    }  # fmt: skip
    return {**told, **about}


def test_a_row_has_all_that_is_known() -> None:
    given = encode({"a": [1, 2]})
    asked, binary = b'{"inputs": [NaN], "client_request_id": "mine"}', b"PAR1\xff"
    records = [
        Record(about=record(), request=asked, response=b'{"predictions": [NaN]}', features=given),
        Record(about=record(status=429, client="header", type="application/vnd.apache.parquet"), request=binary),
        Record(about=record(type="text/csv; charset=utf-8", direct=True), request=b"a,b\n1,x\n", response=b"[]"),
    ]
    first, second, third = payload_rows(records, "churn").to_pylist()
    assert first["client_request_id"] == "mine"
    assert (first["date"].isoformat(), first["execution_time_ms"], first["router_ms"]) == ("2023-11-14", 4, 3.0)
    assert dict(first["request_metadata"])["endpoint_name"] == "churn"
    assert (first["inputs"], first["predictions"]) == (["null"], ["null"])
    assert json.loads(first["features"]) == [{"a": 1}, {"a": 2}]
    assert (second["request"], second["client_request_id"]) == ("UEFSMf8=", "header")
    assert dict(second["request_metadata"])["request_encoding"] == "base64"
    assert (second["status_code"], second["inputs"], second["predictions"]) == (429, None, None)
    assert third["inputs"] == ['{"a":"1","b":"x"}']
    assert (third["route"], third["predictions"]) == ("direct", None)


@pytest.mark.parametrize(
    "body",
    [
        b'{"inputs": [' + b"[" * 900 + b"]" * 900 + b'], "predictions": ["\\ud800"], "client_request_id": "\\ud800"}',
        b'{"inputs": ' + b"[" * 100_000,
        b'{"inputs": ["\\ud800"], "predictions": ["\\ud800"], "client_request_id": [1]}',
        b"\x00\xff",
        b"",
    ],
)
def test_whatever_is_sent_has_a_row(body: bytes) -> None:
    (row,) = payload_rows([Record(about=record(), request=body, response=body)], "churn").to_pylist()
    assert row["request_bytes"] == len(body)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ({"dataframe_split": {"columns": ["x" * 30_000], "data": [[1]] * 7_000}}, "application/json"),
        ({"inputs": {"x" * 30_000: [1] * 14_000}}, "application/json"),
        ("x" * 30_000 + "\n" + "1\n" * 14_000, "text/csv"),
        ("," * 15_000 + "\n" + ",\n" * 7_000, "text/csv"),
    ],
)
def test_rows_that_would_repeat_long_names_are_not_told_apart(body: Any, content_type: str) -> None:
    asked = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    told = {"predictions": body["inputs"]} if "inputs" in body else []
    given = encode({"x" * 30_000: [1] * 14_000})
    made = Record(about=record(type=content_type), request=asked, response=json.dumps(told).encode(), features=given)
    tracemalloc.start()
    (row,) = payload_rows([made], "churn").to_pylist()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 48 << 20
    assert (row["inputs"], row["predictions"], row["features"]) == (None, None, None)
    assert row["request_bytes"] == len(asked)


def test_a_request_that_cannot_be_told_apart_has_its_row_all_the_same() -> None:
    deep = b'{"client_request_id": ' + b"[" * 900 + b"]" * 900 + b', "inputs": [1]}'
    broken = [Record(about=record(id="deep"), request=deep), Record(about=record(id="odd"), features=b"none of ours")]
    deep_row, odd_row = payload_rows(broken, "churn").to_pylist()
    assert (deep_row["databricks_request_id"], deep_row["inputs"]) == ("deep", ["1"])
    assert (odd_row["databricks_request_id"], odd_row["features"]) == ("odd", None)


def test_the_unpacked_view_has_the_columns_of_the_signatures() -> None:
    def model(*fields: tuple[str | None, str], outputs: list[tuple[str | None, str]]) -> ModelInput:
        made = [[InputField(name=name, type=kind, required=True) for name, kind in each] for each in (fields, outputs)]
        return ModelInput(fields=tuple(made[0]), example=None, outputs=tuple(made[1]))

    one = model(("x", "double"), ("my col", "string"), ("date", "datetime"), ("a'b", "long"), outputs=[(None, "int64")])
    two = model(("x", "string"), ("y", "long"), outputs=[(None, "int64")])
    unpacked, labelled = views_of(ObjectName("c", "s", "p_payload"), [one, two])
    assert str(unpacked.name) == "c.s.p_payload_unpacked"
    assert 'get_json_object(r.input_row, "$.x") AS `x`' in unpacked.query, "they differ about it"
    assert "\"$['my col']\") AS `my col`" in unpacked.query
    assert 'TRY_CAST(get_json_object(r.input_row, "$.date") AS TIMESTAMP) AS `input_date`' in unpacked.query
    assert "a'b" not in unpacked.query, "a name that could end the text is not told"
    assert "AS BIGINT) AS prediction" in unpacked.query
    assert "TRY_CAST(l.label AS BIGINT) AS label" in labelled.query
