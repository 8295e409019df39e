"""The audit: what happened, newest first, by filters in the address; one entry; and whether the chain is whole."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from millpond.audit.chain import Verdict
from millpond.audit.domain import FIRST_FAILURE, Entry, Filter, Head, Link
from millpond.kernel.clock import epoch_ms
from millpond.kernel.errors import InvalidArgument, NotFound
from millpond.kernel.paging import Page as Listing
from millpond.ui import urls
from millpond.ui.elements import (
    Cell,
    Crumb,
    DataTable,
    Rows,
    SelectField,
    TableColumn,
    Tone,
    button,
    button_link,
    card,
    code_block,
    el,
    empty_state,
    facts,
    notice,
    page_header,
    pager,
    query_field,
)
from millpond.ui.forms import labelled, submit
from millpond.ui.visit import Page, Visit

_PAGE = 50
_RESULTS = (("", "Any"), ("ok", "Succeeded"), ("failed", "Failed or refused"))
_FIELDS = (("who", "Who"), ("action", "Action"), ("object", "Object"))


@dataclass(frozen=True, kw_only=True)
class _Data:
    entries: Listing[Link]
    head: Head


def _load(visit: Visit) -> _Data:
    audit, query = visit.services.audit, visit.query
    wanted = Filter(
        actor=query.get("who") or None,
        action=query.get("action") or None,
        name=query.get("object") or None,
        failed={"ok": False, "failed": True}.get(query.get("result", "")),
        since=_day(query.get("from")),
        until=_day(query.get("to"), days=1),
    )
    page = audit.list_entries(visit.principal, wanted, max_results=_PAGE, page_token=query.get("page"))
    return _Data(entries=page, head=audit.head(visit.principal))


def _day(text: str | None, *, days: int = 0) -> datetime | None:
    """The beginning of a day in UTC, or of one some days later; None where none is asked."""
    if not text:
        return None
    try:
        return datetime.combine(date.fromisoformat(text), time(), UTC) + timedelta(days=days)
    except (ValueError, OverflowError) as error:
        raise InvalidArgument(f"'{text[:20]}' is not a day; write one as 2026-07-31.") from error


def _draw(visit: Visit, data: _Data) -> None:
    page_header("Audit", symbol="history", subtitle="What was done or refused here, by whom, through every door.")
    with el("div", cls="mp-stack"):
        _draw_chain(visit, data.head)
        _draw_filters(visit)
        if data.entries.items:
            _draw_entries(visit, data.entries)
        elif any(visit.query.values()):
            empty_state(
                "Nothing like this happened",
                "Names are compared whole, as they are written in the list. Change a filter, or remove it.",
                symbol="filter_alt_off",
            )
        else:
            empty_state("Nothing happened yet", "Each act appears here within a second.", symbol="history")


def _draw_filters(visit: Visit) -> None:
    query = visit.query
    with el("form", cls="mp-row mp-form mp-filters", method="get", role="search", aria_label="Filter the audit"):
        for name, label in _FIELDS:
            with labelled(label):
                query_field(name, label, query.get(name, ""))
        with labelled("Result"):
            SelectField(label="Result", choices=_RESULTS, value=query.get("result", ""), name="result")
        for name, label in (("from", "From day, UTC"), ("to", "To day, UTC")):
            with labelled(label):
                query_field(name, label, query.get(name, ""), type="date")
        submit("Filter")
        if any(query.values()):
            button_link("Clear", urls.AUDIT)


def _draw_entries(visit: Visit, entries: Listing[Link]) -> None:
    columns = (
        TableColumn(label="Entry", numeric=True),
        TableColumn(label="When"),
        TableColumn(label="Who", short=True),
        TableColumn(label="Action"),
        TableColumn(label="Object", grow=True),
        TableColumn(label="Result"),
    )
    rows: Rows = [_row(visit, link) for link in entries.items]
    with el("div"):
        DataTable(label="Entries", columns=columns, rows=rows)
        pager(
            next_href=entries.next_page_token and visit.link(page=entries.next_page_token),
            first_href=visit.query.get("page") and visit.link(page=None),
        )


def _row(visit: Visit, link: Link) -> list[Cell | str]:
    entry = link.entry
    return [
        Cell(text=str(link.sequence), title="All about it", href=urls.audit_entry_url(link.sequence)),
        Cell(time_ms=epoch_ms(entry.time)),
        _narrowing(visit, "who", entry.actor),
        _narrowing(visit, "action", entry.action, note=entry.service),
        _narrowing(visit, "object", entry.name, note=entry.kind),
        Cell(badges=(_result(entry.status),)),
    ]


def _narrowing(visit: Visit, name: str, value: str, *, note: str = "") -> Cell:
    """A value that leads to the entries that share it."""
    return Cell(text=value, title=value, note=note, href=visit.link(**{name: value, "page": None}) if value else None)


def _result(status: int) -> tuple[str, Tone]:
    return (str(status), "bad" if status >= FIRST_FAILURE else "good")


# The chain


def _draw_chain(visit: Visit, head: Head) -> None:
    with card(), el("div", cls="mp-row"):
        kept = head.sequence - head.anchor_sequence
        el("span", f"{kept:,} entries in the chain" if kept != 1 else "1 entry in the chain")
        if head.anchor_sequence:
            el("span", f"{head.anchor_sequence:,} older ones were removed by retention", cls="mp-note")
        place = el("div", role="status", aria_live="polite").style("flex: 1")

        async def verify() -> None:
            start.props["disabled"] = True
            outcome = await visit.act(visit.services.audit.verify)
            start.props["disabled"] = False
            verdict = outcome.notify_error().value
            if verdict is not None:
                place.clear()
                with place:
                    _draw_verdict(verdict)

        start = button("Verify the chain", verify, symbol="verified_user")


def _draw_verdict(verdict: Verdict) -> None:
    if verdict.broken is not None:
        notice(f"The chain is broken. {verdict.broken.detail}", "bad", role="alert")
        return
    notice(
        f"The chain is whole: {verdict.checked:,} entries up to {verdict.head.sequence:,} are as they were made.",
        "good",
    )


# One entry


def _load_entry(visit: Visit) -> Link:
    number = visit.path["sequence"]
    if not (number.isascii() and number.isdecimal() and len(number) <= 18):
        raise NotFound(f"The audit has no entry '{number[:40]}'.")
    return visit.services.audit.get_entry(visit.principal, int(number))


def _page_of(entry: Entry) -> str | None:
    """The page of what it was done to, where its kind has one by the id."""
    find = {"job": urls.job_url, "job run": urls.job_run_url}.get(entry.kind)
    return find(int(entry.object_id)) if find and entry.object_id.isdecimal() else None


def _draw_entry(_visit: Visit, link: Link) -> None:
    entry = link.entry
    page_header(f"Entry {link.sequence}", symbol="history", crumbs=[Crumb(label="Audit", href=urls.AUDIT)])
    with el("div", cls="mp-stack"):
        with el("div", cls="mp-grid-cards"):
            with card("What happened"):
                facts(
                    [
                        ("When", Cell(text=entry.time.isoformat(sep=" ", timespec="milliseconds"))),
                        ("Action", entry.action),
                        ("Service", entry.service),
                        ("Object", Cell(text=f"{entry.kind} {entry.name}".strip(), href=_page_of(entry))),
                        ("Object id", Cell(text=entry.object_id, code=True) if entry.object_id else None),
                        ("Result", Cell(text=entry.error, badges=(_result(entry.status),))),
                    ]
                )
            with card("Who did it"):
                facts(
                    [
                        ("Who", entry.actor),
                        ("On behalf, called by", entry.caller if entry.caller != entry.actor else None),
                        ("Address", entry.address),
                        ("Client", entry.agent),
                        ("Session", entry.session),
                        ("Request", Cell(text=entry.request, code=True) if entry.request else None),
                    ]
                )
        if entry.params:
            with card("What was asked"):
                facts([(key, Cell(text=value, code=True)) for key, value in sorted(entry.params.items())])
        code_block(f"{link.hash}\nafter {link.previous}", title="In the chain, SHA-256")


PAGES = (
    Page(path="/audit", section="audit", load=_load, draw=_draw, title=lambda _visit, _data: "Audit"),
    Page(
        path="/audit/{sequence}",
        section="audit",
        load=_load_entry,
        draw=_draw_entry,
        title=lambda _visit, link: f"Entry {link.sequence}",
    ),
)
