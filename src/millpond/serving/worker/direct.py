"""How the models of known flavors are called past their wrappers: the quickest way first, for `proof` to judge.

A way takes rows and returns what MLflow's wrapper would. It raises Unsuited for rows that the library itself would
refuse or treat in another way; MLflow answers those.
"""

import ctypes
import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy
from mlflow.pyfunc import PyFuncModel
from mlflow.types import Schema

from millpond.serving.worker import boosters, forests
from millpond.serving.worker.answers import Unsuited
from millpond.serving.worker.pipelines import Prepared, prepared
from millpond.serving.worker.rows import Array, Rows

_OnMatrix = Callable[[Array], Array]
"""Rows as doubles, shape (rows, columns), to predictions."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way to predict."""

    name: str
    """In words, after 'by'."""
    prepare: Callable[[Rows], Any]
    call: Callable[[Any], Any]
    """What the model says to what has been prepared."""
    by_row: bool = False
    """Whether what is prepared is a matrix, of which each row has its answer whatever rows are beside it."""
    labels: int = 0
    """How many classes it tells apart, where we choose them: a proof has to see more than one of them."""
    few: int = 0
    """How many rows it answers in a way of their own, where there is one: a proof has to see more rows too."""

    def predict(self, rows: Rows) -> Any:
        """The model's answer to some rows."""
        return self.call(self.prepare(rows))


def ways_to_predict(model: PyFuncModel) -> Sequence[Way]:
    """The ways for a model, the quickest first. Raises Unsuited, with the reason, where there is none but MLflow's."""
    config = model.metadata.flavors["python_function"]
    flavor = str(config.get("loader_module", "")).removeprefix("mlflow.")
    if flavor not in _FLAVORS:
        raise Unsuited(f"models of {flavor or 'an unknown flavor'} are called by MLflow alone")
    function = str(config.get("predict_fn", "predict"))
    call = getattr(model._model_impl, function)
    whole = Way(name=f"the {flavor} model past MLflow's parsing", prepare=Rows.given, call=call)
    try:
        return [_FLAVORS[flavor](model._model_impl.get_raw_model(), function, model.metadata.get_input_schema()), whole]
    except Unsuited as reason:
        return [replace(whole, name=f"{whole.name} ({reason})") if str(reason) else whole]


def _only_past_parsing(_model: Any, _function: str, _schema: Schema) -> Way:
    raise Unsuited


# LightGBM


def _lightgbm(model: Any, function: str, _schema: Schema) -> Way:
    score, labels = _lightgbm_on_matrix(model, function), _labels_of(model, function)
    return Way(name="LightGBM's booster on a matrix", prepare=Rows.numbers, call=score, by_row=True, labels=labels)


def _lightgbm_on_matrix(model: Any, function: str) -> _OnMatrix:
    kind = type(model).__name__
    if kind != "Booster" and not _is_plain_lightgbm(model):
        raise Unsuited
    if function != "predict" or kind not in {"Booster", "LGBMRegressor", "LGBMClassifier"}:
        raise Unsuited
    scores = _row_or_matrix(getattr(model, "booster_", model))
    if kind != "LGBMClassifier":
        return scores
    classes = model.classes_
    return lambda matrix: _labels(scores(matrix), classes)


def _row_or_matrix(booster: Any) -> _OnMatrix:
    """The booster, which is asked for a single row in LightGBM's own way for that: a sixth of the time; and for many in
    ours, a third of it.

    Source: LightGBM's C API, LGBM_BoosterPredictForMatSingleRowFastInit and the function that it prepares.
    """
    whole: _OnMatrix = booster.predict
    with suppress(Unsuited):
        whole = boosters.scores_of(booster)
    try:
        one = _one_row(booster)
    except (ImportError, AttributeError):  # another LightGBM than the one that this was written for
        return whole
    return lambda matrix: one(matrix) if len(matrix) == 1 else whole(matrix)


def _one_row(booster: Any) -> _OnMatrix:
    from lightgbm.basic import _LIB, _safe_call  # type: ignore[attr-defined]  # here, as models of other flavors need no LightGBM

    width, classes = booster.num_feature(), booster.num_model_per_iteration()
    doubles, plain, all_or_best = ctypes.c_int(1), ctypes.c_int(0), ctypes.c_int(booster.best_iteration)
    prepared = ctypes.c_void_p()
    _safe_call(
        _LIB.LGBM_BoosterPredictForMatSingleRowFastInit(
            booster._handle, plain, ctypes.c_int(0), all_or_best, doubles, ctypes.c_int32(width), b"",
            ctypes.byref(prepared),
        )
    )  # fmt: skip
    predict, alone = _LIB.LGBM_BoosterPredictForMatSingleRowFast, threading.Lock()

    def one(matrix: Array) -> Array:
        if matrix.shape[1] != width:
            raise Unsuited
        row, scores, length = numpy.ascontiguousarray(matrix, numpy.float64), numpy.empty(classes), ctypes.c_int64()
        with alone:  # what is prepared has room for one row
            _safe_call(
                predict(
                    prepared,
                    ctypes.c_void_p(row.ctypes.data),
                    ctypes.byref(length),
                    ctypes.c_void_p(scores.ctypes.data),
                )
            )
        return scores if classes == 1 else scores[numpy.newaxis]

    return one


def _is_plain_lightgbm(model: Any) -> bool:
    """Whether the wrapper asks the booster for nothing else: it passes on whatever it was made with.

    With an objective of one's own it gives scores for labels.
    """
    if callable(getattr(model, "objective", None)) or callable(getattr(model, "_objective", None)):
        return False
    own = inspect.signature(type(model)).parameters if type(model).__module__.startswith("lightgbm.") else {}
    return hasattr(model, "get_params") and model.get_params().keys() <= own.keys() | _OF_TRAINING


def _labels_of(model: Any, function: str) -> int:
    return len(getattr(model, "classes_", ())) if function == "predict" else 0


def _labels(scores: Array, classes: Array) -> Array:
    """The classes of the highest scores; of two classes there is one score, the second's."""
    best = (scores > 0.5).astype(int) if scores.ndim == 1 else numpy.argmax(scores, axis=1)
    labels: Array = classes.take(best)
    return labels


# XGBoost


def _xgboost(model: Any, function: str, _schema: Schema) -> Way:
    score, labels = _xgboost_on_matrix(model, function), _labels_of(model, function)
    name = "XGBoost's booster on a matrix"
    return Way(name=name, prepare=_no_larger_than_float, call=score, by_row=True, labels=labels)


def _xgboost_on_matrix(model: Any, function: str) -> _OnMatrix:
    kind = type(model).__name__
    if function != "predict" or kind not in {"Booster", "XGBRegressor", "XGBClassifier"}:
        raise Unsuited
    if kind == "Booster":
        return lambda matrix: model.inplace_predict(matrix, validate_features=False)
    if kind == "XGBClassifier" and model.objective not in _OF_CHANCES:
        raise Unsuited(f"an XGBClassifier with the objective {model.objective}")
    best = model.get_booster().attr("best_iteration")  # early_stopping_rounds is forgotten when the model is saved
    score = partial(
        model.get_booster().inplace_predict,
        iteration_range=(0, int(best) + 1) if best else (0, 0),
        missing=model.missing,
        validate_features=False,
    )
    return score if kind == "XGBRegressor" else lambda matrix: _labels(score(matrix), model.classes_)


def _no_larger_than_float(rows: Rows) -> Array:
    """Their matrix, where no number is infinite in single precision: XGBoost refuses those of a data frame."""
    matrix = rows.numbers()
    if (numpy.abs(matrix) > numpy.finfo(numpy.float32).max).any():
        raise Unsuited
    return matrix


# scikit-learn


def _sklearn(model: Any, function: str, schema: Schema) -> Way:
    if type(model).__name__ == "Pipeline":
        return _pipeline(prepared(model, schema), function)
    trees = _trees(model, function)
    labels = _labels_of(model, function)
    name, few = "scikit-learn's trees on a matrix", forests.few(model.n_features_in_)
    return Way(name=name, prepare=Rows.numbers, call=trees, by_row=True, labels=labels, few=few)


def _pipeline(ready: Prepared, function: str) -> Way:
    name, labels = "scikit-learn's pipeline, column by column", _labels_of(ready.last, function)
    for known in (_trees, _lightgbm_on_matrix, _linear_labels):
        with suppress(Unsuited):
            call = known(ready.last, function)
            few = forests.few(ready.last.n_features_in_) if known is _trees else 0
            return Way(name=name, prepare=ready.prepare, call=call, by_row=True, labels=labels, few=few)
    call = _last_step(ready.last, function, sparse=ready.sparse)
    return Way(name=name, prepare=ready.prepare, call=call, labels=labels)


def _last_step(model: Any, function: str, *, sparse: bool) -> _OnMatrix:
    call: _OnMatrix = getattr(model, function)
    if not sparse:
        return call
    from scipy.sparse import csr_matrix  # type: ignore[import-untyped]  # here, as models without it need no SciPy

    return lambda matrix: call(csr_matrix(matrix))


def _trees(model: Any, function: str) -> _OnMatrix:
    """Trees and forests: the sums that scikit-learn makes, in the order in which it makes them."""
    name, module = type(model).__name__, type(model).__module__
    if not module.startswith("sklearn.") or name not in _TREES or model.n_outputs_ != 1 or function not in _OF_TREES:
        raise Unsuited
    mean = forests.mean_of([each.tree_ for each in getattr(model, "estimators_", [model])])
    if name.endswith("Regressor"):
        return lambda matrix: mean(_single_precision(matrix))[:, 0]
    if function == "predict_proba":
        return lambda matrix: mean(_single_precision(matrix))
    classes = model.classes_
    return lambda matrix: classes.take(mean(_single_precision(matrix)).argmax(axis=1), axis=0)


def _single_precision(matrix: Array) -> Array:
    """As scikit-learn's trees take it. What is missing or infinite is for scikit-learn to judge."""
    with numpy.errstate(over="ignore"):
        made = numpy.ascontiguousarray(matrix, dtype=numpy.float32)
    if not numpy.isfinite(made).all():
        raise Unsuited
    return made


def _linear_labels(model: Any, function: str) -> _OnMatrix:
    """The labels of linear classifiers, where they are beyond doubt: sums in another order are rounded otherwise."""
    name, module = type(model).__name__, type(model).__module__
    if not module.startswith("sklearn.") or name not in _LINEAR or function != "predict" or model.coef_.ndim != 2:
        raise Unsuited
    weights, shift, classes = model.coef_.T, model.intercept_, model.classes_
    sizes = numpy.abs(weights)

    def labels(matrix: Array) -> Array:
        scores = matrix @ weights + shift
        doubt = _DOUBT * (numpy.abs(matrix) @ sizes + numpy.abs(shift))
        if scores.shape[1] == 1:
            lead, best = numpy.abs(scores), (scores[:, 0] > 0).astype(int)
        else:
            ordered = numpy.sort(scores, axis=1)
            lead, best = ordered[:, -1:] - ordered[:, -2:-1], numpy.argmax(scores, axis=1)
        if not (lead > doubt).all():  # nor where something is missing or infinite
            raise Unsuited
        found: Array = classes.take(best)
        return found

    return labels


# PyTorch


def _pytorch(model: Any, function: str, schema: Schema) -> Way:
    """The network on a tensor. Rows of several requests stay apart: how many there are may round sums otherwise."""
    import torch  # in the environment of whoever has such a model

    if function != "predict":
        raise Unsuited

    def call(tensor: Any) -> Any:
        with torch.no_grad():
            return model(tensor)

    if schema.is_tensor_spec():
        return Way(name=_ON_TENSOR, prepare=lambda rows: torch.from_numpy(rows.given()), call=lambda t: call(t).numpy())
    return Way(
        name=_ON_TENSOR,
        prepare=lambda rows: torch.from_numpy(_frame_in_single_precision(rows)),
        call=lambda tensor: _as_records(call(tensor), len(tensor)),
    )


def _frame_in_single_precision(rows: Rows) -> Array:
    """As pandas makes it of a frame, and lying in memory like that: sums over another order are rounded otherwise."""
    with numpy.errstate(over="ignore"):
        if rows.matrix is not None:
            return rows.matrix.astype(numpy.float32, order="F")
        made = numpy.empty((len(rows), len(rows.columns)), dtype=numpy.float32, order="F")
        for number, column in enumerate(rows.columns):
            made[:, number] = column
    return made


def _as_records(predicted: Any, count: int) -> Sequence[Mapping[int, Any]]:
    """What is written of the frame that MLflow makes of a tensor."""
    if predicted.ndim not in {1, 2} or len(predicted) != count:
        raise Unsuited
    return [dict(enumerate(row)) for row in predicted.numpy().reshape(count, -1).tolist()]


_DOUBT = 1e-10
"""Of the sum of all parts' sizes: a thousand times what rounding makes of ten thousand parts."""
_LINEAR = frozenset({"LogisticRegression", "LinearSVC", "RidgeClassifier", "SGDClassifier", "Perceptron"})
_OF_CHANCES = frozenset({"binary:logistic", "multi:softprob"})
"""Objectives of XGBoost whose scores are the classes' chances."""
_OF_TRAINING = frozenset({
    "verbose", "verbosity", "metric", "seed", "bagging_fraction", "bagging_freq", "bagging_seed", "feature_fraction",
    "feature_fraction_seed", "max_bin", "min_data_in_leaf", "lambda_l1", "lambda_l2", "early_stopping_round",
    "early_stopping_rounds", "deterministic", "force_col_wise", "force_row_wise", "path_smooth", "extra_trees",
    "scale_pos_weight", "is_unbalance", "cat_smooth", "min_gain_to_split", "device_type", "device",
})  # fmt: skip
"""What LightGBM's wrappers take beyond their own parameters and matters only until they are fitted."""
_ON_TENSOR = "the PyTorch network on a tensor"
_OF_TREES = frozenset({"predict", "predict_proba"})
_TREES = frozenset({
    "RandomForestClassifier", "RandomForestRegressor", "ExtraTreesClassifier", "ExtraTreesRegressor",
    "DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier", "ExtraTreeRegressor",
})  # fmt: skip
_FLAVORS: Mapping[str, Callable[[Any, str, Schema], Way]] = {
    "lightgbm": _lightgbm,
    "xgboost": _xgboost,
    "sklearn": _sklearn,
    "catboost": _only_past_parsing,
    "onnx": _only_past_parsing,
    "pytorch": _pytorch,
}
