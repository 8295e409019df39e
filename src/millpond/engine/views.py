"""Views: temporary ones, which live in the gateway, and those of the catalog, which are text."""

from typing import Any

from millpond.catalog.domain import ObjectName, Table, TableType
from millpond.catalog.names import split_name
from millpond.catalog.service import CatalogService
from millpond.engine import shaping, wire
from millpond.engine.binding import GLOBAL_TEMP, Binder
from millpond.engine.dml import CreateView
from millpond.engine.errors import AnalysisError, table_exists, table_not_found
from millpond.engine.lineage import capture
from millpond.engine.needs import Needs
from millpond.engine.sessions import Session, Sessions
from millpond.engine.syntax.model import Drop
from millpond.engine.upstream import Upstream


class Views:
    """Makes and drops views."""

    def __init__(self, catalog: CatalogService, sessions: Sessions, upstream: Upstream) -> None:
        self._catalog = catalog
        self._sessions = sessions
        self._upstream = upstream

    async def store_temporary(
        self, session: Session, name: str, bound: Any, absolute: Any, needs: Needs, *, replace: bool, is_global: bool
    ) -> None:
        """Keep a temporary view, after the engine has said that its query can be analysed."""
        parts = split_name(name)
        if len(parts) == 2 and parts[0].lower() == GLOBAL_TEMP and is_global:
            parts = parts[1:]
        if len(parts) != 1:
            raise AnalysisError(
                "TEMP_VIEW_NAME_TOO_MANY_NAME_PARTS",
                f"CREATE TEMPORARY VIEW or the corresponding Dataset APIs only accept single-part view names, "
                f"but got: {name}.",
                sql_state="428EK",
            )
        views = self._sessions.global_views(session.principal) if is_global else session.temp_views
        key = parts[0].lower()
        if not replace and key in views:
            raise AnalysisError(
                "TEMP_TABLE_OR_VIEW_ALREADY_EXISTS",
                f"Cannot create the temporary view `{parts[0]}` because it already exists. "
                "Choose a different name, drop or replace the existing view.",
                sql_state="42P07",
                parameters={"relationName": f"`{parts[0]}`"},
            )
        await self._upstream.schema(session, bound, needs)
        views[key] = absolute.SerializeToString()

    async def create(
        self,
        session: Session,
        statement: CreateView,
        bound: Any,
        absolute: Any,
        needs: Needs,
        *,
        uses_temporary: str | None,
    ) -> Any:
        """CREATE VIEW, temporary or in the catalog."""
        if statement.temporary:
            if statement.columns:
                absolute = _renamed(absolute, statement)
                bound = _renamed(bound, statement)
            name = ".".join(f"`{part}`" for part in statement.name)
            await self.store_temporary(
                session, name, bound, absolute, needs, replace=statement.or_replace, is_global=statement.is_global
            )
            return wire.string_table([], [])
        if uses_temporary is not None:
            raise AnalysisError(
                "INVALID_TEMP_OBJ_REFERENCE",
                f"Cannot create the persistent object `{'.'.join(statement.name)}` of the type VIEW because it "
                f"references the temporary object `{uses_temporary}` of the type VIEW.",
                sql_state="42K0F",
            )
        schema = await self._upstream.schema(session, bound, needs)
        fields = shaping.fields_of_schema(schema)
        view = self._create_in_catalog(session, statement, fields)
        capture.wrote(session, "CREATE VIEW", bound, needs, target=view, by_position=True, replaces=True)
        return wire.string_table([], [])

    def _create_in_catalog(self, session: Session, statement: CreateView, fields: list[Any]) -> Table | None:
        from millpond.engine.types import columns_of

        if statement.columns:
            if len(statement.columns) != len(fields):
                raise AnalysisError(
                    "CREATE_VIEW_COLUMN_ARITY_MISMATCH",
                    f"Cannot create view {'.'.join(statement.name)}: {len(statement.columns)} names "
                    f"for {len(fields)} columns.",
                    sql_state="21S01",
                )
            fields = [
                {**field, "name": name, "metadata": {"comment": comment} if comment else {}}
                for field, (name, comment) in zip(fields, statement.columns, strict=True)
            ]
        columns = columns_of(fields, [])
        home = (session.current_catalog, session.current_schema)
        name = ObjectName(*(*home[: 3 - len(statement.name)], *statement.name))
        # names in the text mean what they mean here, wherever the view is read
        noted = {**statement.properties, "view.catalog": home[0], "view.schema": home[1]}
        existing = self._catalog.find_table(session.principal, name)
        if existing is not None and statement.if_not_exists:
            return None
        if existing is not None and statement.or_replace and existing.table_type is TableType.VIEW:
            return self._catalog.replace_view(
                session.principal,
                name,
                view_definition=statement.query,
                columns=columns,
                comment=statement.comment,
                properties=noted,
            )
        if existing is not None:
            raise table_exists((name.catalog, name.schema, name.name))
        staged = self._catalog.stage_table(session.principal, name)
        return self._catalog.register_table(
            session.principal,
            staged,
            columns,
            TableType.VIEW,
            comment=statement.comment,
            properties=noted,
            view_definition=statement.query,
        )

    def is_temporary(self, session: Session, command: Drop) -> bool:
        """Whether a DROP means a temporary view."""
        return command.kind.upper() in {"VIEW", "TABLE"} and self._slot(session, command.name) is not None

    def is_temporary_name(self, session: Session, name: tuple[str, ...]) -> bool:
        """Whether a name means a temporary view."""
        return self._slot(session, name) is not None

    async def drop_temporary(self, session: Session, command: Drop) -> Any:
        """Drop a temporary view."""
        self.drop(session, command.name)
        return wire.string_table([], [])

    def drop(self, session: Session, name: tuple[str, ...]) -> bool:
        """Drop a temporary view; False when there is none."""
        slot = self._slot(session, name)
        if slot is None:
            return False
        views, key = slot
        del views[key]
        return True

    def _slot(self, session: Session, name: tuple[str, ...]) -> tuple[dict[str, bytes], str] | None:
        if len(name) == 1 and name[0].lower() in session.temp_views:
            return session.temp_views, name[0].lower()
        if len(name) == 2 and name[0].lower() == GLOBAL_TEMP:
            views = self._sessions.global_views(session.principal)
            if name[1].lower() not in views:
                raise table_not_found(name)
            return views, name[1].lower()
        return None

    def require_relation(self, binder: Binder, name: tuple[str, ...]) -> None:
        """Raise TABLE_OR_VIEW_NOT_FOUND for what is neither a temporary view nor a table."""
        if not binder.finds_temp_view(name):
            binder.table(name)


def _renamed(relation: Any, statement: CreateView) -> Any:
    from millpond.engine import proto

    made = proto.relations.Relation()
    made.to_df.column_names.extend(name for name, _ in statement.columns)
    made.to_df.input.CopyFrom(relation)
    return made
