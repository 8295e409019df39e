"""Commands that answer with a table: those of `commands/`, SET and RESET, EXPLAIN, DESCRIBE QUERY."""

import asyncio
from collections.abc import Mapping
from typing import Any

from millpond.catalog.service import CatalogService
from millpond.engine import proto, shaping, wire
from millpond.engine.dml import ResetSetting, SetSetting
from millpond.engine.engine_errors import without_paths
from millpond.engine.errors import AnalysisError
from millpond.engine.needs import Needs
from millpond.engine.servers_settings import is_servers
from millpond.engine.sessions import Session
from millpond.engine.syntax.model import Command
from millpond.engine.system_tables import SystemTables
from millpond.engine.upstream import Upstream, settings_request


class Commands:
    """Carries out commands for sessions."""

    def __init__(
        self, catalog: CatalogService, upstream: Upstream, system: SystemTables, storage_options: Mapping[str, str]
    ) -> None:
        self._catalog = catalog
        self._upstream = upstream
        self._system = system
        self._storage_options = storage_options

    async def run(self, session: Session, command: Command) -> Any:
        """The result of a command of `commands/`, as a pyarrow table."""
        return await asyncio.to_thread(self._execute, session, command)

    def _execute(self, session: Session, command: Command) -> Any:
        from millpond.engine.commands import execute  # loads delta-rs and pyarrow, which most sessions never need

        return execute(command, self.context(session))

    def context(self, session: Session) -> Any:
        """What commands run in."""
        from millpond.engine.commands.context import CommandContext

        return CommandContext(
            principal=session.principal,
            catalog=self._catalog,
            session=session,
            storage_options=self._storage_options,
            refresh=self._system.refresh_now,
        )

    async def settings(self, session: Session, statement: SetSetting | ResetSetting) -> Any:
        """SET and RESET; the answer shows keys and values."""
        if isinstance(statement, ResetSetting):
            keys = [statement.key] if statement.key else list(session.settings)
            await self.unset(session, keys)
            return wire.string_table([], [])
        if statement.key is None:
            return wire.string_table(["key", "value"], sorted(session.settings.items()))
        if statement.value is not None:
            await self.set(session, {statement.key: statement.value})
            return wire.string_table(["key", "value"], [(statement.key, statement.value)])
        found = await self._lookup(session, statement.key)
        return wire.string_table(["key", "value"], [(statement.key, found if found is not None else "<undefined>")])

    async def set(self, session: Session, values: Mapping[str, str]) -> bytes:
        """Change settings in the engine, and remember them for the next one."""
        check_settings(values)
        session.answers.clear()
        answer = await self._upstream.unary(session, "Config", settings_request(session, dict(values)))
        session.settings.update(values)
        return answer

    async def unset(self, session: Session, keys: list[str]) -> bytes:
        """Give settings back their defaults."""
        unset = proto.base.ConfigRequest.Unset(keys=keys)
        request = proto.base.ConfigRequest(
            session_id=session.id, operation=proto.base.ConfigRequest.Operation(unset=unset)
        )
        session.answers.clear()
        answer = await self._upstream.unary(session, "Config", request)
        for key in keys:
            session.settings.pop(key, None)
        return answer

    async def _lookup(self, session: Session, key: str) -> str | None:
        get = proto.base.ConfigRequest.GetOption(keys=[key])
        request = proto.base.ConfigRequest(
            session_id=session.id, operation=proto.base.ConfigRequest.Operation(get_option=get)
        )
        answer = proto.base.ConfigResponse.FromString(await self._upstream.unary(session, "Config", request))
        return answer.pairs[0].value if answer.pairs and answer.pairs[0].HasField("value") else None

    async def explain(self, session: Session, mode: str, relation: Any, needs: Needs) -> Any:
        """The engine's plan, with names where it says places."""
        request = proto.base.AnalyzePlanRequest(session_id=session.id)
        request.explain.plan.root.CopyFrom(relation)
        modes = proto.base.AnalyzePlanRequest.Explain
        names = {
            "EXTENDED": "EXPLAIN_MODE_EXTENDED",
            "CODEGEN": "EXPLAIN_MODE_CODEGEN",
            "COST": "EXPLAIN_MODE_COST",
            "FORMATTED": "EXPLAIN_MODE_FORMATTED",
        }
        request.explain.explain_mode = modes.ExplainMode.Value(names.get(mode, "EXPLAIN_MODE_SIMPLE"))
        data = await self._upstream.unary(session, "AnalyzePlan", request, needs)
        text = proto.base.AnalyzePlanResponse.FromString(data).explain.explain_string
        return wire.string_table(["plan"], [(without_paths(text, needs),)])

    async def describe_query(self, session: Session, relation: Any, needs: Needs, *, as_json: bool = False) -> Any:
        """Names and types of a query's columns, one in a row or all as JSON."""
        found = shaping.fields_of_schema(await self._upstream.schema(session, relation, needs))
        if as_json:
            from millpond.engine.commands.describe import described_as_json

            return wire.string_table(["json_metadata"], [(described_as_json(found),)])
        rows = [(f["name"], shaping.sql_type(f["type"]).replace("`", ""), None) for f in found]
        return wire.string_table(["col_name", "data_type", "comment"], rows)


def check_settings(keys: Mapping[str, str] | list[str]) -> None:
    """Refuse settings that would reach beyond the session's own queries."""
    for key in keys:
        if is_servers(key):
            raise AnalysisError(
                "CANNOT_MODIFY_CONFIG",
                f"Cannot modify the value of the Spark config: \"{key}\". It is the server's, not the session's.",
                sql_state="46110",
                parameters={"key": key},
            )
