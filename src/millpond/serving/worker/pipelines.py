"""Preparation as scikit-learn's pipelines do it, computed column by column without data frames.

Only steps whose arithmetic is written out here, each number by the operations that scikit-learn does on it; a pipeline
with any other step raises Unsuited when it is made, a row that scikit-learn would refuse when it comes.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy
from mlflow.types import DataType, Schema

from millpond.serving.worker.answers import Unsuited
from millpond.serving.worker.rows import Array, Rows

Prepare = Callable[[Rows], Array]
"""Rows to the matrix that the last step gets: doubles, shape (rows, features), in the order of C."""
_Step = Callable[[Any], Any]
"""A matrix to a matrix; or lists of texts, one for each column, to a matrix."""
_READ_AS_DOUBLES = {DataType.double, DataType.long, DataType.integer, DataType.boolean}


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What comes before a pipeline's last step."""

    prepare: Prepare
    last: Any
    sparse: bool
    """Whether scikit-learn hands the last step a sparse matrix, whose sums it makes in another order."""


def prepared(pipeline: Any, schema: Schema) -> Prepared:
    """A fitted pipeline, taken apart. Raises Unsuited with the first step that is not known here."""
    _check_parameters(pipeline)
    first, *middle, last = [step for _, step in pipeline.steps]
    if _name(first) == "ColumnTransformer":
        _check_parameters(first)
        prepare, sparse = _joined(first, schema), bool(first.sparse_output_)
    else:
        columns = range(len(schema.inputs))
        prepare, middle, sparse = _block("passthrough", columns, schema), [first, *middle], False
    if sparse and middle:
        raise Unsuited("steps after a sparse matrix")
    steps = [_numeric_step(step) for step in middle]
    return Prepared(prepare=lambda rows: _through(steps, prepare(rows)), last=last, sparse=sparse)


def _joined(transformer: Any, schema: Schema) -> Prepare:
    """All blocks of a ColumnTransformer, side by side."""
    names = schema.input_names()
    blocks = [
        _block(step, _positions(columns, names), schema)
        for _, step, columns in transformer.transformers_
        if not (isinstance(step, str) and step == "drop") and len(columns)
    ]
    if not blocks:
        raise Unsuited("a ColumnTransformer without columns")
    return lambda rows: numpy.hstack([block(rows) for block in blocks])


def _positions(columns: Any, names: Sequence[str]) -> Sequence[int]:
    """Where the columns are that a ColumnTransformer gives to one of its transformers."""
    if isinstance(columns, str | slice):
        raise Unsuited("columns that are not listed")
    listed = list(columns)
    if all(isinstance(each, bool | numpy.bool_) for each in listed):
        return [number for number, wanted in enumerate(listed) if wanted]
    if all(isinstance(each, str) for each in listed):
        return [names.index(each) for each in listed]
    return [int(each) for each in listed]


def _block(step: Any, columns: Sequence[int], schema: Schema) -> Prepare:
    kinds = {schema.inputs[at].type for at in columns}
    if _name(step) == "Pipeline":
        _check_parameters(step)
    steps = [each for _, each in step.steps] if _name(step) == "Pipeline" else [step]
    if kinds <= _READ_AS_DOUBLES:
        functions = [_numeric_step(each) for each in steps]
        return lambda rows: _through(functions, _doubles(rows, columns))
    if kinds != {DataType.string}:
        raise Unsuited("a step with columns of several kinds")
    while steps and _name(steps[0]) == "SimpleImputer":  # finds nothing missing: rows with None are not for this path
        _plain_imputer(steps.pop(0))
    if not steps or _name(steps[0]) not in _ENCODERS:
        raise Unsuited("texts that are not encoded at once")
    functions = [_ENCODERS[_name(steps[0])](steps[0]), *(_numeric_step(each) for each in steps[1:])]
    return lambda rows: _through(functions, _texts(rows, columns))


def _through(steps: Sequence[_Step], given: Any) -> Array:
    for step in steps:
        given = step(given)
    made: Array = given
    return made


def _doubles(rows: Rows, columns: Sequence[int]) -> Array:
    made = numpy.empty((len(rows), len(columns)))
    for number, at in enumerate(columns):
        made[:, number] = rows.column(at)
    return made


def _texts(rows: Rows, columns: Sequence[int]) -> Sequence[Sequence[Any]]:
    found = [rows.column(at).tolist() for at in columns]
    if any(None in column for column in found):
        raise Unsuited
    return found


def _name(step: Any) -> str:
    """The class of a step, where it is scikit-learn's own and not one made of it."""
    kind = type(step)
    return kind.__name__ if kind.__module__.startswith("sklearn.") else ""


def _check_parameters(step: Any) -> None:
    """Pass where each parameter is one that is known here, or as it is when nobody sets it. Raises Unsuited."""
    for name, parameter in inspect.signature(type(step)).parameters.items():
        value = vars(step).get(name, parameter.default)  # one of an older scikit-learn may not have it
        if name not in _KNOWN.get(_name(step), ()) and value is not parameter.default:
            raise Unsuited(f"a {_name(step)} with {name}")


# Steps


def _numeric_step(step: Any) -> _Step:
    if isinstance(step, str) and step == "passthrough":
        return lambda matrix: matrix
    if _name(step) in _ENCODERS:
        encode = _ENCODERS[_name(step)](step)
        return lambda matrix: encode(matrix.T.tolist())
    known = _NUMERIC.get(_name(step))
    if known is None:
        raise Unsuited(f"a step {type(step).__name__}")
    _check_parameters(step)
    return known(step)


def _scaled(step: Any, *, shift: str, by: str) -> _Step:
    center, scale = getattr(step, shift, None), getattr(step, by, None)

    def scaled(matrix: Array) -> Array:
        moved = matrix if center is None else matrix - center
        return moved if scale is None else moved / scale

    return scaled


def _standard(step: Any) -> _Step:
    return _scaled(step, shift="mean_" if step.with_mean else "", by="scale_" if step.with_std else "")


def _robust(step: Any) -> _Step:
    return _scaled(step, shift="center_" if step.with_centering else "", by="scale_" if step.with_scaling else "")


def _min_max(step: Any) -> _Step:
    return lambda matrix: matrix * step.scale_ + step.min_


def _plain_imputer(step: Any) -> None:
    _check_parameters(step)
    if not (isinstance(step.missing_values, float) and numpy.isnan(step.missing_values)):
        raise Unsuited("a SimpleImputer that does not only replace NaN")


def _imputed(step: Any) -> _Step:
    _plain_imputer(step)
    values = numpy.asarray(step.statistics_, dtype=numpy.float64)
    if numpy.isnan(values).any():
        raise Unsuited("a SimpleImputer that drops columns")
    return lambda matrix: numpy.where(numpy.isnan(matrix), values, matrix)


def _unchanged(_step: Any) -> _Step:
    return lambda matrix: matrix


def _codes(categories: Sequence[Any]) -> Sequence[Mapping[Any, int]]:
    """For each column the place of each category. NaN and None among them are not for this path."""
    found = [{value: place for place, value in enumerate(each.tolist())} for each in categories]
    if any(value is None or value != value for codes in found for value in codes):
        raise Unsuited("an encoder that has seen missing values")
    return found


def _check_encoder(step: Any) -> None:
    _check_parameters(step)
    if numpy.dtype(step.dtype) not in {numpy.dtype(numpy.float64), numpy.dtype(numpy.int64)}:
        raise Unsuited(f"a {_name(step)} that makes {numpy.dtype(step.dtype)}")


def _one_hot(step: Any) -> _Step:
    _check_encoder(step)
    if step.handle_unknown not in {"error", "ignore"}:
        raise Unsuited(f"a OneHotEncoder with handle_unknown={step.handle_unknown}")
    return partial(_ones, _codes(step.categories_), step.handle_unknown == "ignore")


def _ones(codes: Sequence[Mapping[Any, int]], ignores: bool, columns: Sequence[Sequence[Any]]) -> Array:
    made = numpy.zeros((len(columns[0]), sum(map(len, codes))))
    first = 0
    for known, column in zip(codes, columns, strict=True):
        for row, value in enumerate(column):
            place = known.get(value)
            if place is not None:
                made[row, first + place] = 1.0
            elif not ignores:
                raise Unsuited
        first += len(known)
    return made


def _ordinal(step: Any) -> _Step:
    _check_encoder(step)
    codes = _codes(step.categories_)
    unknown = step.unknown_value if step.handle_unknown == "use_encoded_value" else None

    def coded(columns: Sequence[Sequence[Any]]) -> Array:
        found = [[known.get(value, unknown) for value in column] for known, column in zip(codes, columns, strict=True)]
        if any(None in column for column in found):
            raise Unsuited
        return numpy.array(found, dtype=numpy.float64).T.copy()

    return coded


_ENCODERS: Mapping[str, Callable[[Any], _Step]] = {"OneHotEncoder": _one_hot, "OrdinalEncoder": _ordinal}
_NUMERIC: Mapping[str, Callable[[Any], _Step]] = {
    "StandardScaler": _standard,
    "RobustScaler": _robust,
    "MaxAbsScaler": lambda step: _scaled(step, shift="", by="scale_"),
    "MinMaxScaler": _min_max,
    "SimpleImputer": _imputed,
    "FunctionTransformer": _unchanged,
}
_KNOWN: Mapping[str, frozenset[str]] = {
    "Pipeline": frozenset({"steps", "memory", "verbose"}),
    "ColumnTransformer": frozenset({
        "transformers", "remainder", "sparse_threshold", "n_jobs", "verbose", "verbose_feature_names_out",
        "force_int_remainder_cols",
    }),
    "StandardScaler": frozenset({"copy", "with_mean", "with_std"}),
    "RobustScaler": frozenset({"copy", "with_centering", "with_scaling", "quantile_range", "unit_variance"}),
    "MaxAbsScaler": frozenset({"copy"}),
    "MinMaxScaler": frozenset({"copy", "feature_range"}),
    "SimpleImputer": frozenset({"copy", "missing_values", "strategy", "fill_value", "keep_empty_features"}),
    "FunctionTransformer": frozenset({
        "accept_sparse", "check_inverse", "inverse_func", "inv_kw_args", "feature_names_out",
    }),
    "OneHotEncoder": frozenset({"categories", "sparse_output", "dtype", "handle_unknown", "feature_name_combiner"}),
    "OrdinalEncoder": frozenset({"categories", "dtype", "handle_unknown", "unknown_value", "encoded_missing_value"}),
}  # fmt: skip
"""Parameters that are heeded here, or that have done what they do once a step is fitted."""
