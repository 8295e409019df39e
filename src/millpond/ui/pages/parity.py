"""A parity check: what was compared, the verdict, and where the two paths differ."""

import json
from collections.abc import Mapping
from typing import Any

from millpond.kernel.clock import epoch_ms
from millpond.parity.domain import State
from millpond.parity.service import Seen
from millpond.ui import urls
from millpond.ui.elements import (
    Cell,
    Crumb,
    DataTable,
    Rows,
    TableColumn,
    badge,
    card,
    el,
    facts,
    notice,
    page_header,
    when,
)
from millpond.ui.pages.model_record import TAB
from millpond.ui.parity import TONES
from millpond.ui.visit import Page, Visit

_SOURCES = (
    TableColumn(label="Feature table", grow=True),
    TableColumn(label="Online table", grow=True),
    TableColumn(label="Compared at", numeric=True),
    TableColumn(label="Not online yet"),
)
_FEATURES = (
    TableColumn(label="Feature", grow=True),
    TableColumn(label="Compared", numeric=True),
    TableColumn(label="Same", numeric=True),
    TableColumn(label="Missing online", numeric=True),
    TableColumn(label="Missing offline", numeric=True),
    TableColumn(label="Superseded", numeric=True, optional=True),
    TableColumn(label="Largest difference", numeric=True),
)
_MISMATCHES = (
    TableColumn(label="Feature"),
    TableColumn(label="Key", grow=True),
    TableColumn(label="Offline"),
    TableColumn(label="Online"),
)


def _load(visit: Visit) -> Seen:
    return visit.services.parity.get(visit.principal, visit.path["check_id"])


def _title(_visit: Visit, seen: Seen) -> str:
    return f"Parity of {_subject(seen)}"


def _subject(seen: Seen) -> str:
    check = seen.check
    return check.subject if check.version is None else f"{check.subject}, version {check.version}"


def _draw(visit: Visit, seen: Seen) -> None:
    check = seen.check
    crumbs = [Crumb(label="Models", href=urls.MODELS)]
    if check.version is not None:
        crumbs.append(Crumb(label=check.subject, href=f"{urls.model_url(check.subject)}?tab={TAB}"))
    page_header(_title(visit, seen), symbol="compare_arrows", crumbs=crumbs, kind="parity check")
    with el("div", cls="mp-stack"):
        _draw_verdict(seen)
        if check.report.get("problem"):
            notice(check.report["problem"], "bad", role="alert")
        elif check.state in (State.PASSED, State.FAILED):
            _draw_report(seen, check.report)


def _draw_verdict(seen: Seen) -> None:
    check, asked, report = seen.check, seen.check.asked, seen.check.report
    with card("Verdict"), el("div", cls="mp-stack"):
        with el("div", cls="mp-row"):
            badge(check.state.value, TONES.get(check.state, "info"))
            el("span", check.message or "Keys are being replayed; load the page again to see what came of it.")
        facts(
            [
                (
                    "Replayed",
                    f"{report['rows']} rows: {report['keys']}" if "rows" in report else None,
                ),
                ("Tolerance", _tolerance(asked)),
                ("May differ", f"{asked['max_mismatches']} values"),
                ("With the rights of", check.requester),
            ]
        )
        when(epoch_ms(check.ended_at or check.created_at))


def _tolerance(asked: Mapping[str, Any]) -> str:
    named = ", ".join(f"{name} {value:g}" for name, value in asked["tolerances"].items())
    overall = f"{asked['tolerance']:g}" if asked["tolerance"] else "none: values are the same or they are not"
    return f"{overall}; {named}" if named else overall


def _draw_report(seen: Seen, report: Mapping[str, Any]) -> None:
    with card("Feature tables"):
        DataTable(label="Feature tables", columns=_SOURCES, rows=[_source(each) for each in report["sources"]])
    with card("Features"):
        DataTable(label="Features", columns=_FEATURES, rows=[_feature(each) for each in report["features"]])
    rows = [row for feature in report["features"] for row in _mismatches(feature)]
    if rows:
        with card("Where they differ"):
            DataTable(label="Mismatches", columns=_MISMATCHES, rows=rows)
    if not seen.has_values:
        notice("Keys and values are shown to those who may read all of these tables.")


def _source(source: Mapping[str, Any]) -> list[Cell | str]:
    count = source["versions_behind"]
    behind = f"{count} versions, {source['lag_s']:.0f} s" if count else "nothing"
    store = f"in {source['store']} ({source['store_kind']})"
    return [source["table"], Cell(text=source["online_table"], note=store), f"version {source['version']}", behind]


def _feature(feature: Mapping[str, Any]) -> list[Cell | str]:
    far = feature["largest_difference"]
    counts = [str(feature[key]) for key in ("compared", "equal", "missing_online", "missing_offline", "superseded")]
    note = f"{feature['offline']} against {feature['online']}"
    return [Cell(text=feature["name"], note=note), *counts, "" if far is None else f"{far:.6g}"]


def _mismatches(feature: Mapping[str, Any]) -> Rows:
    return [
        [
            feature["name"],
            Cell(text=", ".join(f"{name} = {_shown(value)}" for name, value in each["key"].items())),
            Cell(text=_shown(each["offline"]), code=True, note=each["types"] or None),
            Cell(text=_shown(each["online"]), code=True),
        ]
        for each in feature["mismatches"]
    ]


def _shown(value: Any) -> str:
    return "NULL" if value is None else json.dumps(value, ensure_ascii=False)


PAGES = (Page(path="/parity/{check_id}", section="models", load=_load, draw=_draw, title=_title),)
