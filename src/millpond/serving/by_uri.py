"""Model versions that are asked by their URI: without an endpoint, in processes that are there while somebody asks."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from millpond.identity.access import Act
from millpond.identity.domain import Principal
from millpond.kernel.database import Database
from millpond.kernel.errors import FailedPrecondition, Unavailable
from millpond.lineage.domain import Node, NodeKind
from millpond.serving.costs import EndpointCosts
from millpond.serving.domain import ModelVersion, default_entity_name
from millpond.serving.frames import Kind
from millpond.serving.models import ModelCache
from millpond.serving.ports import DESCRIPTION, MAX_DESCRIPTION_BYTES, ModelSource
from millpond.serving.predicting import Reply
from millpond.serving.reach import get_endpoint
from millpond.serving.references import read_asked
from millpond.serving.return_types import Shape, shape_of
from millpond.serving.runtime import ServingRuntime
from millpond.serving.worker_process import Answer, Question

URI = "models:/"
_LEAST_S, _PAUSE_S = 0.1, 0.1

FindNode = Callable[[str, str], Node]


def version_node(name: str, version: str) -> Node:
    """What lineage calls a version, where no catalog has its model."""
    return Node(kind=NodeKind.MODEL_VERSION, key=f"{name}/{version}", name=f"{name}/{version}")


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a name means that is to be asked, for whoever asks a lot of it."""

    name: str
    path: str
    """Where predictions are asked for."""
    model: str
    version: str
    """Both empty of an endpoint of several models."""
    shape: Shape
    has_features: bool = False
    """Whether a version is given features that are looked up."""
    node: Node


class ModelsByUri:
    """Asks versions for predictions, as somebody who may use them."""

    def __init__(
        self,
        database: Database,
        source: ModelSource,
        models: ModelCache,
        runtime: ServingRuntime,
        find_node: FindNode,
        costs: EndpointCosts,
        *,
        request_timeout_s: float,
    ) -> None:
        """`find_node` is what lineage calls a version."""
        self._database = database
        self._source = source
        self._models = models
        self._runtime = runtime
        self._find_node = find_node
        self._costs = costs
        self._request_timeout_s = request_timeout_s

    def find(self, principal: Principal, name: str) -> Target:
        """What an endpoint's name or a model's URI means now. Blocks. Raises NotFound, InvalidArgument."""
        if not name.startswith(URI):
            return self._find_endpoint(principal, name)
        model = self._resolve(principal, name)
        return Target(
            name=f"{URI}{model.name}/{model.version}",
            path="/api/millpond/scoring/invocations",
            model=model.name,
            version=model.version,
            shape=shape_of(self._source.describe(principal, model)),
            has_features=self._source.find_spec(principal, model) is not None,
            node=self._find_node(model.name, model.version),
        )

    def _find_endpoint(self, principal: Principal, name: str) -> Target:
        endpoint = get_endpoint(self._database, principal, name, Act.USE)
        entities = endpoint.active.entities if endpoint.active else ()
        models = {(each.model.name, each.model.version): each for each in entities}
        shapes = {self._served_shape(each.model) for each in models.values()}
        one = next(iter(models)) if len(models) == 1 else ("", "")
        return Target(
            name=endpoint.name,
            path=f"/serving-endpoints/{endpoint.name}/invocations",
            model=one[0],
            version=one[1],
            shape=shapes.pop() if len(shapes) == 1 else Shape(),
            node=Node(kind=NodeKind.ENDPOINT, key=endpoint.id, name=endpoint.name),
        )

    def _served_shape(self, model: ModelVersion) -> Shape:
        place = self._models.find(model)
        file = None if place is None else place / DESCRIPTION
        if file is None or file.stat().st_size > MAX_DESCRIPTION_BYTES:
            return Shape()
        return shape_of(file.read_text(encoding="utf-8", errors="replace"))

    def _resolve(self, principal: Principal, uri: str) -> ModelVersion:
        asked = read_asked(uri, "")
        if asked.reference is not None:
            return self._source.find_referenced(principal, asked.model, asked.reference)
        return self._source.find_version(principal, asked.model, asked.version)

    async def ask(self, principal: Principal, uri: str, *, content_type: str, body: bytes, accept: str | None) -> Reply:
        """A version's predictions. Raises NotFound, InvalidArgument, FailedPrecondition for a model that does not load,
        ResourceExhausted, LimitExceeded, and what `WorkerPool.ask` raises. A refusal by the model is an answer."""
        self._costs.admit(principal)
        model = await self._runtime.run_blocking(partial(self._resolve, principal, uri))
        self._costs.count_version(model, principal)
        question = Question(kind=Kind.PREDICT, content_type=content_type, body=body, accept=accept)
        answer = await self._answer(principal, model, question)
        return Reply(
            entity=default_entity_name(model.name, model.version),
            version=model.version,
            status=answer.status,
            content_type=answer.content_type,
            body=answer.body,
        )

    async def _answer(self, principal: Principal, model: ModelVersion, question: Question) -> Answer:
        deadline = time.monotonic() + self._request_timeout_s
        async with self._runtime.by_uri.use(model, principal.name) as pool:
            while True:
                try:
                    return await pool.ask(question, timeout_s=max(deadline - time.monotonic(), _LEAST_S))
                except Unavailable:  # its first process takes longer to start than one that is restarted
                    if time.monotonic() > deadline:
                        raise
                    await asyncio.sleep(_PAUSE_S)
                except FailedPrecondition as error:
                    raise FailedPrecondition(
                        f"Version {model.version} of model '{model.name}' cannot be loaded: {pool.state.message}"
                    ) from error
