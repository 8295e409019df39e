"""What a Delta log says without its rows: the newest version, and when versions were committed."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from millpond.kernel.clock import from_epoch_ms

_MOST = 1000


@dataclass(frozen=True, kw_only=True)
class News:
    """What a log has that was not published."""

    version: int
    """The newest."""
    behind: int
    """How many versions are not published; those of more than a thousand are all as old as the thousandth."""
    since: datetime | None
    """When the oldest of them was committed; None when there is none."""


def news(location: str, options: Mapping[str, str] | None, published: int | None) -> News:
    """What a table's log has after a version."""
    import deltalake  # with Arrow, which the server's start need not wait for

    table = deltalake.DeltaTable(location, storage_options=None if options is None else dict(options))
    version = int(table.version())
    behind = max(0, version - (-1 if published is None else published))
    since = from_epoch_ms(int(table.history(min(behind, _MOST))[-1]["timestamp"])) if behind else None
    return News(version=version, behind=behind, since=since)
