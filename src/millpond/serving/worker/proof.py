"""Requests made of a signature and an example, on which a quick path has to do what MLflow does.

Decoding has to give the model the very same object: type, columns, order, dtypes, index and each bit of each value.
"""

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy
import pandas
from mlflow.pyfunc import PyFuncModel
from mlflow.types import DataType, Schema

from millpond.serving import columns
from millpond.serving.worker.rows import BROUGHT, INPUT_ROWS, INPUTS, INSTANCES, RECORDS, SMALLER, SPLIT

_WIDTH, _DIFFERENT = 3, 10
_ODD: Mapping[DataType, Sequence[Any]] = {
    DataType.double: (None, 0, -0.0, 3, 1e300, -1e300, 5e-324, 0.1, 2**53 + 1, 10**25, -7),
    DataType.float: (None, 0, -0.0, 3, 1e30, 1e-46, 16777217, 0.1, 10**25),
    DataType.long: (0, -1, 7, 2**31, 2**53 + 1, 2**63 - 1, -(2**63)),
    DataType.integer: (0, -1, 7, 2**31 - 1, -(2**31)),
    DataType.boolean: (True, False),
    DataType.string: ("", " a", "größe", "雪\u2028", "None", "nan", "1", None),
}
_FAR, _DECADES = 0.3, 4
"""How many values are far from the example's, and by how many powers of ten at most."""
_LARGEST: Mapping[DataType, float] = {
    DataType.double: 1e300,
    DataType.float: 1e30,
    DataType.long: 2.0**62,
    DataType.integer: 2.0**31 - 1,
}
_WRONG: Mapping[DataType, Sequence[Any]] = {
    DataType.double: (True, "1", "x", [1], {}),
    DataType.float: (False, "1", [], 1e39),
    DataType.long: (None, 1.0, 1.5, True, "1", 2**63),
    DataType.integer: (None, 1.0, 1.5, True, "1", 2**31),
    DataType.boolean: (None, 0, 1.0, "true"),
    DataType.string: (1, 1.5, True, [], "a\0", None),
}

_SQL: Mapping[DataType, str] = {
    DataType.double: "double", DataType.float: "float", DataType.long: "bigint", DataType.integer: "int",
    DataType.boolean: "boolean", DataType.string: "string",
}  # fmt: skip
_SMALLER: Mapping[DataType, tuple[str, Sequence[Any]]] = {
    DataType.double: ("int", (None, 0, 7, -(2**31), 2**31 - 1)),
    DataType.long: ("smallint", (0, 7, -(2**15), 2**15 - 1)),
    DataType.integer: ("tinyint", (0, 7, -128, 127)),
}
"""A smaller type of SQL for columns of a signature, and values of it."""

Row = Sequence[Any]


class Spy:
    """A model that keeps what it is given."""

    def predict(self, data: Any, params: Any = None) -> Any:
        """What it is given."""
        return data


def spied(model: PyFuncModel) -> Callable[[Any], Any]:
    """What MLflow hands to the model, of what its scoring server has read."""
    spying = PyFuncModel(model_meta=model.metadata, model_impl=Spy())
    return lambda data: spying.predict(data)


def same(ours: Any, theirs: Any) -> bool:
    """Whether a model could not tell one from the other."""
    if isinstance(ours, numpy.ndarray) and isinstance(theirs, numpy.ndarray):
        return ours.shape == theirs.shape and _same_values(ours, theirs)
    if not isinstance(ours, pandas.DataFrame) or not isinstance(theirs, pandas.DataFrame):
        return False
    if list(ours.columns) != list(theirs.columns) or list(ours.index) != list(theirs.index):
        return False
    if type(ours.index) is not type(theirs.index) or ours.columns.dtype != theirs.columns.dtype:
        return False
    if _order(ours) != _order(theirs):
        return False
    return all(
        ours[name].dtype == theirs[name].dtype and _same_values(ours[name].to_numpy(), theirs[name].to_numpy())
        for name in ours.columns
    )


def _order(frame: pandas.DataFrame) -> tuple[bool, bool]:
    """How the frame lies in memory: sums over another order are rounded in another way."""
    flags = frame.to_numpy().flags
    return flags.c_contiguous, flags.f_contiguous


def _same_values(ours: Any, theirs: Any) -> bool:
    if ours.dtype != theirs.dtype:
        return False
    if ours.dtype == object:
        return all(type(a) is type(b) and a == b for a, b in zip(ours, theirs, strict=True))
    return bool(ours.tobytes() == theirs.tobytes())


class Requests:
    """Requests for a model, the same in each process."""

    def __init__(self, schema: Schema, example: bytes | None) -> None:
        self._chance = random.Random(7)  # noqa: S311 - not a secret
        self._schema = schema
        self._names = [] if schema.is_tensor_spec() else schema.input_names()
        self._examples = _values_of(example)

    def plain(self, form: str, *, rows: int) -> Iterator[bytes]:
        """What a client would send: one row, several, and several with the oddest values that the signature allows."""
        yield self._body(form, [self._usual()])
        yield self._body(form, [self._usual() for _ in range(rows)])
        yield self._body(form, [self._with_some(_ODD) for _ in range(rows)])

    def many(self, form: str, *, rows: int) -> bytes:
        """More rows than are worth making: a few of them again and again."""
        made = [self._usual() for _ in range(_DIFFERENT)]
        return self._body(form, [made[number % _DIFFERENT] for number in range(rows)])

    def doubtful(self, form: str) -> Iterator[bytes]:
        """Other orders, indexes, and values of wrong types: in one column of each type."""
        if not self._names:
            return
        yield from self._moved(form)
        usual = self._usual()
        column_of = {spec.type: number for number, spec in enumerate(self._schema.inputs)}
        for kind, number in column_of.items():
            for value in _WRONG.get(kind, ()):
                yield self._body(form, [[*usual[:number], value, *usual[number + 1 :]], usual])

    def columns(self, given: str, *, rows: int) -> Iterator[bytes]:
        """What the server makes of requests with features: plain ones, odd ones, and some with wrong values."""
        yield self._as_columns(given, [self._usual()])
        yield self._as_columns(given, [self._usual() for _ in range(rows)])
        yield self._as_columns(given, [self._with_some(_ODD) for _ in range(rows)])
        usual = self._usual()
        for kind, number in {kind: number for number, kind in enumerate(self._schema.input_types())}.items():
            for value in _WRONG.get(kind, ()):
                yield self._as_columns(given, [[*usual[:number], value, *usual[number + 1 :]], usual])

    def _as_columns(self, given: str, rows: Sequence[Row]) -> bytes:
        made: dict[str, Sequence[Any]] = {}
        types: dict[str, str] = {}
        for name, kind, values in zip(self._names, self._schema.input_types(), zip(*rows, strict=True), strict=True):
            made[name] = values
            if given == SMALLER and kind in _SMALLER:
                types[name], known = _SMALLER[kind]
                made[name] = [self._chance.choice(known) for _ in values]
            elif given != BROUGHT:
                types[name] = _SQL[kind]
        return columns.encode(made, types=types, params=None)

    def _moved(self, form: str) -> Iterator[bytes]:
        rows = [self._usual() for _ in range(_WIDTH)]
        order = self._chance.sample(range(len(self._names)), len(self._names))
        yield _in_form(form, [self._names[at] for at in order], [[row[at] for at in order] for row in rows])
        if form == SPLIT:
            for index in ([0, 1, 2], [7, 3, 7]):
                yield json.dumps({SPLIT: {"columns": self._names, "index": index, "data": rows}}).encode()

    def _body(self, form: str, rows: Sequence[Row]) -> bytes:
        if self._names:
            return _in_form(form, self._names, rows)
        return json.dumps({form: rows}).encode()

    def _usual(self) -> Row:
        if not self._names:
            tensor = self._schema.inputs[0]
            values: Row = self._tensor(tensor.shape[1:], tensor.type.kind)
            return values
        return [self._near(name, spec.type) for name, spec in zip(self._names, self._schema.inputs, strict=True)]

    def _with_some(self, values: Mapping[DataType, Sequence[Any]]) -> Row:
        """A row of which a third are such values."""
        if not self._names:
            return self._usual()
        return [
            self._chance.choice(values[spec.type]) if spec.type in values and self._chance.random() < 1 / 3 else value
            for value, spec in zip(self._usual(), self._schema.inputs, strict=True)
        ]

    def _near(self, name: str, kind: DataType) -> Any:
        """A value like those of the example; some are of another order or sign."""
        known = self._chance.choice(self._examples.get(name) or [None])
        if kind is DataType.string:
            return known if isinstance(known, str) else "a"
        if kind is DataType.boolean:
            return self._chance.random() < 0.5
        around = float(known) if isinstance(known, int | float) else 0.0
        value = around * self._chance.uniform(0.3, 1.7) + self._chance.gauss(0, 1)
        if self._chance.random() < _FAR:  # where other branches and other classes are than about the example
            value *= self._chance.choice((-1, 1)) * 10 ** self._chance.uniform(-_DECADES, _DECADES)
        value = min(max(value, -_LARGEST[kind]), _LARGEST[kind])
        return round(value) if kind in {DataType.long, DataType.integer} else value

    def _tensor(self, shape: Sequence[int], kind: str) -> Any:
        if not shape:
            value = self._chance.gauss(0, 1)
            return value if kind == "f" else round(value)
        return [self._tensor(shape[1:], kind) for _ in range(_WIDTH if shape[0] == -1 else shape[0])]


def _in_form(form: str, names: Sequence[str], rows: Sequence[Row]) -> bytes:
    records = [dict(zip(names, row, strict=True)) for row in rows]
    columns = {name: [row[at] for row in rows] for at, name in enumerate(names)}
    shapes = {
        SPLIT: {SPLIT: {"columns": names, "data": rows}},
        RECORDS: {RECORDS: records},
        INSTANCES: {INSTANCES: records},
        INPUTS: {INPUTS: columns},
        INPUT_ROWS: {"inputs": records},
    }
    return json.dumps(shapes[form]).encode()


def _values_of(example: bytes | None) -> Mapping[str, Sequence[Any]]:
    """The values of each column in the model's own example, as MLflow writes one for data frames."""
    try:
        split = json.loads(example or b"{}")[SPLIT]
        return dict(zip(split["columns"], zip(*split["data"], strict=True), strict=True))
    except (KeyError, TypeError, ValueError):
        return {}
