"""Which version of a table a session reads where it names none.

Sessions of a process that captures its runs say so by their user agent. Each read of theirs gets the newest version by
number, which is noted: so it is known for certain what a run has read. Sessions of a process that reproduces a run get
the versions that the first process read, and write no tables.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from millpond.catalog import locations
from millpond.catalog.domain import SYSTEM_CATALOG, Table
from millpond.engine.errors import AnalysisError
from millpond.engine.lineage import capture
from millpond.kernel.clock import from_epoch_ms
from millpond.kernel.database import Database
from millpond.lineage.pins import reads_of
from millpond.sdk import PROCESS_WORD, READS_OF_WORD

if TYPE_CHECKING:
    from millpond.engine.binding import Binder

_LOG_NAME_LENGTH = len("00000000000000000000.json")


@dataclass(frozen=True, kw_only=True)
class Client:
    """What a session's user agent says of its process."""

    process: str = ""
    reads_of: str = ""
    """The process whose reads are repeated."""
    until_ms: int = 0


@lru_cache(1000)
def client_of(agent: str) -> Client:
    """The words of a user agent that are meant for us."""
    words = agent.split() if PROCESS_WORD in agent or READS_OF_WORD in agent else []
    process = next((word.removeprefix(PROCESS_WORD) for word in words if word.startswith(PROCESS_WORD)), "")
    told = next((word.removeprefix(READS_OF_WORD) for word in words if word.startswith(READS_OF_WORD)), "")
    reads_of_process, _, until = told.partition("/")
    return Client(process=process[:64], reads_of=reads_of_process[:64], until_ms=int(until) if until.isdecimal() else 0)


def settled(
    binder: "Binder", table: Table, version: str | None, timestamp: str | None
) -> tuple[str | None, str | None]:
    """The version and timestamp with which a table is read."""
    client = client_of(binder.session.client)
    if not (client.process or client.reads_of) or table.data_source_format != "DELTA" or timestamp is not None:
        return version, timestamp
    if table.name.catalog == SYSTEM_CATALOG:
        return version, timestamp
    if version is None and client.reads_of:
        found = _versions_of(binder, client).get(table.id)
        version = None if found is None else str(found)
    if version is None:
        newest = newest_version(table.storage_location, binder.world.storage_options)
        version = None if newest is None else str(newest)
    if client.process and version is not None and version.strip().isdecimal():
        capture.read_at(binder.session, client.process, table, int(version))
    return version, timestamp


def refuse_writing(agent: str, what: str) -> None:
    """Pass for a session that does not reproduce a run. Raises AnalysisError."""
    if client_of(agent).reads_of:
        raise AnalysisError(
            "INSUFFICIENT_PERMISSIONS",
            f"{what}: a process that reproduces a run reads tables as they were and changes nothing.",
            sql_state="42501",
        )


def _versions_of(binder: "Binder", client: Client) -> Mapping[str, int]:
    """By table what the first process read: the last version, where it read several."""
    session = binder.session
    if client.reads_of not in session.pinned:
        session.pinned[client.reads_of] = first_reads(binder.catalog.database, client.reads_of, client.until_ms)
    return session.pinned[client.reads_of]


def first_reads(database: Database, process: str, until_ms: int) -> dict[str, int]:
    """By table the version that a process read until then."""
    until = from_epoch_ms(until_ms) if until_ms else None
    return {read.table_id: read.version for read in reads_of(database, [process], until)}


def newest_version(location: str, storage_options: Mapping[str, str]) -> int | None:
    """The newest version of a Delta table; None where it cannot be told."""
    if locations.is_local(location):
        try:
            with os.scandir(locations.local_path(location) / "_delta_log") as entries:
                names = [entry.name for entry in entries if len(entry.name) == _LOG_NAME_LENGTH]
        except OSError:
            return None
        return max((int(name[:20]) for name in names if name[:20].isdecimal()), default=None)
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    try:
        return DeltaTable(location, storage_options=dict(storage_options), without_files=True).version()
    except (DeltaError, OSError):
        return None
