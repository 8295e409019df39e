"""Things outside, described by users, and what they declare to flow between those and what is here.

Protocol: Databricks' external metadata and external lineage (`w.external_metadata`, `w.external_lineage`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from millpond.catalog.domain import ObjectName
from millpond.catalog.service import CatalogService
from millpond.identity import acts
from millpond.identity.access import METASTORE, Securable, require
from millpond.identity.access import Act as Right
from millpond.identity.domain import Principal
from millpond.kernel.clock import from_epoch_us, utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import AlreadyExists, InvalidArgument, NotFound
from millpond.kernel.ids import new_id
from millpond.kernel.paging import Page, cut_page, decode_token, page_size
from millpond.lineage import store
from millpond.lineage.domain import Act, ColumnFlow, Direction, Edge, Known, Node, NodeKind, Observation, SeenNode
from millpond.lineage.service import MOST_EDGES, LineageService, record_in

OPERATION = "EXTERNAL LINEAGE"
_LONGEST_NAME = 255


@dataclass(frozen=True, kw_only=True)
class ExternalMetadata:
    """Something outside."""

    name: str
    system_type: str
    entity_type: str
    owner: str
    created_by: str
    created_at: datetime
    updated_by: str
    updated_at: datetime
    url: str = ""
    description: str = ""
    columns: tuple[str, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)

    @property
    def node(self) -> Node:
        """It as a node."""
        return Node(kind=NodeKind.EXTERNAL, key=self.name, name=self.name)

    @property
    def securable(self) -> Securable:
        """It under permission: everybody sees it, its owner changes it."""
        return Securable(kind="external metadata", name=self.name, owners=(self.owner,), public=True)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What a user calls one end of a relation: exactly one of these."""

    table: str = ""
    path: str = ""
    external: str = ""
    model: tuple[str, str] | None = None
    """Name and version."""


@dataclass(frozen=True, kw_only=True)
class Relation:
    """A declared flow."""

    source: SeenNode
    target: SeenNode
    edge: Edge
    columns: tuple[tuple[str, str], ...]


class ExternalLineage:
    """What users may declare."""

    def __init__(self, database: Database, catalog: CatalogService, lineage: LineageService) -> None:
        self._database = database
        self._catalog = catalog
        self._lineage = lineage

    # -- things outside -----------------------------------------------------------------------------------------

    def create(self, principal: Principal, name: str, values: Mapping[str, Any]) -> ExternalMetadata:
        """Describe something outside. Raises AlreadyExists, PermissionDenied, InvalidArgument."""
        require(principal, Right.CREATE_EXTERNAL_METADATA, METASTORE)
        if not name or len(name) > _LONGEST_NAME or "/" in name:
            raise InvalidArgument(f"Name '{name[:80]}' is not one: 1 to {_LONGEST_NAME} characters, no slash.")
        now = utc_now()
        made = ExternalMetadata(
            name=name,
            **{"owner": principal.name, **values},
            created_by=principal.name,
            created_at=now,
            updated_by=principal.name,
            updated_at=now,
        )
        with self._database.write() as connection:
            if store.find_nodes(connection, [made.node.id]):
                raise AlreadyExists(f"External metadata '{name}' already exists.")
            store.put_node(connection, made.node, _details(made))
            acts.changed(connection, principal.name, "create", "external metadata", name)
        return made

    def get(self, name: str) -> ExternalMetadata:
        """One of them. Raises NotFound."""
        node_id = Node(kind=NodeKind.EXTERNAL, key=name, name=name).id
        with self._database.read() as connection:
            row = store.find_nodes(connection, [node_id]).get(node_id)
        if row is None:
            raise NotFound(f"External metadata '{name}' does not exist.")
        return _metadata_of(row)

    def list_all(self, *, max_results: int | None, page_token: str | None) -> Page[ExternalMetadata]:
        """All of them, by name."""
        size = page_size(max_results)
        with self._database.read() as connection:
            rows = store.nodes_of_kind(connection, NodeKind.EXTERNAL, decode_token(page_token) or "", size + 1)
        return cut_page([_metadata_of(row) for row in rows], size, lambda each: each.name)

    def update(self, principal: Principal, name: str, values: Mapping[str, Any]) -> ExternalMetadata:
        """One of them after a change. Raises NotFound, PermissionDenied."""
        current = self.get(name)
        require(principal, Right.MANAGE, current.securable)
        made = replace(current, **values, updated_by=principal.name, updated_at=utc_now())
        with self._database.write() as connection:
            store.put_node(connection, made.node, _details(made))
            acts.changed(connection, principal.name, "update", "external metadata", name)
        return made

    def delete(self, principal: Principal, name: str) -> None:
        """Forget one, with its relations. Raises NotFound, PermissionDenied."""
        current = self.get(name)
        require(principal, Right.MANAGE, current.securable)
        with self._database.write() as connection:
            store.lock(connection)
            store.delete_node(connection, current.node.id)
            acts.changed(connection, principal.name, "drop", "external metadata", name)

    # -- relations ----------------------------------------------------------------------------------------------

    def relate(
        self,
        principal: Principal,
        source: Reference,
        target: Reference,
        *,
        columns: Sequence[tuple[str, str]] = (),
        details: Mapping[str, Any],
        must_exist: bool = False,
    ) -> str:
        """Declare that data flows, in place of what was declared of the two before; the relation's id.

        Raises NotFound, PermissionDenied, InvalidArgument.
        """
        ends = self.node(principal, source, write=False), self.node(principal, target, write=True)
        if all(end.kind is not NodeKind.EXTERNAL for end in ends):
            raise InvalidArgument("One end of an external lineage relationship must be external metadata.")
        relation_id = str(details.get("id") or new_id())
        observation = Observation(
            id=new_id(),
            act=Act(
                actor=principal.name, time=utc_now(), operation=OPERATION, known=Known.DECLARED, work=principal.work
            ),
            sources=(ends[0],),
            target=ends[1],
            columns=tuple(ColumnFlow(source=ends[0], source_column=a, target_column=b) for a, b in columns),
            details={**details, "id": relation_id},
        )
        with self._database.write() as connection:
            store.lock(connection)  # before the edges, as whoever records does
            if not store.end_edges(connection, ends[0].id, ends[1].id, OPERATION) and must_exist:
                raise NotFound(f"There is no external lineage from '{ends[0].name}' to '{ends[1].name}'.")
            record_in(connection, [observation])
            acts.changed(connection, principal.name, "relate", "external metadata", ends[1].name, source=ends[0].name)
        return relation_id

    def unrelate(self, principal: Principal, source: Reference, target: Reference) -> None:
        """Take a relation back. Raises NotFound, PermissionDenied."""
        ends = self.node(principal, source, write=False), self.node(principal, target, write=True)
        with self._database.write() as connection:
            store.lock(connection)
            if not store.end_edges(connection, ends[0].id, ends[1].id, OPERATION):
                raise NotFound(f"There is no external lineage from '{ends[0].name}' to '{ends[1].name}'.")
            acts.changed(connection, principal.name, "unrelate", "external metadata", ends[1].name, source=ends[0].name)

    def relations(self, principal: Principal, of: Reference, direction: Direction) -> list[Relation]:
        """Declared relations of something in one direction. Raises NotFound, PermissionDenied."""
        node = self.node(principal, of, write=None)
        with self._database.read() as connection:
            edges = store.edges_at(connection, [node.id], direction, MOST_EDGES)
            edges = [edge for edge in edges if edge.operation == OPERATION]
            ids = {each for edge in edges for each in (edge.source_id, edge.target_id)}
            seen = self._lineage.see(principal, connection, ids)
            columns = store.column_edges_between(connection, ids, MOST_EDGES)
        return [
            Relation(
                source=seen[edge.source_id],
                target=seen[edge.target_id],
                edge=edge,
                columns=tuple(
                    (each.source_column, each.target_column)
                    for each in columns
                    if (each.source_id, each.target_id) == (edge.source_id, edge.target_id)
                ),
            )
            for edge in edges
            if {edge.source_id, edge.target_id} <= seen.keys()
        ]

    # -- what a user names --------------------------------------------------------------------------------------

    def node(self, principal: Principal, named: Reference, *, write: bool | None) -> Node:
        """The node that is meant, after the right to read or change it was checked; None only sees it.

        Raises NotFound, PermissionDenied, InvalidArgument.
        """
        right = {True: Right.WRITE, False: Right.READ, None: Right.SEE}[write]
        if named.table:
            table = self._catalog.get_table(principal, ObjectName.of_full_name(named.table))
            require(principal, right, table.securable)
            return Node(kind=NodeKind.TABLE, key=table.id, name=str(table.name))
        if named.path:
            return self._path(principal, named.path, write=bool(write))
        if named.external:
            found = self.get(named.external)
            require(principal, Right.MANAGE if write else Right.SEE, found.securable)
            return found.node
        if named.model is not None:
            model = self._catalog.get_model(principal, ObjectName.of_full_name(named.model[0]))
            require(principal, right, model.securable)
            return model_version_node(str(model.name), named.model[1])
        raise InvalidArgument("Give one of table.name, path.url, external_metadata.name and model_version.")

    def _path(self, principal: Principal, url: str, *, write: bool) -> Node:
        location = self._catalog.check_path(principal, url, write=write)
        table = self._catalog.table_at(location)
        if table is not None:
            return Node(kind=NodeKind.TABLE, key=table.id, name=str(table.name))
        return Node(kind=NodeKind.PATH, key=location, name=url)


def model_version_node(name: str, version: str) -> Node:
    """A version of a registered model."""
    return Node(kind=NodeKind.MODEL_VERSION, key=f"{name}/{version}", name=f"{name}/{version}")


_KEPT = ("system_type", "entity_type", "owner", "created_by", "updated_by", "url", "description")


def _details(made: ExternalMetadata) -> dict[str, Any]:
    kept = {key: getattr(made, key) for key in _KEPT}
    times = {key: int(getattr(made, key).timestamp() * 1_000_000) for key in ("created_at", "updated_at")}
    return {**kept, **times, "columns": list(made.columns), "properties": dict(made.properties)}


def _metadata_of(row: Any) -> ExternalMetadata:
    details = row.details
    return ExternalMetadata(
        name=row.name,
        **{key: details[key] for key in _KEPT},
        created_at=from_epoch_us(details["created_at"]),
        updated_at=from_epoch_us(details["updated_at"]),
        columns=tuple(details["columns"]),
        properties=details["properties"],
    )
