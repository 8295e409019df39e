"""UPDATE, DELETE and MERGE: the engine carries them out on the target's path, everything else bound as in a query."""

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

from millpond.catalog.domain import Table, TableType
from millpond.catalog.names import quote
from millpond.catalog.service import CatalogService
from millpond.engine import proto, sources
from millpond.engine.authorship import MARK, USER_METADATA_SETTING, Author, Note, unsigned
from millpond.engine.binding import Binder
from millpond.engine.guarded import Visible, require_manager, visible_rows
from millpond.engine.lineage import capture
from millpond.engine.merging import Merge
from millpond.engine.needs import Needs
from millpond.engine.parameters import value_edits
from millpond.engine.queries import Query, TableSite
from millpond.engine.sessions import Session
from millpond.engine.statistics import Statistics
from millpond.engine.travel import make_way
from millpond.engine.upstream import Upstream
from millpond.engine.writes import follow_log, has_landed, not_changeable
from millpond.identity.access import Act, require
from millpond.kernel.ids import new_id

_COUNTS: dict[str, dict[str, tuple[str, ...]]] = {
    "update": {"num_affected_rows": ("numUpdatedRows",)},
    "delete": {"num_affected_rows": ("numDeletedRows",)},
    "merge": {
        "num_affected_rows": ("numTargetRowsUpdated", "numTargetRowsDeleted", "numTargetRowsInserted"),
        "num_updated_rows": ("numTargetRowsUpdated",),
        "num_deleted_rows": ("numTargetRowsDeleted",),
        "num_inserted_rows": ("numTargetRowsInserted",),
    },
}
"""Columns of the answer, as Delta names them, and the metrics in the commit that they add up."""


class Changer:
    """Carries out changes for sessions."""

    def __init__(self, catalog: CatalogService, upstream: Upstream, storage_options: Mapping[str, str]) -> None:
        self._catalog = catalog
        self._upstream = upstream
        self._storage_options = storage_options
        self._statistics = Statistics(storage_options)

    async def change(
        self, session: Session, source: Any, query: Query, binder: Binder, *, commit: str | None = None
    ) -> Any:
        """Run the statement; the answer counts the rows that it changed. `commit` is an id for its commit."""
        site = next(site for site in query.tables if site.is_target)
        location, table = await asyncio.to_thread(self._target, session, site.parts, query.kind, binder)
        note = Note(
            author=Author.of(session.principal),
            user_metadata=session.setting(USER_METADATA_SETTING),
            commit=commit or new_id(),
        )
        visible = await asyncio.to_thread(visible_rows, binder, table, query, site) if table is not None else None
        evolves = query.with_schema_evolution
        columns = await asyncio.to_thread(self._statistics.before_merge, session, location) if evolves else None
        command, version = await asyncio.to_thread(self._command, source, query, site, location, binder, note, visible)
        landed = partial(has_landed, location, self._storage_options, note)
        found = partial(self._found, location, str(table.name) if table is not None else location, query.kind, note)
        metrics = None
        while metrics is None:
            await self._upstream.run_retrying(session, proto.base.Plan(command=command), binder.needs, landed=landed)
            metrics, version = await asyncio.to_thread(found, version)
        capture.wrote(session, query.kind.upper(), command, binder.needs, target=table or location)
        if table is not None and evolves:
            await asyncio.to_thread(follow_log, self._catalog, session.principal, table, self._storage_options)
        if columns is not None:
            await asyncio.to_thread(self._statistics.after_merge, session, location, columns)
        return _counts(query.kind, metrics)

    async def merge(self, session: Session, merge: Merge, query: Query, binder: Binder) -> None:
        """Run DataFrame.mergeInto. Its functions are named for what they do, so each is registered once."""
        for name, function in merge.functions.items():
            key = f"register_function:{name}"
            if key not in session.functions:
                plan = proto.base.Plan(command=proto.commands.Command.FromString(function))
                await self._upstream.run(session, plan, Needs())
                session.functions[key] = function
        await self.change(session, merge.relation, query, binder)

    def _target(self, session: Session, parts: tuple[str, ...], kind: str, binder: Binder) -> tuple[str, Table | None]:
        """Where the table is that shall be changed, after the right to do so was checked."""
        if len(parts) == 2 and parts[0].lower() == "delta":
            return sources.reach(self._catalog, session.principal, parts[1], binder.needs, write=True), None
        if binder.finds_temp_view(parts):
            raise not_changeable(parts, kind, "a temporary view")
        table = binder.table(parts)
        require(session.principal, Act.WRITE, table.securable)
        require_manager(self._catalog, session.principal, table, kind.upper())
        if table.table_type is TableType.VIEW:
            raise not_changeable(parts, kind, "a view")
        if table.data_source_format != "DELTA":
            raise not_changeable(parts, kind, f"of format {table.data_source_format}")
        binder.needs.write(table.storage_location, str(table.name))
        return table.storage_location, table

    def _command(
        self,
        source: Any,
        query: Query,
        site: TableSite,
        location: str,
        binder: Binder,
        note: Note,
        visible: Visible | None,
    ) -> tuple[Any, int]:
        """The statement as a command on a path, and the version of the table before it."""
        command = proto.commands.Command()
        made = command.sql_command.input
        made.CopyFrom(source)
        names = binder.bind_arguments(made)
        alias = "" if site.aliased else f" AS {quote(site.parts[-1])}"
        also = None if visible is None else visible.condition
        edits = [*value_edits(_sql_of(made), query.parameters), *note.beside(query.condition, "WHERE", also)]
        text, references = binder.splice_change(query, site, f"delta.{quote(location)}{alias}", names, edits)
        references = [*references, *(visible.references if visible is not None else ())]
        if references and made.WhichOneof("rel_type") != "with_relations":
            inner = proto.relations.Relation()
            inner.CopyFrom(made)
            made.Clear()
            made.with_relations.root.CopyFrom(inner)
        _sql_of(made).query = text
        if references:
            made.with_relations.references.extend(references)
        return command, self._open(location).version()

    def _open(self, location: str) -> Any:
        from millpond.engine.delta.table import Storage, open_table

        return open_table(Storage(url=location, options=self._storage_options if location.startswith("s3") else {}))

    def _found(
        self, location: str, shown: str, kind: str, note: Note, before: int
    ) -> tuple[dict[str, Any] | None, int]:
        """What the commit says about its rows, and the newest version; None where the engine has to look again.

        A statement that found no rows made no commit. Nor did one that somebody's checkpoint kept from seeing them.
        """
        table = self._open(location)
        newer = table.version() - before
        commits = map(unsigned, table.history(newer) if newer else [])
        ours = next((commit for commit in commits if _is_of(commit, note, kind)), None)
        if ours is not None:
            return ours.get("operationMetrics") or {}, table.version()
        misled = make_way(self._catalog.storages.tree(location, shown=shown), before)
        return None if misled else {}, table.version()


def _counts(kind: str, metrics: Mapping[str, Any]) -> Any:
    import pyarrow as pa

    counts = {name: sum(int(metrics.get(key, 0)) for key in keys) for name, keys in _COUNTS[kind].items()}
    return pa.table({name: [count] for name, count in counts.items()})


def _sql_of(relation: Any) -> Any:
    """The SQL of a command's relation, which may stand inside one that brings references."""
    return (relation.with_relations.root if relation.WhichOneof("rel_type") == "with_relations" else relation).sql


def _is_of(commit: dict[str, Any], note: Note, kind: str) -> bool:
    """Whether the commit has the note. An engine that leaves notes out is trusted to have been alone."""
    if MARK in commit or str(commit.get("engineInfo")).startswith("sail"):
        return bool(commit.get(MARK) == note.commit)
    return bool(commit.get("operation") == kind.upper())
