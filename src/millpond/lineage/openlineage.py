"""OpenLineage events in: what jobs elsewhere say that they read and wrote.

Source: the OpenLineage specification 2 (`OpenLineage.json`) and its facets `columnLineage` and `symlinks`. Events of
one run may tell inputs and outputs apart, so each is put together with what the run has told before.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from millpond.catalog.domain import ObjectName, Table
from millpond.catalog.service import CatalogService
from millpond.identity.access import Act as Right
from millpond.identity.access import require
from millpond.identity.domain import Principal
from millpond.kernel.database import Database
from millpond.kernel.errors import InvalidArgument, NotFound
from millpond.kernel.ids import new_id
from millpond.lineage import store
from millpond.lineage.domain import Act, ColumnFlow, Entity, Known, Node, NodeKind, Observation, Use, digest
from millpond.lineage.service import record_in

OPERATION = "OPENLINEAGE"
_OURS = ("millpond", "unitycatalog", "databricks", "uc")
"""How a namespace begins whose names are those of this catalog."""
_NO_LINEAGE = frozenset({"FAIL", "ABORT"})
_MOST_DATASETS = 1000


class _Place(BaseModel):
    namespace: str
    name: str


class _Transformation(BaseModel):
    type: str = ""


class _Field(_Place):
    field: str
    transformations: list[_Transformation] = []

    @property
    def is_indirect(self) -> bool:
        """Whether it was only looked at."""
        kinds = {each.type.upper() for each in self.transformations}
        return kinds == {"INDIRECT"}


class _Fields(BaseModel):
    input_fields: list[_Field] = Field(default=[], alias="inputFields", max_length=_MOST_DATASETS)


class _ColumnLineage(BaseModel):
    fields_of: dict[str, _Fields] = Field(default={}, alias="fields", max_length=_MOST_DATASETS)
    dataset: list[_Field] = Field(default=[], max_length=_MOST_DATASETS)


class _Symlinks(BaseModel):
    identifiers: list[_Place] = []


class _Facets(BaseModel):
    column_lineage: _ColumnLineage = Field(default=_ColumnLineage(), alias="columnLineage")
    symlinks: _Symlinks = _Symlinks()


class _Dataset(_Place):
    facets: _Facets = _Facets()


class _Job(BaseModel):
    namespace: str = ""
    name: str = ""


class _Run(BaseModel):
    run_id: UUID = Field(alias="runId")


class _Event(BaseModel):
    """A RunEvent or JobEvent."""

    model_config = ConfigDict(extra="ignore")

    event_type: str = Field(default="OTHER", alias="eventType")
    event_time: datetime = Field(alias="eventTime")
    run: _Run | None = None
    job: _Job = _Job()
    inputs: list[_Dataset] = Field(default=[], max_length=_MOST_DATASETS)
    outputs: list[_Dataset] = Field(default=[], max_length=_MOST_DATASETS)


@dataclass(frozen=True, kw_only=True)
class _Told:
    """What an event tells, in nodes."""

    act: Act
    sources: dict[str, Node]
    targets: dict[str, Node]
    flows: dict[str, list[ColumnFlow]]


class OpenLineage:
    """Takes events."""

    def __init__(self, database: Database, catalog: CatalogService) -> None:
        self._database = database
        self._catalog = catalog

    def take(self, principal: Principal, body: Mapping[str, Any]) -> None:
        """Record what an event declares.

        A table here must be one that the principal may read, as an input, or change, as an output; what names none
        that the principal may see is something outside. Raises InvalidArgument, PermissionDenied.
        """
        event = _parsed(body)
        if event.event_type.upper() in _NO_LINEAGE or not (event.inputs or event.outputs):
            return
        told = self._told(principal, event)
        with self._database.write() as connection:
            store.lock(connection)
            before = store.nodes_of_statement(connection, told.act)
            record_in(connection, list(_observations(told, *before)))

    def _told(self, principal: Principal, event: _Event) -> _Told:
        known = {(each.namespace, each.name): self._node(principal, each, Right.READ) for each in event.inputs}
        targets, flows = {}, {}
        for each in event.outputs:
            target = self._node(principal, each, Right.WRITE)
            targets[target.id] = target
            flows[target.id] = list(self._flows(principal, each, known))
        return _Told(
            act=_act_of(principal, event),
            sources={node.id: node for node in known.values()},
            targets=targets,
            flows=flows,
        )

    def _flows(
        self, principal: Principal, output: _Dataset, known: dict[tuple[str, str], Node]
    ) -> Iterator[ColumnFlow]:
        facet = output.facets.column_lineage
        told = [(name, each) for name, fields in facet.fields_of.items() for each in fields.input_fields]
        for name, each in [*told, *(("", each) for each in facet.dataset)]:
            key = (each.namespace, each.name)
            if key not in known:
                known[key] = self._node(principal, _Dataset(namespace=each.namespace, name=each.name), Right.READ)
            of_value = bool(name) and not each.is_indirect
            yield ColumnFlow(
                source=known[key],
                source_column=each.field,
                target_column=name if of_value else "",
                use=Use.VALUE if of_value else Use.ROWS,
            )

    def _node(self, principal: Principal, dataset: _Dataset, right: Right) -> Node:
        for place in (dataset, *dataset.facets.symlinks.identifiers):
            table = self._table(principal, place.namespace, place.name)
            if table is not None:
                require(principal, right, table.securable)
                return Node(kind=NodeKind.TABLE, key=table.id, name=str(table.name))
        name = f"{dataset.namespace.rstrip('/')}/{dataset.name.lstrip('/')}"
        return Node(kind=NodeKind.DATASET, key=name, name=name)

    def _table(self, principal: Principal, namespace: str, name: str) -> Table | None:
        """The table that a data set is, if the principal may see it."""
        if namespace.lower().startswith(_OURS):
            try:
                return self._catalog.get_table(principal, ObjectName.of_full_name(name))
            except (NotFound, InvalidArgument):
                return None
        if namespace.startswith(("file", "s3")):
            scheme, _, rest = namespace.partition("://")
            place = f"{scheme}://{rest.rstrip('/')}/{name.lstrip('/')}"
            table = self._catalog.table_at(place)
            return table and self._catalog.find_tables_by_id(principal, [table.id]).get(table.id)
        return None


def _parsed(body: Mapping[str, Any]) -> _Event:
    try:
        return _Event.model_validate(body)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()[:5])
        raise InvalidArgument(f"This is no OpenLineage event: {problems}.") from error


def _act_of(principal: Principal, event: _Event) -> Act:
    time = event.event_time if event.event_time.tzinfo else event.event_time.replace(tzinfo=UTC)
    run = str(event.run.run_id) if event.run else new_id()
    entity = Entity(type="JOB", id=f"{event.job.namespace}/{event.job.name}")
    return Act(
        actor=principal.name,
        time=time.astimezone(UTC),
        operation=OPERATION,
        known=Known.DECLARED,
        statement=run,
        entity=entity,
        work=principal.work,
    )


def _observations(told: _Told, sources: Mapping[str, Node], targets: Mapping[str, Node]) -> Iterator[Observation]:
    every = {**sources, **told.sources}
    fresh = bool(set(told.sources) - set(sources))
    wanted = {**targets, **told.targets} if fresh else told.targets
    for node in wanted.values() or [None]:
        flows = told.flows.get(node.id, []) if node else []
        made_of = {**every, **{flow.source.id: flow.source for flow in flows}}
        of: Sequence[Node] = [each for each in made_of.values() if node is None or each.id != node.id]
        yield Observation(
            id=_event_id(told.act, node, of), act=told.act, sources=tuple(of), target=node, columns=tuple(flows)
        )


def _event_id(act: Act, target: Node | None, sources: Sequence[Node]) -> str:
    """The same for an event that comes twice, in the form of a UUID."""
    parts = (act.actor, act.statement, act.time.isoformat(), target.id if target else "")
    return str(UUID(digest(*parts, *sorted(each.id for each in sources))))
