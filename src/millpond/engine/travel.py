"""Earlier versions of a Delta table, which Sail finds only from a checkpoint on.

Sail 0.7 lists a log from the version that `_last_checkpoint` names, or from that asked for where it is an earlier one,
so it misses the commits before an earlier version; which a version becomes as well while somebody makes a checkpoint
of a later one. Without that file, which readers may do without, it lists all of the log, and finds every version.
Whoever writes the next checkpoint writes the file anew.
"""

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from millpond.catalog import locations
from millpond.catalog.storage import FileTree
from millpond.engine import sources
from millpond.engine.blocking import require_thread
from millpond.kernel.errors import NotFound

if TYPE_CHECKING:
    from millpond.engine.binding import Binder

_HINT = ("_delta_log", "_last_checkpoint")
_MOST_BYTES = 1 << 20


def read_as_of(binder: "Binder", source: Any, version: str | None, timestamp: str | None) -> None:
    """Make a DataSource read an earlier state, where one is asked for. Blocks off local disks."""
    sources.set_as_of(source, version, timestamp, binder.session)
    _make_way(binder, source)


def as_asked(binder: "Binder", source: Any) -> None:
    """The same, where the DataSource's own options ask for it."""
    sources.normalise_as_of(source.options, binder.session)
    _make_way(binder, source)


def _make_way(binder: "Binder", source: Any) -> None:
    asked = {key.lower(): value for key, value in source.options.items()}
    version, timestamp = asked.get("versionasof"), asked.get("timestampasof")
    if (version is None and timestamp is None) or source.format != "delta":
        return
    if binder.is_absolute or binder.world.spools is None:
        return  # nothing is read yet, or another Spark reads it
    for location in source.paths:
        if not locations.is_local(location):
            require_thread()
        tree = binder.catalog.storages.tree(location, shown=binder.needs.names.get(location, "the table"))
        make_way(tree, int(version) if version is not None and version.isdecimal() else -1)


def make_way(tree: FileTree, version: int) -> bool:
    """Have all of a table's log listed, where there is a checkpoint of a later version; tells whether there is one."""
    newest = _newest_checkpoint(tree)
    if newest is None or newest <= version:
        return False
    with suppress(NotFound):  # somebody was faster
        tree.remove_file(_HINT)
    return True


def _newest_checkpoint(tree: FileTree) -> int | None:
    try:
        hint = json.loads(b"".join(tree.read(_HINT, start=0, length=_MOST_BYTES)))
        return int(hint["version"])
    except (NotFound, ValueError, KeyError, TypeError):
        return None
