"""The rows of requests and answers told apart, in whatever shape they came."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeVar

import msgspec
import orjson

T = TypeVar("T")

LARGEST_TOLD_APART_BYTES = 8 << 20
"""Of larger requests and answers the rows are not told apart; they are kept whole all the same."""
_WHITE = b" \t\r\n"


class Told(NamedTuple):
    """What a request says of itself; None for what it does not say, or not plainly."""

    client_id: str | None = None
    inputs: list[str] | None = None
    """A row each, as JSON."""


def told_by_request(body: bytes, content_type: str) -> Told:
    """What is in a request's body. Whatever a client sends, nothing is raised that parsers are known to raise."""
    if len(body) > LARGEST_TOLD_APART_BYTES:
        return Told()
    kind = content_type.partition(";")[0].strip().lower()
    if kind != "text/csv" and (cut := _cut_request(body)) is not None:
        return cut
    asked = _parsed(body, kind)
    return Told(if_told(_client_id, asked), if_told(partial(inputs_of, size=len(body)), asked))


def told_by_answer(body: bytes) -> list[str] | None:
    """What was answered for each row, as JSON or text; None where it cannot be told."""
    if len(body) > LARGEST_TOLD_APART_BYTES:
        return None
    cut = _cut_answer(body)
    return cut if cut is not None else if_told(partial(predictions_of, size=len(body)), _parsed(body, ""))


def is_bounded(names: Iterable[object], rows: int, size: int) -> bool:
    """Whether rows may be told apart of so many bytes, as each of them repeats the names."""
    return size + rows * sum(len(str(name)) + 4 for name in names) <= LARGEST_TOLD_APART_BYTES  # quotes, colon, comma


# Plain numbers, cut out of the text: no object is made of each, and no text of that


class _Split(msgspec.Struct):
    columns: list[str]
    data: msgspec.Raw


class _Request(msgspec.Struct):
    dataframe_split: _Split
    client_request_id: str | None = None


class _Answer(msgspec.Struct):
    predictions: msgspec.Raw


_REQUEST = msgspec.json.Decoder(_Request)
_ANSWER = msgspec.json.Decoder(_Answer)


def _cut_request(body: bytes) -> Told | None:
    """Of `dataframe_split` with nothing but numbers, true, false and null; None for all else."""
    try:
        asked = _REQUEST.decode(body)
        rows = _cut_rows(asked.dataframe_split, len(body))
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    client_id = asked.client_request_id
    is_plain = rows is not None and (client_id is None or client_id.isascii())
    return Told(client_id, rows) if is_plain else None


def _cut_rows(split: _Split, size: int) -> list[str] | None:
    """Raises ValueError for a row of another length than the columns."""
    text = _plain(split.data)
    rows = text[2:-2].split("],[")
    is_table = text.startswith("[[") and text.endswith("]]") and all(row and "[" not in row for row in rows)
    if not is_table or not is_bounded(split.columns, len(rows), size):
        return None
    keys = _keys(tuple(split.columns))
    parts = [*keys, *keys, "}"]
    parts[:-1:2] = keys
    made = []
    for row in rows:
        parts[1::2] = row.split(",")
        made.append("".join(parts))
    return made


@lru_cache(maxsize=64)
def _keys(names: tuple[str, ...]) -> Sequence[str]:
    """What comes before each value of an object. Raises ValueError for names that are no plain keys."""
    if len(set(names)) < len(names) or not all(map(str.isascii, names)):
        raise ValueError(names)
    return [f"{',' if number else '{'}{json.dumps(name)}:" for number, name in enumerate(names)]


def _cut_answer(body: bytes) -> list[str] | None:
    """Of `predictions`, a number for each row; None for all else."""
    try:
        text = _plain(_ANSWER.decode(body).predictions)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    is_list = text.startswith("[") and text.count("[") == 1 and text != "[]"
    return text[1:-1].split(",") if is_list else None


def _plain(given: msgspec.Raw) -> str:
    """JSON without spaces. Raises ValueError where it has texts or objects."""
    text = bytes(given)
    if b'"' in text or b"{" in text:
        raise ValueError
    if any(white in text for white in _WHITE):
        text = text.translate(None, _WHITE)
    return text.decode()


# All else, parsed


def _parsed(body: bytes, kind: str) -> Any:
    """A body's JSON, the rows of CSV, or None."""
    try:
        if kind == "text/csv":
            return _of_csv(body.decode(), len(body))
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return _lenient(body)
    except (UnicodeDecodeError, csv.Error):
        return None


def _of_csv(text: str, size: int) -> dict[str, Any] | None:
    """The rows of CSV by their names; None of more than may be told apart."""
    reader, rows = csv.DictReader(io.StringIO(text)), []
    for row in reader:
        rows.append(row)
        if not is_bounded(reader.fieldnames or (), len(rows), size):
            return None
    return {"dataframe_records": rows}


def _lenient(body: bytes) -> Any:
    """JSON with NaN and Infinity, as Python writes it."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def if_told(find: Callable[[Any], T | None], body: Any) -> T | None:
    """What is found in a body; nothing in one that is nested too deeply. Whatever a client sends, its row is kept."""
    try:
        return find(body)
    except (RecursionError, ValueError):
        return None


def _client_id(asked: Any) -> str | None:
    told = asked.get("client_request_id") if isinstance(asked, dict) else None
    return None if told is None else as_text(told)


def inputs_of(asked: Any, size: int = 0) -> list[str] | None:
    """The rows of a request in any of MLflow's four shapes, as JSON; None where they cannot be told, or are too large.

    `size` is how many bytes it had.
    """
    if not isinstance(asked, dict):
        return None
    if isinstance(asked.get("dataframe_split"), dict):
        return _of_split(asked["dataframe_split"], size)
    for shape in ("dataframe_records", "instances"):
        if isinstance(asked.get(shape), list):
            return [_json(row) for row in asked[shape]]
    return _of_columns(asked["inputs"], size) if "inputs" in asked else None


def _of_split(split: Mapping[str, Any], size: int) -> list[str] | None:
    names, data = split.get("columns"), split.get("data")
    if not isinstance(data, list):
        return None
    if not isinstance(names, list):
        return [_json(row) for row in data]
    whole = all(isinstance(row, list) and len(row) == len(names) for row in data)
    whole = whole and is_bounded(names, len(data), size)
    return [_json(dict(zip(map(str, names), row, strict=True))) for row in data] if whole else None


def _of_columns(given: Any, size: int) -> list[str] | None:
    """`inputs`: a column for each name, or rows."""
    if isinstance(given, list):
        return [_json(row) for row in given]
    if not isinstance(given, dict) or not given or not all(isinstance(each, list) for each in given.values()):
        return [_json(given)]
    lengths = {len(each) for each in given.values()}
    if len(lengths) > 1 or not is_bounded(given, max(lengths), size):
        return None
    return [_json(dict(zip(given, row, strict=True))) for row in zip(*given.values(), strict=True)]


def predictions_of(answered: Any, size: int = 0) -> list[str] | None:
    """What was answered for each row; None where it cannot be told, or is too large."""
    if not isinstance(answered, dict):
        return None
    found = answered.get("predictions", answered.get("outputs"))
    if isinstance(found, list):
        return [as_text(each) for each in found]
    return _of_columns(found, size) if isinstance(found, dict) else None


def as_text(value: Any) -> str:
    """A text as it is, all else as JSON; so are texts that are none in UTF-8."""
    if isinstance(value, str) and value.isascii():
        return value
    try:
        return value.encode().decode() if isinstance(value, str) else _json(value)
    except UnicodeEncodeError:
        return _json(value)


def _json(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # a whole number that is larger than 64 bits, half of a character
        return json.dumps(value)
