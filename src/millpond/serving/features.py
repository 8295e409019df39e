"""Answers of served entities that have features: keys come, a model's prediction or the features themselves go."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from millpond.feature_serving.service import Completed, FeatureServing, Invocation, TableUse
from millpond.features.spec import FeatureSpec
from millpond.identity.domain import Principal
from millpond.kernel.asides import aside_unless
from millpond.kernel.errors import FailedPrecondition, InvalidArgument, MillpondError, NotFound, PermissionDenied
from millpond.lineage.domain import ColumnFlow, Node, NodeKind, Use
from millpond.online.domain import to_json
from millpond.serving.calls import asked_bytes, decoded, encoded, results_of
from millpond.serving.domain import ModelVersion, ServedEntity
from millpond.serving.frames import Kind
from millpond.serving.openapi import InputField, ModelInput, input_type
from millpond.serving.pool import WorkerPool
from millpond.serving.shapes import Row, read_rows
from millpond.serving.worker_process import Answer, Question

_GOOD_FOR_S = 0.25
_MOST_KEPT = 1000
_FEW_ROWS = 100
_FEW_BYTES = 64 << 10
"""So much is done at once; more would keep other requests waiting."""
_JSON = "application/json"


@dataclass(frozen=True)
class _Creator:
    principal: Principal
    epoch: int
    good_until: float


class Refused(Exception):
    """The worker's answer is its refusal, which is the request's."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class ServedFeatures:
    """Looks features up with the rights of who made a configuration, as they are at each request."""

    def __init__(self, features: FeatureServing, find_principal: Callable[[str], Principal]) -> None:
        """`find_principal` gives the principal of a name, or raises NotFound."""
        self._features = features
        self._find_principal = find_principal
        self._creators: dict[str, _Creator] = {}

    def check(self, principal: Principal, model: ModelVersion, spec: FeatureSpec) -> None:
        """Pass if the features could be served now with these rights. Raises what says why not. Blocks."""
        try:
            self._features.check(principal, spec)
        except MillpondError as error:
            raise type(error)(f"{called(model)} needs features that cannot be served: {error.message}") from error

    def flows(self, spec: FeatureSpec) -> list[ColumnFlow]:
        """Which columns of which tables are read, as lineage has it. Blocks."""
        return [flow for use in self._features.uses(spec) for flow in _flows(use)]

    def describe_input(self, spec: FeatureSpec, model: ModelInput | None) -> ModelInput:
        """What a request has to have: keys, and of what the model takes all that is no feature. Blocks."""
        try:
            asked = self._features.asked(spec)
        except MillpondError:
            return ModelInput(fields=(), example=None)
        fields = [InputField(name=name, type=input_type(kind), required=True) for name, kind in asked.items()]
        known = {*asked, *spec.outputs}
        fields += [field for field in (model.fields if model else ()) if field.name not in known]
        return ModelInput(fields=tuple(fields), example=None)

    async def answer(self, asker: Principal, entity: ServedEntity, spec: FeatureSpec, exchange: "Exchange") -> Answer:
        """The answer to a request with keys. Raises as `FeatureServing.complete`, and as `WorkerPool.ask`."""
        began = time.perf_counter()
        try:
            if not entity.model.is_spec:
                looked_up = await self.look_up(asker, entity, spec, exchange)
                return looked_up.told(await exchange.ask(Kind.PREDICT, looked_up.columns))
            rows, _ = await exchange.rows()
            found = await self._complete(asker, entity, spec, rows, exchange)
            outputs = await aside_unless(len(found.rows) <= _FEW_ROWS, partial(_outputs, found, spec))
            return Answer(status=200, content_type=_JSON, body=outputs, features_s=time.perf_counter() - began)
        except Refused as refused:
            return refused.answer

    async def look_up(
        self, asker: Principal, entity: ServedEntity, spec: FeatureSpec, exchange: "Exchange"
    ) -> "LookedUp":
        """What a model is to be given for a request with keys. Raises as `answer`, and Refused."""
        began = time.perf_counter()
        rows, params = await exchange.rows()
        found = await self._complete(asker, entity, spec, rows, exchange)
        few = len(found.rows) <= _FEW_ROWS
        made = await aside_unless(few, partial(_columns, found, spec, entity.model, params))
        return LookedUp(columns=made, seconds=time.perf_counter() - began)

    async def _complete(
        self, asker: Principal, entity: ServedEntity, spec: FeatureSpec, rows: Sequence[Row], exchange: "Exchange"
    ) -> Completed:
        try:
            rights = await self._rights(entity.creator, asker.epoch)
            return await self._features.complete(rights, spec, rows, call=exchange.call)
        except (NotFound, PermissionDenied) as error:  # of the creator's, and no fault of who asks
            raise FailedPrecondition(
                f"Served entity '{entity.name}' looks features up with the rights of {entity.creator}, who made its "
                f"configuration: {error.message}"
            ) from error
        except InvalidArgument as error:
            raise InvalidArgument(f"{called(entity.model)}: {error.message}") from error

    async def _rights(self, name: str, epoch: int) -> Principal:
        """Who made a configuration, with the rights of now."""
        known = self._creators.get(name)
        if known is not None and known.epoch == epoch and time.monotonic() < known.good_until:
            return known.principal
        good_until = time.monotonic() + _GOOD_FOR_S
        found = await asyncio.to_thread(self._find_principal, name)
        if len(self._creators) >= _MOST_KEPT:
            self._creators.clear()
        self._creators[name] = _Creator(found, epoch, good_until)
        return found


@dataclass(frozen=True, kw_only=True)
class LookedUp:
    """The features of a request, and what it brought beside them."""

    columns: bytes
    """As `serving.columns` writes them: the body of a frame without a content type."""
    seconds: float

    def told(self, answer: Answer) -> Answer:
        """A model's answer to them, which says so."""
        return replace(answer, features_s=self.seconds, features=self.columns)


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """A request, and the worker that helps with it; None for features without functions."""

    content_type: str
    body: bytes
    pool: WorkerPool | None
    deadline: float
    """In the loop's time."""

    async def rows(self) -> tuple[list[Row], Mapping[str, Any] | None]:
        """The request's rows and params. What is not JSON is read where users' data may do harm to nobody else."""
        kind = self.content_type.partition(";")[0].strip().lower()
        if kind in {"", _JSON}:
            return await aside_unless(len(self.body) <= _FEW_BYTES, partial(read_rows, self.body))
        if self.pool is None:
            raise InvalidArgument(f"Content-Type '{kind[:80]}' is not understood here; send {_JSON}.")
        answer = await self.ask(Kind.READ, self.body, self.content_type)
        found = await aside_unless(len(answer.body) <= _FEW_BYTES, partial(decoded, answer.body))
        return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)], None

    async def call(self, asked: Sequence[Invocation]) -> Sequence[Sequence[Any]]:
        """The results of functions, called in the worker."""
        few = sum(each.rows for each in asked) <= _FEW_ROWS
        answer = await self.ask(Kind.CALL, await aside_unless(few, partial(asked_bytes, asked)))
        return await aside_unless(len(answer.body) <= _FEW_BYTES, partial(results_of, answer.body, asked))

    async def ask(self, kind: Kind, body: bytes, content_type: str | None = None) -> Answer:
        """The worker's answer. Raises Refused when it is a refusal of a request that is not answered yet."""
        assert self.pool is not None, "what has functions has a process"
        left_s = self.deadline - asyncio.get_running_loop().time()
        question = Question(kind=kind, content_type=content_type, body=body)
        answer = await self.pool.ask(question, timeout_s=max(left_s, 0.0))
        if answer.status != 200:
            raise Refused(answer)
        return answer


def called(model: ModelVersion) -> str:
    """What is served, as messages call it."""
    return f"Feature spec '{model.name}'" if model.is_spec else f"Model '{model.name}' version {model.version}"


def _flows(use: TableUse) -> list[ColumnFlow]:
    node = Node(kind=NodeKind.TABLE, key=use.table.id, name=str(use.table.name))
    values = [ColumnFlow(source=node, source_column=name, target_column=output) for name, output in use.outputs]
    return values + [ColumnFlow(source=node, source_column=name, target_column="", use=Use.ROWS) for name in use.keys]


def _columns(found: Completed, spec: FeatureSpec, model: ModelVersion, params: Mapping[str, Any] | None) -> bytes:
    """What the model was trained with, in that order. Raises InvalidArgument for what the request lacks."""
    missing = [name for name in spec.features if any(name not in row for row in found.rows)]
    if missing:
        raise InvalidArgument(
            f"{called(model)}: the request lacks the columns {missing}, which the model is given beside its features."
        )
    given = {name: [row[name] for row in found.rows] for name in spec.features}
    return encoded(given, types=dict(found.types), params=params)


def _outputs(found: Completed, spec: FeatureSpec) -> bytes:
    rows = [{name: value for name, value in row.items() if name not in spec.excluded} for row in found.rows]
    try:
        return to_json({"outputs": rows})
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"The request has values that cannot be given back: {error}.") from error
