"""What features are like in one version of their table, beside another version: figures, histograms, frequent values.

All of it is read through the gateway as whoever looks, and comes when the page is there already.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from millpond.catalog.domain import Table
from millpond.engine.reader import Commit
from millpond.feature_tables.queries import Kind
from millpond.feature_tables.statistics import SAMPLE_ROWS, Distribution, Statistics, Summary
from millpond.identity.domain import Principal
from millpond.ui.bars import draw_bars
from millpond.ui.elements import (
    Cell,
    DataTable,
    Rows,
    SelectField,
    TableColumn,
    card,
    el,
    notice,
    skeleton,
)
from millpond.ui.formats import metric_text
from millpond.ui.forms import labelled
from millpond.ui.visit import Outcome, Visit, filling, later

_COLUMNS = (
    TableColumn(label="Feature", grow=True),
    TableColumn(label="Nulls", numeric=True),
    TableColumn(label="Distinct", numeric=True),
    TableColumn(label="Mean", numeric=True),
    TableColumn(label="Least", optional=True),
    TableColumn(label="Median", numeric=True, optional=True),
    TableColumn(label="Greatest", optional=True),
)
_LONGEST = 40


@dataclass(frozen=True, kw_only=True)
class _Looked:
    """What one version is like, and another beside it."""

    commits: Sequence[Commit]
    now: Statistics
    before: Statistics | None
    spread: Distribution | None = None


def draw_statistics(visit: Visit, table: Table, columns: Sequence[str]) -> None:
    """The figures of some features."""
    _draw_later(visit, table, columns, with_spread=False)


def draw_distribution(visit: Visit, table: Table, column: str) -> None:
    """The figures of one feature, and how its values are spread."""
    _draw_later(visit, table, [column], with_spread=True)


def _draw_later(visit: Visit, table: Table, columns: Sequence[str], *, with_spread: bool) -> None:
    with card("Statistics"):
        place = el("div", cls="mp-stack")
        with place:
            skeleton(4)

    def load(who: Principal) -> _Looked:
        return _look(visit, who, table, columns, with_spread=with_spread)

    later(visit, load, filling(place, lambda outcome: _fill(visit, outcome)))


def _look(visit: Visit, who: Principal, table: Table, columns: Sequence[str], *, with_spread: bool) -> _Looked:
    statistics = visit.services.feature_tables.statistics
    version, before = _asked(visit, "version"), _asked(visit, "before")
    now = statistics.summarise(who, table.name, columns, version=version)
    earlier = None if before is None else statistics.summarise(who, table.name, columns, version=before)
    shown = [each.version for each in (now, earlier) if each is not None and each.summaries]
    return _Looked(
        commits=statistics.versions(who, table.name),
        now=now,
        before=earlier,
        spread=statistics.distribution(who, table.name, columns[0], versions=shown) if with_spread and shown else None,
    )


def _asked(visit: Visit, name: str) -> int | None:
    text = visit.query.get(name, "")
    return int(text) if text.isdecimal() and len(text) < 19 else None


def _fill(visit: Visit, outcome: Outcome[_Looked]) -> None:
    looked = outcome.value
    if looked is None:
        notice(outcome.error, "bad", role="alert")
        return
    _draw_choice(visit, looked)
    el("p", _rows_text(looked), cls="mp-note")
    if looked.spread is not None:
        draw_bars(looked.spread)
        _draw_figures(looked)
    elif looked.now.summaries or (looked.before and looked.before.summaries):
        DataTable(label="Statistics", columns=_COLUMNS, rows=_rows(looked))


def _draw_choice(visit: Visit, looked: _Looked) -> None:
    """Which version is shown, beside which other."""
    choices = [(str(each.version), _version_text(each)) for each in looked.commits]
    known = {version for version, _ in choices}
    given = [str(each.version) for each in (looked.now, looked.before) if each]
    choices += [(each, f"Version {each}") for each in given if each not in known]
    with el("form", cls="mp-row mp-form", method="get", aria_label="Choose versions"):
        for name in ("tab", "feature", "q", "page", "unused"):
            if visit.query.get(name):
                el("input", type="hidden", name=name, value=visit.query[name])
        with labelled("Version"):
            SelectField(label="Version", choices=choices, value=str(looked.now.version), name="version")
        with labelled("Compared with"):
            before = str(looked.before.version) if looked.before else ""
            SelectField(label="Compared with", choices=[("", "No other"), *choices], value=before, name="before")
        el("button", "Show", cls="mp-button", type="submit")


def _version_text(commit: Commit) -> str:
    return f"Version {commit.version} · {commit.operation.lower()}" if commit.operation else f"Version {commit.version}"


def _rows_text(looked: _Looked) -> str:
    told = []
    for each in filter(None, (looked.now, looked.before)):
        what = f"the first {SAMPLE_ROWS:,} rows that were read" if each.is_sample else f"all {each.rows:,} rows"
        told.append(f"version {each.version}: {what}")
    return "As you may see them, of " + "; ".join(told) + "."


def _rows(looked: _Looked) -> Rows:
    before = looked.before.summaries if looked.before else {}
    names = dict.fromkeys([*looked.now.summaries, *before])
    return [_row(name, looked, looked.now.summaries.get(name), before.get(name)) for name in names]


def _row(name: str, looked: _Looked, now: Summary | None, before: Summary | None) -> list[Cell | str]:
    """Figures, each with that of the other version below it where there is one."""
    texts = _texts(now, looked.now) if now else [""] * (len(_COLUMNS) - 1)
    others = _texts(before, looked.before) if before and looked.before else [""] * len(texts)
    absent = f"not in version {looked.now.version}" if now is None else None
    if looked.before and before is None:
        absent = f"not in version {looked.before.version}"
    return [
        Cell(text=name, code=True, note=absent),
        *(Cell(text=text, note=other or None) for text, other in zip(texts, others, strict=True)),
    ]


def _texts(summary: Summary, of: Statistics) -> list[str]:
    """As `_COLUMNS` shows them."""
    told = _figures(summary, of)
    median = metric_text(summary.quartiles[1]) if summary.quartiles else ""
    return [told["Nulls"], told["Distinct"], told["Mean"], told["Least"], median, told["Greatest"]]


def _draw_figures(looked: _Looked) -> None:
    """All figures of the one feature, a column for each version."""
    told = [
        (each, _figures(summary, each))
        for each in (looked.now, looked.before)
        if each is not None
        for summary in each.summaries.values()
    ]
    names = dict.fromkeys(name for _, figures in told for name, text in figures.items() if text)
    columns = [TableColumn(label=f"Version {each.version}", numeric=True) for each, _ in told]
    rows: Rows = [[name, *(figures[name] for _, figures in told)] for name in names]
    DataTable(label="Statistics", columns=[TableColumn(label="Figure", grow=True), *columns], rows=rows)


def _figures(summary: Summary, of: Statistics) -> dict[str, str]:
    """What is known, in words; what its kind of column lacks is empty."""
    return {
        "Nulls": f"{100 * summary.nulls / of.rows:.3g} %" if of.rows else "",
        "NaN or infinite": f"{summary.not_finite:,}" if summary.not_finite else "",
        "Distinct": "" if summary.distinct is None else f"{summary.distinct:,}",
        "Mean": _figure(summary.mean),
        "Standard deviation": _figure(summary.stddev),
        "Least": _end(summary, summary.minimum),
        "Quartiles": " · ".join(map(metric_text, summary.quartiles)),
        "Greatest": _end(summary, summary.maximum),
    }


def _figure(value: float | None) -> str:
    return "" if value is None or value != value else metric_text(value)


def _end(summary: Summary, text: str | None) -> str:
    """The least or greatest value: a number with few digits, another cut where it is long."""
    if text is None:
        return ""
    if summary.kind is Kind.NUMBER:
        return metric_text(float(text))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
