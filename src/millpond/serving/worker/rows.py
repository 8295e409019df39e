"""Requests in JSON as columns, in the plain cases that a signature foresees; what is not plain is MLflow's to read.

msgspec makes a decoder of the signature that is stricter than MLflow: a whole number where one is wanted, no column
missing or unknown, no odd index. What passes it has one meaning, and `proof` has found it to be MLflow's.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from struct import Struct
from struct import error as StructError
from typing import Annotated, Any

import msgspec
import numpy
import pandas
from mlflow.types import DataType, Schema
from msgspec import UNSET, Meta, Raw, UnsetType

from millpond.serving.worker.answers import Unsuited

Array = numpy.ndarray[Any, Any]

SPLIT, RECORDS, INSTANCES, INPUTS, INPUT_ROWS = FORMS = (
    "dataframe_split", "dataframe_records", "instances", "inputs", "inputs, by rows",
)  # fmt: skip
"""The ways in which MLflow's scoring protocol brings rows. `inputs` has columns, or rows."""
_MOST_ORDERS = 16
_MOST_DIMENSIONS = 4


@dataclass(frozen=True, kw_only=True)
class _Type:
    """What JSON may bring for a column, and what becomes of it. `strict` where MLflow goes by way of NumPy."""

    json: Any
    strict: Any
    dtype: Any


def _whole(bits: int) -> Any:
    return Annotated[int, Meta(ge=-(1 << (bits - 1)), le=(1 << (bits - 1)) - 1)]


_TYPES: Mapping[DataType, _Type] = {
    DataType.double: _Type(json=float | None, strict=float | None, dtype=numpy.dtype(numpy.float64)),
    DataType.float: _Type(json=float | None, strict=float | None, dtype=numpy.dtype(numpy.float32)),
    DataType.long: _Type(json=_whole(64), strict=_whole(64), dtype=numpy.dtype(numpy.int64)),
    DataType.integer: _Type(json=_whole(32), strict=_whole(32), dtype=numpy.dtype(numpy.int32)),
    DataType.boolean: _Type(json=bool, strict=bool, dtype=numpy.dtype(bool)),
    DataType.string: _Type(json=str | None, strict=str, dtype=numpy.dtype(object)),  # NumPy makes "None" of None
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """The rows of a request in the order of the signature's columns: a matrix where all of them are doubles."""

    names: pandas.Index | None
    """None where the signature is a tensor's."""
    matrix: Array | None = None
    columns: Sequence[Array] = ()
    index: Sequence[int] | None = None

    def __len__(self) -> int:
        return len(self.columns[0] if self.matrix is None else self.matrix)

    def given(self) -> Any:
        """What MLflow hands to the model: a data frame, or a tensor's array."""
        if self.names is None:
            return self.matrix
        if self.matrix is not None:
            by_column = numpy.asfortranarray(self.matrix)  # as pandas has it: another order rounds other sums
            return pandas.DataFrame(by_column, columns=self.names, index=self.index)
        return pandas.DataFrame(dict(zip(self.names, self.columns, strict=True)), index=self.index)

    def column(self, number: int) -> Array:
        """One column."""
        return self.columns[number] if self.matrix is None else self.matrix[:, number]

    def numbers(self) -> Array:
        """All columns as one matrix of doubles, shape (rows, columns); only of a signature without texts."""
        if self.matrix is not None:
            return self.matrix
        made = numpy.empty((len(self), len(self.columns)))
        for number, column in enumerate(self.columns):
            made[:, number] = column
        return made


@dataclass(frozen=True, kw_only=True)
class _Way:
    """What a form looks like as msgspec decodes it, and how that becomes rows."""

    key: str
    json: Any
    kind: type
    read: Callable[[Any], Rows]


class RowReader:
    """Reads requests of one signature in some of the forms. Raises Unsuited when none can be read."""

    def __init__(self, schema: Schema, forms: Sequence[str] = FORMS) -> None:
        ways = {form: way for form, way in _ways_of(schema).items() if form in forms}
        if not ways:
            raise Unsuited("there is no form in which its input can be read directly")
        self.forms = tuple(ways)
        self._ways = tuple(ways.values())
        self._decoder = msgspec.json.Decoder(_request_type(self._ways))
        self._has_texts = any(spec.type is DataType.string for spec in schema.inputs)

    def read(self, body: bytes) -> Rows:
        """The rows of a request. Raises Unsuited."""
        if self._has_texts and b"\\u0000" in body:
            raise Unsuited  # NumPy drops the zeros at the end of a text
        try:
            rows = self._rows(self._decoder.decode(body))
        except (msgspec.DecodeError, ValueError, OverflowError, RecursionError) as error:
            raise Unsuited from error
        if len(rows) == 0:
            raise Unsuited
        return rows

    def _rows(self, request: Any) -> Rows:
        given = [(way, value) for way in self._ways if isinstance(value := getattr(request, way.key), way.kind)]
        if len(given) != 1:
            raise Unsuited
        ((way, value),) = given
        return way.read(value)


def _request_type(ways: Sequence[_Way]) -> type[msgspec.Struct]:
    """A request of which exactly one key is to be set. A key that MLflow ignores is let through, others are not."""
    types: dict[str, Any] = {}
    for way in ways:
        types[way.key] = types[way.key] | way.json if way.key in types else way.json
    fields = [(key, json | UnsetType, UNSET) for key, json in types.items()]
    ignored = ("client_request_id", str | None, None)
    return msgspec.defstruct("Request", [*fields, ignored], forbid_unknown_fields=True)


def _ways_of(schema: Schema) -> Mapping[str, _Way]:
    if schema.is_tensor_spec():
        return _tensor_ways(schema)
    if not schema.has_input_names():
        raise Unsuited("its signature does not name its columns")
    return _Table(schema).ways()


# Columns of which the server has made a request, with the features that it has looked up

EXACT, SMALLER, BROUGHT = GIVEN = ("of the signature's types", "of smaller whole numbers", "of the request")
"""Where the values of a column are from: SQL columns of two kinds, or the request."""
_EXACT: Mapping[DataType, Sequence[str]] = {
    DataType.double: ("double",),
    DataType.float: ("float",),
    DataType.long: ("bigint", "long"),
    DataType.integer: ("int", "integer"),
    DataType.boolean: ("boolean",),
    DataType.string: ("string",),
}
_SMALLER: Mapping[str, int] = {"int": 32, "integer": 32, "smallint": 16, "short": 16, "tinyint": 8, "byte": 8}
"""SQL types, and their bits."""


class ColumnReader:
    """Reads requests of which the server has made columns. Raises Unsuited when none can be read."""

    def __init__(self, schema: Schema, given: Collection[str]) -> None:
        if schema.is_tensor_spec() or not schema.has_input_names():
            raise Unsuited("its signature does not name its columns")
        self._given = given
        self.told = [f"columns {each}" for each in given]
        """In words, which columns it reads."""
        self._table = _Table(schema)
        self._type_of = dict(zip(map(str, schema.input_names()), schema.input_types(), strict=True))
        self._decoder = msgspec.json.Decoder(_Columns)
        self._layouts: dict[tuple[str, ...], Sequence[tuple[int, msgspec.json.Decoder[Any]]]] = {}
        self._has_texts = DataType.string in self._type_of.values()

    def read(self, body: bytes) -> Rows:
        """The rows of a request. Raises Unsuited."""
        if self._has_texts and b"\\u0000" in body:
            raise Unsuited  # as RowReader does
        try:
            asked = self._decoder.decode(body)
            layout = self._layout(asked)
            values = [decoder.decode(asked.columns[at][2]) for at, decoder in layout]
            if not values[0] or any(len(column) != len(values[0]) for column in values):
                raise Unsuited
            return self._table.of_columns(values)
        except (msgspec.DecodeError, ValueError, OverflowError, RecursionError) as error:
            raise Unsuited from error

    def _layout(self, asked: "_Columns") -> Sequence[tuple[int, msgspec.json.Decoder[Any]]]:
        """For each column of the signature where it is, and what decodes it. Raises Unsuited."""
        key = tuple(text for name, kind, _ in asked.columns for text in (name, kind, asked.types.get(name, "")))
        known = self._layouts.get(key)
        if known is None:
            names = [name for name, _, _ in asked.columns]
            plain = not any(kind for _, kind, _ in asked.columns)  # others are times, decimals, binaries
            if not plain or sorted(names) != sorted(self._type_of) or len(self._layouts) >= _MOST_ORDERS:
                raise Unsuited
            known = self._layouts[key] = [
                (names.index(name), msgspec.json.Decoder(_list_of(self._json(kind, asked.types.get(name)))))
                for name, kind in self._type_of.items()
            ]
        return known

    def _json(self, kind: DataType, sql: str | None) -> Any:
        """What JSON may bring for a column of the signature that is of a SQL type, or of the request."""
        if BROUGHT in self._given and sql is None:
            return _TYPES[kind].json
        sql = (sql or "").lower()
        if EXACT in self._given and sql in _EXACT[kind]:
            return _TYPES[kind].json
        if SMALLER in self._given and sql in _SMALLER:
            if kind is DataType.double:
                return _whole(_SMALLER[sql]) | None  # a fraction where one is missing
            if kind in {DataType.long, DataType.integer}:
                return _whole(_SMALLER[sql])
        raise Unsuited


class _Columns(msgspec.Struct, forbid_unknown_fields=True):
    """As `serving.columns` writes them."""

    columns: list[tuple[str, str, Raw]]
    types: dict[str, str]
    params: None


# Columns


class _Table:
    """Rows of named columns."""

    def __init__(self, schema: Schema) -> None:
        unread = [f"{spec.name} ({spec.type})" for spec in schema.inputs if spec.type not in _TYPES]
        if unread:
            raise Unsuited(f"columns of these types are read by MLflow: {', '.join(unread[:5])}")
        self._names = tuple(str(name) for name in schema.input_names())
        self._types = tuple(_TYPES[spec.type] for spec in schema.inputs)
        self._pandas_names = pandas.Index(self._names)
        self._all_doubles = all(spec.type is DataType.double for spec in schema.inputs)
        self._doubles = Struct(f"{len(self._names)}d")
        self._orders: dict[tuple[str, ...], tuple[msgspec.json.Decoder[Any], list[int]]] = {}

    def ways(self) -> Mapping[str, _Way]:
        """The forms that can be read; those by objects only where msgspec can have the names as keys."""
        split = self._split()
        ways = {SPLIT: _Way(key=SPLIT, json=split, kind=split, read=self._of_split)}
        try:
            row, strict = self._struct([kind.json for kind in self._types]), [kind.strict for kind in self._types]
            strict_row, lists = self._struct(strict), self._struct([_list_of(each) for each in strict])
        except ValueError:  # an odd character in a name
            return ways
        ways[RECORDS] = _Way(key=RECORDS, json=_list_of(row), kind=list, read=self._of_rows)
        ways[INSTANCES] = _Way(key=INSTANCES, json=_list_of(strict_row), kind=list, read=self._of_rows)
        ways[INPUTS] = _Way(key=INPUTS, json=lists, kind=lists, read=self._of_lists)
        ways[INPUT_ROWS] = _Way(key=INPUTS, json=_list_of(strict_row), kind=list, read=self._of_rows)
        return ways

    def _split(self) -> type[msgspec.Struct]:
        """Rows that are the same in any order of columns are decoded at once, others when the order is known."""
        data = _rows_of(self._types) if self._all_doubles else Raw
        fields: list[Any] = [("columns", list[str]), ("data", data), ("index", list[int] | None, None)]
        return msgspec.defstruct("Split", fields, forbid_unknown_fields=True)

    def _struct(self, types: Sequence[Any]) -> type[msgspec.Struct]:
        keys = {f"c{number}": name for number, name in enumerate(self._names)}
        fields = list(zip(keys, types, strict=True))
        return msgspec.defstruct("Row", fields, rename=keys, forbid_unknown_fields=True, gc=False)

    def _of_rows(self, rows: Sequence[msgspec.Struct]) -> Rows:
        return self._of_tuples([msgspec.structs.astuple(row) for row in rows])

    def _of_lists(self, lists: msgspec.Struct) -> Rows:
        columns = msgspec.structs.astuple(lists)
        if any(len(column) != len(columns[0]) for column in columns):
            raise Unsuited
        return self.of_columns(columns)

    def _of_split(self, split: Any) -> Rows:
        decoder, order = self._decoder_of(tuple(split.columns))
        rows = split.data if self._all_doubles else decoder.decode(split.data)
        if split.index is not None and len(split.index) != len(rows):
            raise Unsuited
        return self._of_tuples(rows, order, split.index)

    def _decoder_of(self, names: tuple[str, ...]) -> tuple[msgspec.json.Decoder[Any], list[int]]:
        """What decodes rows whose columns come in an order of their own, and where it has each of ours."""
        known = self._orders.get(names)
        if known is None:
            if sorted(names) != sorted(self._names) or len(self._orders) >= _MOST_ORDERS:
                raise Unsuited
            type_of = dict(zip(self._names, self._types, strict=True))
            order = [names.index(name) for name in self._names]
            known = self._orders[names] = (msgspec.json.Decoder(_rows_of([type_of[name] for name in names])), order)
        return known

    def _of_tuples(
        self, rows: Sequence[tuple[Any, ...]], order: Sequence[int] = (), index: Sequence[int] | None = None
    ) -> Rows:
        if not rows:
            raise Unsuited
        if self._all_doubles:
            return Rows(names=self._pandas_names, matrix=_ordered(self._matrix(rows), order), index=index)
        columns = list(zip(*rows, strict=True))
        return self.of_columns([columns[at] for at in order] if order else columns, index)

    def _matrix(self, rows: Sequence[tuple[float | None, ...]]) -> Array:
        """A third of the time that NumPy takes to look at each value."""
        try:
            numbers = bytearray().join([self._doubles.pack(*row) for row in rows])
        except StructError:  # a value is missing
            return numpy.array(rows, dtype=numpy.float64)
        return numpy.frombuffer(numbers).reshape(len(rows), -1)

    def of_columns(self, columns: Sequence[Sequence[Any]], index: Sequence[int] | None = None) -> Rows:
        """Columns of one length, in the signature's order."""
        if self._all_doubles:
            matrix = numpy.ascontiguousarray(numpy.array(columns, dtype=numpy.float64).T)
            return Rows(names=self._pandas_names, matrix=matrix, index=index)
        made = [_column(values, kind.dtype) for values, kind in zip(columns, self._types, strict=True)]
        return Rows(names=self._pandas_names, columns=made, index=index)


def _rows_of(types: Sequence[_Type]) -> Any:
    row: Any = tuple.__class_getitem__(tuple(kind.json for kind in types))
    return _list_of(row)


def _list_of(kind: Any) -> Any:
    return list[kind]


def _ordered(matrix: Array, order: Sequence[int]) -> Array:
    moved = any(at != number for number, at in enumerate(order))
    return numpy.ascontiguousarray(matrix[:, list(order)]) if moved else matrix


def _column(values: Sequence[Any], dtype: Any) -> Array:
    if dtype.kind == "O":
        made = numpy.empty(len(values), dtype=object)
        made[:] = values
        return made
    if dtype == numpy.float32:
        return numpy.array(values, dtype=numpy.float64).astype(dtype)
    return numpy.array(values, dtype=dtype)


# Tensors


def _tensor_ways(schema: Schema) -> Mapping[str, _Way]:
    """Nested lists of numbers for the only tensor of a signature."""
    tensor = schema.inputs[0]
    plain = tensor.type.kind in {"f", "i"} and 1 <= len(tensor.shape) <= _MOST_DIMENSIONS
    if len(schema.inputs) > 1 or tensor.name or not plain:
        raise Unsuited("its signature is not one tensor of numbers without a name")
    json: Any = float if tensor.type.kind == "f" else _whole(tensor.type.itemsize * 8)
    for _ in tensor.shape:
        json = _list_of(json)

    def read(values: Sequence[Any]) -> Rows:
        made = numpy.array(values, dtype=tensor.type)
        if made.ndim != len(tensor.shape) or any(
            w not in {-1, n} for w, n in zip(tensor.shape, made.shape, strict=True)
        ):
            raise Unsuited
        return Rows(names=None, matrix=made)

    return {key: _Way(key=key, json=json, kind=list, read=read) for key in (INSTANCES, INPUTS)}
