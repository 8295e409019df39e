"""What pages show of pipelines: read for whoever may see them, in few queries, each with a bound."""

import re
from dataclasses import dataclass
from itertools import chain

from millpond.identity.access import Act, allows
from millpond.identity.domain import Principal
from millpond.kernel.paging import Page
from millpond.pipelines.domain import Shown, Update
from millpond.pipelines.filters import WantedPipelines
from millpond.pipelines.graph import DEFINING, PROGRESS, Graph, graph_of
from millpond.pipelines.service import Order, PipelineService

_MOST_EVENTS = 5000
"""Of flows: the last ones; and of definitions, which come before them, however long ago."""


@dataclass(frozen=True, kw_only=True)
class PipelineView:
    """A pipeline, and what its reader may do with it."""

    shown: Shown
    may_run: bool
    may_manage: bool


class PipelineViews:
    """The read side of the room."""

    def __init__(self, service: PipelineService) -> None:
        self._service = service

    def pipelines(self, principal: Principal, *, text: str = "", page_token: str | None, limit: int) -> Page[Shown]:
        """Pipelines that one may see, by name; those with a text in it."""
        plain = re.sub(r"([\\%_])", r"\\\1", text.replace("\0", ""))
        wanted = WantedPipelines(like=f"%{plain}%" if plain else None)
        return self._service.list(principal, wanted, Order(by_name=True), page_token=page_token, limit=limit)

    def pipeline(self, principal: Principal, pipeline_id: str) -> PipelineView:
        """A pipeline. Raises NotFound."""
        shown = self._service.get(principal, pipeline_id)
        securable = shown.pipeline.securable
        return PipelineView(
            shown=shown,
            may_run=allows(principal, Act.USE, securable),
            may_manage=allows(principal, Act.MANAGE, securable),
        )

    def graph(self, principal: Principal, update: Update) -> Graph:
        """What an update does and has done. Raises NotFound."""
        found = (
            self._service.events_of(principal, update.pipeline_id, update.id, types, _MOST_EVENTS)
            for types in (DEFINING, PROGRESS)
        )
        return graph_of(chain.from_iterable(found))
