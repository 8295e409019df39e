"""What changed in a Delta table between two versions, as rows: those of the files that came, or of those that went.

`spark.read.option("millpond.changes", "added").option("startingVersion", 3).option("endingVersion", 7).table(name)`,
and `removed`. Rows that only moved to other files are in both, so that one without the other is what changed, whatever
wrote it and without a change data feed. `appended` is what a stream gets of these commits, with a stream's options and
its errors: rows that only moved are not in it, and commits that change or delete rows are refused or passed over.
"""

import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from millpond.engine import proto
from millpond.engine.blocking import require_thread
from millpond.engine.delta.table import Storage
from millpond.engine.errors import AnalysisError, unsupported
from millpond.engine.spools import Spools
from millpond.engine.streaming.added import AddedRows, remove_home
from millpond.engine.streaming.log import AddedFile, TableLog
from millpond.engine.streaming.offsets import Offset
from millpond.engine.streaming.reads import read_rows, streamable
from millpond.engine.streaming.source import ReadOptions, Source, Taken, read_options
from millpond.identity.domain import Principal
from millpond.kernel.ids import new_id

if TYPE_CHECKING:
    from millpond.engine.binding import Binder

OPTION = "millpond.changes"
_KINDS = ("added", "removed", "appended")
_START, _END = "startingversion", "endingversion"


def relation_of(binder: "Binder", parts: tuple[str, ...], options: Mapping[str, str]) -> Any:
    """A relation that gives the rows; they are laid out until the plan is done with. Blocks.

    Raises SparkError, PermissionDenied.
    """
    kind, start, end, others = _asked(options)
    spools = binder.world.spools
    if binder.is_absolute or spools is None:
        raise unsupported(f"{OPTION} in a view or a stream, or before another Spark: read it in a query.")
    require_thread()
    table = streamable(binder, parts)
    location = table.storage_location
    storage = Storage(url=location, options=binder.world.storage_options if location.startswith("s3") else {})
    log = TableLog(storage, binder.catalog.storages.tree(location, shown=str(table.name)), str(table.name))
    source = Source(table, log, others)
    streams = kind == "appended" and start is not None
    files = _appended(source, start or 0, end) if streams else _files(log, kind, start, end)
    run = new_id()
    at = Offset(version=end)
    rows = AddedRows(source, Taken(start=at, end=at, files=files), spools, binder.invoker, run)
    binder.needs.held.append(_Held(spools, binder.invoker, run))
    relation = proto.relations.Relation()
    relation.subquery_alias.alias = parts[-1]
    read_rows(binder, relation.subquery_alias.input, table, rows)
    return relation


class _Held:
    """What is laid out goes when nobody holds this any more: the needs of a plan do until it is carried out."""

    def __init__(self, spools: Spools, principal: Principal, run: str) -> None:
        weakref.finalize(self, remove_home, spools, principal, run)


def _appended(source: Source, start: int, end: int) -> tuple[AddedFile, ...]:
    return source.between(Offset(version=start + 1), Offset(version=end + 1)).files


def _files(log: TableLog, kind: str, start: int | None, end: int) -> tuple[AddedFile, ...]:
    before = () if start is None else log.snapshot(start)
    after = log.snapshot(end)
    mine, others = (before, after) if kind == "removed" else (after, before)
    known = {file.path for file in others}
    return tuple(file for file in mine if file.path not in known)


def _asked(options: Mapping[str, str]) -> tuple[str, int | None, int, ReadOptions]:
    given = {key.lower(): value.strip() for key, value in options.items()}
    kind = given.pop(OPTION).lower()
    start, end = given.pop(_START, None), given.pop(_END, None)
    numbers = all(value is None or value.isdecimal() for value in (start, end))
    if kind not in _KINDS or (given and kind != "appended") or end is None or not numbers:
        raise AnalysisError(
            "DELTA_ILLEGAL_OPTION",
            f"{OPTION} is 'added', 'removed' or 'appended', with endingVersion and perhaps startingVersion, numbers; "
            f"got {dict(options)}.",
            sql_state="42616",
        )
    return kind, None if start is None else int(start), int(end), read_options(given)
