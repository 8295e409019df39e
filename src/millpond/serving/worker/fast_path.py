"""Plain requests past MLflow's parsing, where that has been proven to change nothing.

Chosen when a model is loaded. A request that is not plain, and one that the model refuses, is MLflow's to answer, so
that its errors are MLflow's own.
"""

import copy
import itertools
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy
from mlflow.pyfunc import PyFuncModel
from mlflow.types import Schema

from millpond.serving.worker.answers import Unsuited
from millpond.serving.worker.direct import Way, ways_to_predict
from millpond.serving.worker.proof import Requests, same, spied
from millpond.serving.worker.rows import EXACT, GIVEN, ColumnReader, RowReader, Rows

QUICK_S = 0.005
_FEW, _PREDICTED = 6, (1, 3, 60)
"""Rows in requests that are to be read alike, and in those that are to be predicted alike: a row may have a way of its
own, and matrix products of few rows are computed in another way than those of many. More where a way asks for it."""
_TIMED = 3
_USUAL = 2
"""So many of the requests with columns are plain."""
_PROOF_CPU_S, _PROOF_S = 4.0, 20.0
"""What a proof may take: what is not proven then is left to MLflow. By the clock it takes longer on a busy machine."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What MLflow does, as the scorer has it."""

    decode: Callable[[bytes], Any]
    """The data of a request in JSON. Raises what MLflow raises."""
    frame: Callable[[bytes], Any]
    """The data of a request of which the server has made columns. Raises what MLflow raises."""
    encode: Callable[[Any], bytes]
    """The answer of what a model has returned."""


Asked = tuple[bytes, bool]
"""A request, and whether the server has made columns of it, with the features that it has looked up."""


class FastPath:
    """Reads plain requests and predicts them."""

    def __init__(
        self, reader: RowReader, columns: ColumnReader | None, way: Way, *, proven_on: int, is_quick: bool
    ) -> None:
        self._reader = reader
        self._columns = columns
        self._way = way
        self.is_quick = is_quick
        """Whether handing a small request to another thread would cost more than it gains."""
        forms = ", ".join([*reader.forms, *(columns.told if columns else [])])
        self.told = (
            f"Plain requests in JSON are answered by {way.name}, which gave MLflow's answers to {proven_on} "
            f"generated requests ({forms}); all others by MLflow."
        )

    def takes(self, *, is_columns: bool) -> bool:
        """Whether requests of this kind are read at all."""
        return not is_columns or self._columns is not None

    def predict(self, asked: Asked) -> Any:
        """What the model returns. Raises Unsuited for what MLflow is to answer."""
        rows = self._read(asked)
        with _refusals_as_unsuited():
            return self._way.predict(rows)

    def predict_together(self, requests: Sequence[Asked]) -> Sequence[Any]:
        """What the model returns for each of several requests; Unsuited for what MLflow is to answer."""
        if self._way.by_row and len(requests) > 1:
            with suppress(Unsuited):
                return self._joined(requests)
        return [self._found(request) for request in requests]

    def _read(self, asked: Asked) -> Rows:
        body, is_columns = asked
        if not is_columns:
            return self._reader.read(body)
        if self._columns is None:
            raise Unsuited
        return self._columns.read(body)

    def _joined(self, requests: Sequence[Asked]) -> Sequence[Any]:
        """The answers to the rows of all requests at once. Raises Unsuited where one of them is."""
        rows = [self._read(request) for request in requests]
        with _refusals_as_unsuited():
            return joined(self._way, rows)

    def _found(self, asked: Asked) -> Any:
        try:
            return self.predict(asked)
        except Unsuited as unsuited:
            return unsuited


def joined(way: Way, rows: Sequence[Rows]) -> Sequence[Any]:
    """The answers to several requests, of one call of the model."""
    matrices = [way.prepare(each) for each in rows]
    answers = way.call(numpy.concatenate(matrices))
    ends = list(itertools.accumulate(len(matrix) for matrix in matrices))
    return [answers[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


@contextmanager
def _refusals_as_unsuited() -> Iterator[None]:
    try:
        yield
    except MemoryError:
        raise
    except BaseException as error:  # the model's code may raise anything; MLflow's path raises it again, and tells it
        raise Unsuited from error


class ReadingPath:
    """Reads plain requests to code of somebody's own, which MLflow calls then. It is called for no proof: whether what
    it is given is the same can be seen without it."""

    def __init__(self, reader: RowReader, model: PyFuncModel, *, proven_on: int) -> None:
        self._reader = reader
        self.model = _unsigned(model)
        self.told = (
            "Plain requests in JSON are read past MLflow's parsing, which gave the model what MLflow gives it of "
            f"{proven_on} generated requests ({', '.join(reader.forms)}); all others by MLflow."
        )

    def read(self, body: bytes) -> Any:
        """What the model is to be given. Raises Unsuited for what MLflow is to read."""
        return self._reader.read(body).given()


def _unsigned(model: PyFuncModel) -> PyFuncModel:
    """The same model without a signature, so that what it is given is not looked through again."""
    metadata = copy.copy(model.metadata)
    metadata.signature = None
    return PyFuncModel(model_meta=metadata, model_impl=model._model_impl)


def choose_reading(model: PyFuncModel, reference: Reference, example: bytes | None) -> ReadingPath:
    """The path for code of somebody's own. Raises Unsuited, with the reason, where that is MLflow's."""
    _check(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd values that nobody has sent
        proof = _Proof(model, reference)
        schema = model.metadata.get_input_schema()
        reader = proof.reader(schema, Requests(schema, example))
    return ReadingPath(reader, model, proven_on=proof.compared)


def choose(model: PyFuncModel, reference: Reference, example: bytes | None, *, has_features: bool = False) -> FastPath:
    """The quickest path that is proven. Raises Unsuited, with the reason, where that is MLflow's.

    Columns with features take it where the model is given some, and that is proven, too.
    """
    _check(model)
    ways = ways_to_predict(model)
    schema = model.metadata.get_input_schema()
    requests = Requests(schema, example)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd values that nobody has sent
        proof = _Proof(model, reference)
        reader = proof.reader(schema, requests)
        way = proof.way(ways, reader, requests)
        columns = proof.columns(schema, requests, way) if has_features else None
        took_s = _took_s(way, reader.read(next(requests.plain(reader.forms[0], rows=1))))
    is_quick = took_s < QUICK_S and (columns is not None or not has_features)
    return FastPath(reader, columns, way, proven_on=proof.compared, is_quick=is_quick)


def _took_s(way: Way, rows: Rows) -> float:
    """How long a prediction takes, at best."""
    taken = []
    for _ in range(_TIMED):
        began = time.perf_counter()
        way.predict(rows)
        taken.append(time.perf_counter() - began)
    return min(taken)


def _check(model: PyFuncModel) -> None:
    metadata = model.metadata
    if metadata.get_input_schema() is None:
        raise Unsuited("it has no signature")
    if metadata.get_params_schema() is not None:
        raise Unsuited("its signature has params")
    if metadata._is_signature_from_type_hint() or metadata._is_type_hint_from_example():
        raise Unsuited("its signature is of type hints")


_Reader = RowReader | ColumnReader


class _Proof:
    """Compares with MLflow, as long as that may take."""

    def __init__(self, model: PyFuncModel, reference: Reference) -> None:
        self._model = model
        self._reference = reference
        self._handed = spied(model)
        self._began = time.process_time(), time.monotonic()
        self.compared = 0

    @property
    def _is_late(self) -> bool:
        cpu_s, clock_s = self._began
        return time.process_time() - cpu_s > _PROOF_CPU_S or time.monotonic() - clock_s > _PROOF_S

    def reader(self, schema: Any, requests: Requests) -> RowReader:
        """A reader of the forms in which MLflow would hand the same to the model. Raises Unsuited."""
        proven = [form for form in RowReader(schema).forms if self._is_read(RowReader(schema, [form]), form, requests)]
        if not proven:
            raise Unsuited("its input was read otherwise than by MLflow, or reading it was not proven in time")
        return RowReader(schema, proven)

    def _is_read(self, reader: RowReader, form: str, requests: Requests) -> bool:
        """Each plain request has to be read but for the odd ones, and whatever is read has to be the same."""
        usual = list(requests.plain(form, rows=_FEW))
        return self._are_same(reader, self._reference.decode, [*usual, *requests.doubtful(form)])

    def columns(self, schema: Schema, requests: Requests, way: Way) -> ColumnReader | None:
        """A reader of columns with features as MLflow would hand them to the model, which answers them alike."""
        try:
            readers = {given: ColumnReader(schema, {EXACT, given}) for given in GIVEN}
            proven = [given for given in GIVEN if self._are_columns(readers[given], given, requests, way)]
        except Unsuited:
            return None
        return ColumnReader(schema, proven) if EXACT in proven else None

    def _are_columns(self, reader: ColumnReader, given: str, requests: Requests, way: Way) -> bool:
        bodies = list(requests.columns(given, rows=_FEW))
        if not self._are_same(reader, self._reference.frame, bodies):
            return False
        expected = [(reader.read(body), self._answer(self._reference.frame, body)) for body in bodies[:_USUAL]]
        return self._answers_alike(replace(way, labels=0), expected)  # classes were told apart in the proof of the way

    def _are_same(self, reader: _Reader, theirs: Callable[[bytes], Any], bodies: Sequence[bytes]) -> bool:
        return all(self._same(reader, theirs, body, needed=number < 2) for number, body in enumerate(bodies))

    def _same(self, reader: _Reader, decode: Callable[[bytes], Any], body: bytes, *, needed: bool) -> bool:
        if self._is_late:
            return False
        try:
            ours = reader.read(body)
        except Unsuited:
            return not needed
        self.compared += 1
        try:
            theirs = self._handed(decode(body))
        except Exception:  # whatever MLflow says of it: it does not take it
            return False
        return same(ours.given(), theirs)

    def way(self, ways: Sequence[Way], reader: RowReader, requests: Requests) -> Way:
        """The first way with MLflow's answers. Raises Unsuited."""
        form, decode = reader.forms[0], self._reference.decode
        bodies = [body for rows in _PREDICTED for body in requests.plain(form, rows=rows)]
        more = {way.few + 1 for way in ways if way.few}.difference(_PREDICTED)
        bodies.extend(requests.many(form, rows=rows) for rows in more)
        expected = []
        for body in bodies:
            if self._is_late:
                raise Unsuited("its answers were not there in time to be compared")
            if _is_plain(reader, body):
                expected.append((reader.read(body), self._answer(decode, body)))
        for way in ways:
            if self._answers_alike(way, expected):
                self.compared += len(expected)
                return replace(way, by_row=way.by_row and self._answers_alike_together(way, expected))
        raise Unsuited("calling the model directly gave other answers, or was not proven in time")

    def _answer(self, decode: Callable[[bytes], Any], body: bytes) -> bytes | None:
        """MLflow's answer; None for a refusal."""
        try:
            return self._reference.encode(self._model.predict(decode(body)))
        except BaseException:  # the model's code may raise anything
            return None

    def _answers_alike(self, way: Way, expected: Sequence[tuple[Rows, bytes | None]]) -> bool:
        answered, seen = 0, set[Any]()
        for rows, theirs in expected:
            if self._is_late:
                return False
            try:
                predicted = way.predict(rows)
                ours = self._reference.encode(predicted)
            except BaseException:  # noqa: S112 - the model's code may raise anything; MLflow answers such requests
                continue
            if ours != theirs:
                return False
            answered += 1
            if way.labels:
                seen.update(numpy.ravel(predicted).tolist())
        return answered > 0 and len(seen) >= min(way.labels, 2)  # one class alone says nothing of how they are told

    def _answers_alike_together(self, way: Way, expected: Sequence[tuple[Rows, bytes | None]]) -> bool:
        """Whether rows of several requests can be predicted by one call."""
        answered = [(rows, theirs) for rows, theirs in expected if theirs is not None]
        try:
            ours = joined(way, [rows for rows, _ in answered])
        except BaseException:  # the model's code may raise anything
            return False
        return [self._reference.encode(each) for each in ours] == [theirs for _, theirs in answered]


def _is_plain(reader: RowReader, body: bytes) -> bool:
    try:
        reader.read(body)
    except Unsuited:
        return False
    return True
