"""Where a table is online: its online tables, how far each has come, and what went wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from millpond.catalog.domain import ObjectName
from millpond.identity.domain import Principal
from millpond.kernel.clock import epoch_ms, utc_now
from millpond.kernel.errors import MillpondError
from millpond.online.delta_log import News
from millpond.online.service import Seen
from millpond.online.tables import State
from millpond.ui.elements import Cell, DataTable, Tab, TableColumn, Tone, el, empty_state, notice, skeleton
from millpond.ui.services import Services
from millpond.ui.visit import Outcome, Visit, filling, later

TAB = "online"
_MOST = 100
STATE_TONES: dict[State, Tone] = {State.ONLINE: "good", State.PENDING: "info", State.FAILED: "bad"}
_COLUMNS = (
    TableColumn(label="Online table", grow=True),
    TableColumn(label="State"),
    TableColumn(label="Version", numeric=True),
    TableColumn(label="Behind"),
    TableColumn(label="Published", optional=True),
)


@dataclass(frozen=True, kw_only=True)
class _Online:
    seen: Seen
    news: News | None
    """None when the source's log cannot be read."""


def online_tab(visit: Visit) -> Tab:
    """The tab itself."""
    return Tab(key=TAB, label="Online", href=visit.link(tab=TAB, q=None, page=None))


def draw_online(visit: Visit, name: ObjectName) -> None:
    """The tab's contents, which come when logs are read."""
    place = el("div")
    with place:
        skeleton(3)
    later(visit, lambda who: _load(visit.services, who, name), filling(place, lambda outcome: _fill(name, outcome)))


def _load(services: Services, who: Principal, name: ObjectName) -> Sequence[_Online]:
    found = services.online.list_tables(who, source=name, max_results=_MOST).items
    return [_Online(seen=seen, news=news_of(services, seen)) for seen in found]


def news_of(services: Services, seen: Seen) -> News | None:
    """What its source has that is not online; None when the source's log cannot be read."""
    try:
        return services.online.news(seen)
    except (MillpondError, OSError):
        return None


def _fill(name: ObjectName, outcome: Outcome[Sequence[_Online]]) -> None:
    if outcome.value is None:
        notice(outcome.error, "bad", role="alert")
    elif not outcome.value:
        _draw_none(name)
    else:
        for each in outcome.value:
            if each.seen.table.error:
                notice(f"{each.seen.table.name}: {each.seen.table.error}", "bad", role="alert")
        DataTable(label="Online tables", columns=_COLUMNS, rows=[_row(each) for each in outcome.value])


def _draw_none(name: ObjectName) -> None:
    empty_state(
        "This table is not online",
        "Published into an online store, its newest rows are found by key within microseconds. It needs a primary key.",
        symbol="bolt",
        code=(
            "from millpond.features import FeatureEngineeringClient\n\n"
            "fe = FeatureEngineeringClient()\n"
            'store = fe.create_online_store(name="prod", capacity="CU_1")\n'
            f'fe.publish_table(\n    online_store=store,\n    source_table_name="{name}",\n'
            f'    online_table_name="{name}_online",\n    publish_mode="CONTINUOUS",\n)'
        ),
    )


def _row(online: _Online) -> list[Cell | str]:
    table = online.seen.table
    return [
        Cell(text=table.name, code=True, note=f"{table.mode.value.lower()}, in {table.store} ({table.kind.value})"),
        Cell(badges=((table.state.value.lower(), STATE_TONES[table.state]),)),
        "" if table.version is None else str(table.version),
        behind_text(online.news),
        "" if table.published_at is None else Cell(time_ms=epoch_ms(table.published_at)),
    ]


def behind_text(news: News | None) -> str:
    """How many versions are not online, and for how long, in words."""
    if news is None:
        return "unknown"
    if news.since is None:
        return "current"
    return f"{news.behind:,} version{'s' if news.behind > 1 else ''}, {_age_text(news.since)}"


def _age_text(since: datetime) -> str:
    seconds = max(0.0, (utc_now() - since).total_seconds())
    scales = ((86_400, "days"), (3600, "hours"), (60, "minutes"))
    size, word = next(((size, word) for size, word in scales if seconds >= 2 * size), (1, "seconds"))
    return f"{seconds / size:.0f} {word}"
