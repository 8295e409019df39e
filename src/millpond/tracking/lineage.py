"""What runs and models tell lineage: data → run → model version → endpoint, and who may see which of them.

Sources: MLflow's `DeltaDatasetSource` (`delta_table_name`, `delta_table_version`, `path`), `SparkDatasetSource`
(`table_name`) and `LocalArtifactDatasetSource` (`uri`).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from millpond.catalog.domain import ObjectName
from millpond.catalog.service import CatalogService
from millpond.identity import acts
from millpond.identity.access import Act as Right
from millpond.identity.access import allows
from millpond.identity.domain import Principal
from millpond.kernel.clock import utc_now
from millpond.kernel.errors import MillpondError
from millpond.kernel.ids import new_id
from millpond.lineage import pins
from millpond.lineage.domain import Act, ColumnFlow, Entity, Known, Node, NodeKind, Observation, SeenNode, digest
from millpond.lineage.service import is_recorded, record_in
from millpond.sdk import CAPTURE_TAG
from millpond.tracking import store
from millpond.tracking.domain import Owned, is_three_level, model_securable

_MOST_COLUMNS, _LONGEST_NAME = 2000, 255
VisibleRuns = Callable[[Principal, Sequence[str]], Mapping[str, str]]
"""Of some runs' ids those that a principal may read, with their names."""


class ModelLineage:
    """Tells, and shows."""

    def __init__(self, catalog: CatalogService) -> None:
        self._catalog = catalog

    # -- telling ------------------------------------------------------------------------------------------------

    def inputs_logged(self, principal: Principal, run_id: str, datasets: Sequence[Any]) -> None:
        """A run was given data sets (MLflow's DatasetInput); those that are tables or files here are its sources."""
        found = [(node, told) for each in datasets if (told := _source_of(each.dataset)) and
                 (node := self._data(principal, told))]  # fmt: skip
        observations = [
            Observation(
                id=str(UUID(digest("run", run_id, node.id, json.dumps(told, sort_keys=True)))),
                act=_act(principal, "MLFLOW INPUT", Entity(type="RUN", id=run_id)),
                sources=(node,),
                target=run_node(run_id),
                columns=_columns(node, told),
                details={"version": told.get("delta_table_version")},
            )
            for node, told in found
        ]
        if observations:
            with self._catalog.database.write() as connection:
                record_in(connection, observations)
                for each in observations:
                    _note_features(connection, principal, each.columns, run=run_id)
                pins.put_reads(connection, [read for node, told in found if (read := _read_of(run_id, node, told))])

    def version_made(self, connection: Connection, principal: Principal, version: Any) -> None:
        """A model version (MLflow's row) is new; its run is its source."""
        if version.run_id:
            made = Observation(
                id=new_id(),
                act=_act(principal, "MODEL VERSION", Entity(type="RUN", id=version.run_id)),
                sources=(run_node(version.run_id),),
                target=self._version_node(connection, version.name, str(version.version)),
            )
            record_in(connection, [made])
            process = capture_of_run(connection, version.run_id).partition("-")[0]
            pins.pin(connection, model=version.name, version=int(version.version), run_id=version.run_id,
                     process=process, made_at=made.act.time)  # fmt: skip

    def version_read(self, principal: Principal, name: str, version: str) -> None:
        """Somebody is told where a version's files are; noted of a task of a job, once."""
        if principal.work is None:
            return
        node = self.version_node(name, version)
        read = Observation(
            id=str(UUID(digest("read", str(principal.work.task_run_id), node.id))),
            act=replace(_act(principal, "READ", Entity()), known=Known.OBSERVED),
            sources=(node,),
            target=None,
        )
        with self._catalog.database.read() as connection:
            if is_recorded(connection, read):
                return
        with self._catalog.database.write() as connection:
            record_in(connection, [read])

    def deployed(
        self,
        connection: Connection,
        principal: Principal,
        endpoint: tuple[str, str],
        models: Sequence[tuple[str, str]],
        features: Sequence[ColumnFlow] = (),
    ) -> None:
        """An endpoint (id and name) serves these model versions (name and number) from now on, and no others.

        `features` are the columns of feature tables that it reads at each request.
        """
        nodes = [self._version_node(connection, name, version) for name, version in models]
        nodes += dict.fromkeys(flow.source for flow in features)
        made = Observation(
            id=new_id(),
            act=_act(principal, "SERVE", Entity(type="ENDPOINT", id=endpoint[0])),
            sources=tuple(nodes),
            target=Node(kind=NodeKind.ENDPOINT, key=endpoint[0], name=endpoint[1]),
            columns=tuple(features),
            replaces=True,
        )
        record_in(connection, [made])
        _note_features(connection, principal, features, endpoint=endpoint[1])

    def version_node(self, name: str, version: str) -> Node:
        """A version of a model as a node."""
        with self._catalog.database.read() as connection:
            return self._version_node(connection, name, version)

    def _version_node(self, connection: Connection, name: str, version: str) -> Node:
        """By the id of a model of the catalog, which survives renames; by the name of another."""
        model = self._catalog.find_model_in(connection, ObjectName.of_full_name(name)) if is_three_level(name) else None
        key = f"{model.id if model else name}/{version}"
        return Node(kind=NodeKind.MODEL_VERSION, key=key, name=f"{name}/{version}")

    def _data(self, principal: Principal, told: Mapping[str, Any]) -> Node | None:
        name = told.get("delta_table_name") or told.get("table_name")
        try:
            if name and is_three_level(str(name).replace("`", "")):
                table = self._catalog.find_table(principal, ObjectName.parse(str(name)))
                readable = table is not None and allows(principal, Right.READ, table.securable)
                return Node(kind=NodeKind.TABLE, key=table.id, name=str(table.name)) if table and readable else None
            return self._files(principal, str(told.get("path") or told.get("uri") or ""))
        except MillpondError:  # a place or name elsewhere, which is none of ours
            return None

    def _files(self, principal: Principal, path: str) -> Node | None:
        if not path.startswith(("/Volumes/", "dbfs:/Volumes/", "s3://", "file:")):
            return None
        location = self._catalog.check_path(principal, path, write=False)
        table = self._catalog.table_at(location)
        if table is not None:
            return Node(kind=NodeKind.TABLE, key=table.id, name=str(table.name))
        return Node(kind=NodeKind.PATH, key=location, name=path)

    # -- showing ------------------------------------------------------------------------------------------------

    def see_versions(self, principal: Principal, found: Sequence[SeenNode]) -> dict[str, SeenNode]:
        """Versions of models that the principal may see, under the models' names of now."""
        keys = {node.id: node.key.rpartition("/") for node in found}
        models = self._catalog.find_models_by_id(principal, [key for key, _, _ in keys.values()])
        seen = {}
        with self._catalog.database.read() as connection:
            for node in found:
                key, _, version = keys[node.id]
                name = str(models[key].name) if key in models else self._workspace_model(connection, principal, key)
                if name:
                    seen[node.id] = _called(node, f"{name}/{version}")
        return seen

    def _workspace_model(self, connection: Connection, principal: Principal, name: str) -> str:
        owner = store.find_owner(connection, Owned.MODEL, name)
        return name if owner and allows(principal, Right.SEE, model_securable(name, owner)) else ""


def run_seer(visible: VisibleRuns) -> Callable[[Principal, Sequence[SeenNode]], dict[str, SeenNode]]:
    """What shows runs under their names."""

    def see(principal: Principal, found: Sequence[SeenNode]) -> dict[str, SeenNode]:
        names = visible(principal, [node.key for node in found])
        return {node.id: _called(node, names[node.key]) for node in found if node.key in names}

    return see


def capture_of_run(connection: Connection, run_id: str) -> str:
    """The capture that a run names; empty for none."""
    query = text("SELECT value FROM tags WHERE run_uuid = :run AND key = :key")
    return str(connection.execute(query, {"run": run_id, "key": CAPTURE_TAG}).scalar() or "")


def _read_of(run_id: str, node: Node, told: Mapping[str, Any]) -> pins.VersionRead | None:
    """A data set that names a version of a table."""
    version = told.get("delta_table_version")
    if node.kind is not NodeKind.TABLE or not str(version).isdecimal():
        return None
    return pins.VersionRead(
        reader=run_id, table_id=node.key, name=node.name, version=int(str(version)), first_at=utc_now()
    )


def run_node(run_id: str) -> Node:
    """A run."""
    return Node(kind=NodeKind.RUN, key=run_id, name=run_id)


def _called(node: SeenNode, name: str) -> SeenNode:
    return SeenNode(id=node.id, kind=node.kind, key=node.key, name=name, details=node.details)


def _act(principal: Principal, operation: str, entity: Entity) -> Act:
    return Act(
        actor=principal.name, time=utc_now(), operation=operation, known=Known.DECLARED, entity=entity,
        work=principal.work,
    )  # fmt: skip


def _note_features(connection: Connection, principal: Principal, used: Sequence[ColumnFlow], **user: str) -> None:
    """Let the audit know which features of which table a run (its model versions name it) or an endpoint uses."""
    for table in dict.fromkeys(flow.source for flow in used):
        names = dict.fromkeys(flow.source_column for flow in used if flow.source == table)
        acts.changed(
            connection, principal.name, "use features", "table", table.name, object_id=table.key,
            columns=",".join(names), **user,
        )  # fmt: skip


def _columns(node: Node, told: Mapping[str, Any]) -> tuple[ColumnFlow, ...]:
    """The columns of a table that a run uses, if its data set says so (a feature table's does): they and no others."""
    given = told.get("columns")
    if node.kind is not NodeKind.TABLE or not isinstance(given, list):
        return ()
    names = dict.fromkeys(str(name)[:_LONGEST_NAME] for name in given[:_MOST_COLUMNS])
    return tuple(ColumnFlow(source=node, source_column=name, target_column=name) for name in names)


def _source_of(dataset: Any) -> dict[str, Any]:
    """What a data set says about where it is."""
    try:
        told = json.loads(dataset.source)
    except (TypeError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}
