"""Lineage as clients read it.

Sources: Databricks, "Data lineage" (the lineage tracking API: `tableInfo`, `fileInfo`, `upstream_cols`);
databricks-sdk, `service/catalog.py`, for external metadata and external lineage.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from millpond.kernel.errors import InvalidArgument
from millpond.lineage.domain import ColumnEdge, Direction, Edge, Entity, NodeKind, SeenNode, Way
from millpond.lineage.external import ExternalMetadata, Reference, Relation
from millpond.lineage.impact import Damage
from millpond.lineage.job_uses import UsedBy
from millpond.lineage.service import ColumnNeighbour, Graph, Neighbour

_INFOS_OF_ENTITY = {"JOB": "jobInfos", "NOTEBOOK": "notebookInfos", "DBSQL_QUERY": "queryInfos", "RUN": "runInfos"}


# -- lineage tracking ---------------------------------------------------------------------------------------------


def table_lineage_json(
    found: Mapping[Direction, Sequence[Neighbour]], workspace_id: int, jobs: Sequence[UsedBy] | None
) -> dict[str, Any]:
    """The answer of `table-lineage`; with `jobs`, also what ran, and what jobs did with the table themselves."""
    told = {
        f"{direction.value}s": [_neighbour(each, workspace_id, jobs) for each in neighbours]
        for direction, neighbours in found.items()
    }
    for each in jobs or ():
        side = Direction.UPSTREAM if each.done.way is Way.WRITE else Direction.DOWNSTREAM
        told[f"{side.value}s"].append({"jobInfos": [_job(each, workspace_id)]})
    return told


def _neighbour(neighbour: Neighbour, workspace_id: int, jobs: Sequence[UsedBy] | None) -> dict[str, Any]:
    info = _INFO_OF_KIND.get(neighbour.node.kind, _object_info)(neighbour.node, neighbour.edge)
    entity = neighbour.edge.entity
    if jobs is not None and entity.type in _INFOS_OF_ENTITY:
        info[_INFOS_OF_ENTITY[entity.type]] = [_entity(entity, workspace_id, neighbour.edge)]
    if did := next((each for each in jobs or () if _is_of(each, neighbour.edge)), None):
        info["jobInfos"] = [_job(did, workspace_id) | {"job_run_id": neighbour.edge.job_run_id}]
    return info


def _is_of(used: UsedBy, edge: Edge) -> bool:
    work = used.done.work
    return work.job_id == edge.job_id if edge.job_id else work.run_id == edge.job_run_id


def _job(used: UsedBy, workspace_id: int) -> dict[str, Any]:
    done = used.done
    return {
        "workspace_id": workspace_id, "job_id": done.work.job_id, "job_run_id": done.work.run_id,
        "job_name": used.job, "operation": done.operation, "lineage_timestamp": _time(done.last_seen),
    }  # fmt: skip


def _table_info(node: SeenNode, edge: Edge) -> dict[str, Any]:
    return {"tableInfo": {**_table_names(node.name), "table_type": node.details.get("type", "TABLE"), **_how(edge)}}


def _file_info(node: SeenNode, edge: Edge) -> dict[str, Any]:
    return {"fileInfo": {"path": node.name, "storage_location": node.key, "has_permission": True, **_how(edge)}}


def _model_info(node: SeenNode, edge: Edge) -> dict[str, Any]:
    name, _, version = node.name.rpartition("/")
    return {"modelInfo": {"model_name": name, "version": version, **_how(edge)}}


def _object_info(node: SeenNode, edge: Edge) -> dict[str, Any]:
    noun = {NodeKind.EXTERNAL: "externalMetadata", NodeKind.ENDPOINT: "endpoint", NodeKind.RUN: "run",
            NodeKind.ONLINE_TABLE: "onlineTable"}  # fmt: skip
    return {f"{noun.get(node.kind, 'dataset')}Info": {"name": node.name, "id": node.key, **_how(edge)}}


_INFO_OF_KIND = {NodeKind.TABLE: _table_info, NodeKind.PATH: _file_info, NodeKind.MODEL_VERSION: _model_info}


def _table_names(full_name: str) -> dict[str, str]:
    catalog, schema, name = full_name.split(".", 2)
    return {"name": name, "catalog_name": catalog, "schema_name": schema}


def _how(edge: Edge) -> dict[str, Any]:
    return {
        "lineage_timestamp": _time(edge.last_seen),
        "how_known": edge.known.value,
        "operation": edge.operation,
        "created_by": edge.actor,
        "session_id": edge.session,
        "statement_id": edge.statement,
        "first_seen": _time(edge.first_seen),
        "count": edge.count,
    }


def _entity(entity: Entity, workspace_id: int, edge: Edge) -> dict[str, Any]:
    key = {"JOB": "job_id", "NOTEBOOK": "notebook_id", "RUN": "run_id"}.get(entity.type, "query_id")
    return {"workspace_id": workspace_id, key: entity.id, "lineage_timestamp": _time(edge.last_seen)}


def column_lineage_json(found: Mapping[Direction, Sequence[ColumnNeighbour]], workspace_id: int) -> dict[str, Any]:
    """The answer of `column-lineage`."""
    return {
        f"{direction.value}_cols": [_column(each, workspace_id) for each in neighbours if each.column]
        for direction, neighbours in found.items()
    }


def _column(neighbour: ColumnNeighbour, workspace_id: int) -> dict[str, Any]:
    node = neighbour.node
    info: dict[str, Any] = {
        "name": neighbour.column,
        "workspace_id": workspace_id,
        "table_type": node.details.get("type", node.kind.value.upper()),
        "lineage_timestamp": _time(neighbour.edge.last_seen),
        "how_known": neighbour.edge.known.value,
    }
    if node.kind is not NodeKind.TABLE:
        return info | {"path": node.name}
    names = _table_names(node.name)
    return {**names, **info, "table_name": names["name"]}


# -- ours ---------------------------------------------------------------------------------------------------------


def graph_json(graph: Graph) -> dict[str, Any]:
    """A graph, its nodes by their ids."""
    return {
        "root": graph.root,
        "nodes": [_node(node) for node in graph.nodes.values()],
        "edges": [
            {
                "source": edge.source_id,
                "target": edge.target_id,
                "inexact_columns": list(edge.inexact),
                "entity_type": edge.entity.type,
                "entity_id": edge.entity.id,
                **_how(edge),
            }
            for edge in graph.edges
        ],
        "columns": [_column_edge(edge) for edge in graph.columns],
        "truncated": graph.is_cut,
    }


def _node(node: SeenNode) -> dict[str, Any]:
    return {"id": node.id, "kind": node.kind.value, "name": node.name, "columns": list(node.columns)}


def _column_edge(edge: ColumnEdge) -> dict[str, Any]:
    return {
        "source": edge.source_id,
        "source_column": edge.source_column,
        "target": edge.target_id,
        "target_column": edge.target_column,
        "use": edge.use.value,
        "how_known": edge.known.value,
    }


def impact_json(damage: Damage) -> dict[str, Any]:
    """What would break."""
    return {
        "affected": [
            {
                "kind": each.node.kind.value,
                "name": each.node.name,
                "column": each.column or None,
                "cause": each.cause.value,
                "steps": each.steps,
                "through": each.through,
            }
            for each in damage.affected
        ],
        "truncated": damage.is_cut,
    }


# -- external metadata and lineage --------------------------------------------------------------------------------


class MetadataBody(BaseModel):
    """Something outside, as a client describes it; what is None was not said."""

    model_config = ConfigDict(extra="ignore")

    name: str | None = None
    system_type: str | None = None
    entity_type: str | None = None
    owner: str | None = None
    url: str | None = None
    description: str | None = None
    columns: list[str] | None = None
    properties: dict[str, str] | None = None

    def values(self, mask: str | None = None) -> dict[str, Any]:
        """What is to be stored: all that was said, or what a mask names."""
        names = set(type(self).model_fields) - {"name"}
        if mask and mask != "*":
            unknown = set(mask.split(",")) - names
            if unknown:
                raise InvalidArgument(f"update_mask names {', '.join(sorted(unknown))}, which cannot be changed.")
            names = set(mask.split(","))
        found = {name: getattr(self, name) for name in names}
        return {key: tuple(value) if key == "columns" else value for key, value in found.items() if value is not None}

    def required(self) -> dict[str, Any]:
        """What is to be stored of a new one. Raises InvalidArgument."""
        for name in ("name", "system_type", "entity_type"):
            if not getattr(self, name):
                raise InvalidArgument(f"External metadata needs {name}.")
        return self.values()


def metadata_json(found: ExternalMetadata, metastore_id: str) -> dict[str, Any]:
    """Something outside, as the SDK reads it."""
    return {
        "id": found.node.id,
        "metastore_id": metastore_id,
        "name": found.name,
        "system_type": found.system_type,
        "entity_type": found.entity_type,
        "owner": found.owner,
        "url": found.url,
        "description": found.description,
        "columns": list(found.columns),
        "properties": dict(found.properties),
        "create_time": _time(found.created_at),
        "created_by": found.created_by,
        "update_time": _time(found.updated_at),
        "updated_by": found.updated_by,
    }


class _Named(BaseModel):
    name: str = ""


class _Url(BaseModel):
    url: str = ""


class _Version(BaseModel):
    name: str = ""
    version: str = ""


class ObjectBody(BaseModel):
    """One end of a relation."""

    table: _Named | None = None
    path: _Url | None = None
    external_metadata: _Named | None = None
    model_version: _Version | None = None

    def reference(self) -> Reference:
        """What it names."""
        version = self.model_version
        return Reference(
            table=self.table.name if self.table else "",
            path=self.path.url if self.path else "",
            external=self.external_metadata.name if self.external_metadata else "",
            model=(version.name, version.version) if version else None,
        )


class _ColumnBody(BaseModel):
    source: str
    target: str


class RelationBody(BaseModel):
    """A declared flow."""

    model_config = ConfigDict(extra="ignore")

    source: ObjectBody
    target: ObjectBody
    columns: list[_ColumnBody] = []
    id: str | None = None
    properties: dict[str, str] = {}

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Source and target of each column."""
        return [(each.source, each.target) for each in self.columns]

    @property
    def details(self) -> dict[str, Any]:
        """What is kept besides."""
        return {"id": self.id, "properties": self.properties}


def object_of_query(query: Mapping[str, str], prefix: str) -> ObjectBody:
    """One end out of flattened query parameters: `object_info.table.name=...`."""
    nested: dict[str, dict[str, str]] = {}
    for key, value in query.items():
        parts = key.removeprefix(f"{prefix}.").split(".")
        if key.startswith(f"{prefix}.") and len(parts) == 2:
            nested.setdefault(parts[0], {})[parts[1]] = value
    return ObjectBody.model_validate(nested)


def relation_json(found: Relation, direction: Direction) -> dict[str, Any]:
    """A relation, with what lies at its other end."""
    other = found.source if direction is Direction.UPSTREAM else found.target
    info = {
        "id": found.edge.details.get("id"),
        "source": _object(found.source),
        "target": _object(found.target),
        "columns": [{"source": source, "target": target} for source, target in found.columns],
        "properties": found.edge.details.get("properties") or {},
    }
    return {"external_lineage_info": info, **_end(other, _time(found.edge.last_seen))}


def _object(node: SeenNode) -> dict[str, Any]:
    if node.kind is NodeKind.TABLE:
        return {"table": {"name": node.name}}
    if node.kind is NodeKind.PATH:
        return {"path": {"url": node.name}}
    if node.kind is NodeKind.MODEL_VERSION:
        name, _, version = node.name.rpartition("/")
        return {"model_version": {"name": name, "version": version}}
    return {"external_metadata": {"name": node.name}}


def _end(node: SeenNode, time: str) -> dict[str, Any]:
    if node.kind is NodeKind.TABLE:
        return {"table_info": {**_table_names(node.name), "event_time": time}}
    if node.kind is NodeKind.PATH:
        return {"file_info": {"path": node.name, "storage_location": node.key, "event_time": time}}
    if node.kind is NodeKind.MODEL_VERSION:
        name, _, version = node.name.rpartition("/")
        number = int(version) if version.isdecimal() else None
        return {"model_info": {"model_name": name, "version": number, "event_time": time}}
    kinds = {key: node.details.get(key) for key in ("system_type", "entity_type")}
    return {"external_metadata_info": {"name": node.name, **kinds, "event_time": time}}


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
