"""How a run was made: its code, environment, seeds and inputs as captured; and whether it comes out the same again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from millpond.jobs.domain import JOB_RUN_TAG
from millpond.kernel.errors import NotFound
from millpond.reproduction.captures import Shown
from millpond.reproduction.domain import Capture
from millpond.reproduction.service import reproduction_json
from millpond.sdk import REPRODUCES_TAG
from millpond.ui import urls
from millpond.ui.elements import (
    Cell,
    Crumb,
    DataTable,
    Facts,
    Rows,
    Tab,
    TableColumn,
    Tone,
    badge,
    button,
    button_link,
    card,
    code_block,
    el,
    empty_state,
    facts,
    notice,
    page_header,
    tabs,
    when,
)
from millpond.ui.forms import reloading
from millpond.ui.tracking import Run
from millpond.ui.visit import Page, Visit

_TONES: Mapping[str, Tone] = {
    "bit-identical": "good",
    "within tolerance": "good",
    "different": "bad",
    "missing": "warn",
    "failed": "bad",
    "not reproducible": "warn",
}
_MOST_TEXT = 200_000
_WHAT = (
    "This builds the run's environment, runs its code again with your rights, and compares what comes out. The code "
    "can read what you may read, and writes runs only."
)


@dataclass(frozen=True, kw_only=True)
class _Data:
    run: Run
    experiment: str
    shown: Shown
    attempts: Sequence[Mapping[str, Any]]
    diff: str
    lock: str


def _load(visit: Visit) -> _Data:
    room, who, run_id = visit.services.reproduction, visit.principal, visit.path["run_id"]
    run = visit.services.tracking.get_run(who, run_id)
    tab = visit.query.get("tab", "")
    return _Data(
        run=run,
        experiment=visit.services.tracking.get_experiment(who, run.experiment_id).name,
        shown=room.captures.of_run(who, run_id),
        attempts=[reproduction_json(each) for each in room.service.of_run(who, run_id)],
        diff=_text(visit, run_id, "code.diff") if tab == "" else "",
        lock=_text(visit, run_id, "requirements.lock") if tab == "environment" else "",
    )


def _text(visit: Visit, run_id: str, name: str) -> str:
    try:
        return visit.services.reproduction.captures.text(visit.principal, run_id, name)[:_MOST_TEXT]
    except NotFound:  # a run without a capture, or a commit without changes
        return ""


def _draw(visit: Visit, data: _Data) -> None:
    run = data.run
    crumbs = [
        Crumb(label="Experiments", href=urls.EXPERIMENTS),
        Crumb(label=data.experiment, href=urls.experiment_url(run.experiment_id)),
    ]
    actions = page_header(run.name, symbol="science", crumbs=crumbs, kind="run")
    with actions:
        button_link("Open in MLflow", urls.mlflow_run_url(run.experiment_id, run.id), symbol="open_in_new")
        made_by = run.tags.get(JOB_RUN_TAG, "")
        if made_by.isascii() and made_by.isdecimal():
            button_link("Run of the job", urls.job_run_url(int(made_by)), symbol="schema")
        if data.shown.capture is not None:
            done = visit.link(tab="reproductions")
            button("Reproduce", reloading(visit, _reproducing(visit, run.id), then=done), symbol="replay", title=_WHAT)
    items = [
        Tab(key="", label="Code and inputs", href=visit.link(tab=None)),
        Tab(key="environment", label="Environment", href=visit.link(tab="environment")),
        Tab(key="reproductions", label="Reproductions", href=visit.link(tab="reproductions"), count=len(data.attempts)),
    ]
    tabs(items, visit.query.get("tab", ""), label="Run")
    if visit.query.get("tab") == "reproductions":
        _draw_attempts(data)
    elif data.shown.capture is None:
        empty_state("Nothing was captured", " ".join(data.shown.missing), symbol="help_outline")
    elif visit.query.get("tab") == "environment":
        _draw_environment(data.shown.capture, data.lock)
    else:
        _draw_code(visit, data, data.shown.capture)


def _reproducing(visit: Visit, run_id: str) -> Any:
    return lambda principal: visit.services.reproduction.service.begin(principal, run_id)


# -- code and inputs ----------------------------------------------------------------------------------------------


def _draw_code(visit: Visit, data: _Data, capture: Capture) -> None:
    with el("div", cls="mp-stack"):
        _draw_latest(visit, data)
        with card("Code"), el("div", cls="mp-stack"):
            facts(_code_facts(data.run, capture))
            if data.diff:
                code_block(data.diff, title="What was changed since the commit")
        with card("Inputs"):
            _draw_inputs(data.shown, capture)
        if data.shown.lacks:
            with card("Not captured"), el("ul"):
                for each in data.shown.lacks:
                    el("li", each)


def _draw_latest(visit: Visit, data: _Data) -> None:
    original = data.run.tags.get(REPRODUCES_TAG)
    if original:
        notice(f"This run reproduces run {original}.")
    latest = next(iter(data.attempts), None)
    if latest is None:
        return
    with card("Reproduced"), el("div", cls="mp-row"):
        badge(latest["outcome"] or latest["state"], _TONES.get(latest["outcome"], "info"))
        el("span", f"for {latest['requester']}")
        when(latest["created_at"])
        button_link("Verdict", visit.link(tab="reproductions"), kind="mp-quiet", symbol="fact_check")


def _code_facts(run: Run, capture: Capture) -> Facts:
    code, git = capture.code, capture.code["git"]
    words = " ".join(code["argv"])
    found: list[tuple[str, Cell | str | None]] = [
        ("Ran", Cell(text=f"{code['entry'] or code['kind']} {words}".strip(), code=True)),
        ("As", code["kind"]),
        ("In", Cell(text=f"{code['root']}", note=None, code=True)),
    ]
    if git:
        changed: tuple[tuple[str, Tone], ...] = (
            ((f"{len(git['changed'])} files changed", "warn"),) if git["changed"] else (("clean", "good"),)
        )
        found += [
            ("Commit", Cell(text=git["commit"], code=True, badges=changed)),
            ("Branch", git["branch"]),
            ("Remote", git["remote"]),
        ]
    found += [("Files captured", f"{len(capture.start['files'])}"), ("Logged by", run.user)]
    return found


def _draw_inputs(shown: Shown, capture: Capture) -> None:
    rows = [*_table_rows(shown), *_file_rows(capture)]
    if not rows:
        el("p", "Neither tables nor files were seen to be read.", cls="mp-muted")
        return
    columns = (TableColumn(label="What"), TableColumn(label="Which"), TableColumn(label="Now", grow=True))
    DataTable(label="Inputs", columns=columns, rows=rows)


def _table_rows(shown: Shown) -> list[Sequence[Cell | str]]:
    return [
        [
            Cell(text=each.name, symbol="table_chart"),
            f"version {each.version}",
            Cell(text=each.problem or each.note),
        ]
        for each in shown.tables
    ]


def _file_rows(capture: Capture) -> list[Sequence[Cell | str]]:
    return [
        [
            Cell(text=path, symbol="description"),
            Cell(text=f"sha256 {each['sha256'] or 'not computed'}", code=True),
            f"{each['size']:,} bytes",
        ]
        for path, each in capture.inputs.items()
    ]


# -- the environment ----------------------------------------------------------------------------------------------


def _draw_environment(capture: Capture, lock: str) -> None:
    start = capture.start
    machine, seeds = start["platform"], start["seeds"]
    with el("div", cls="mp-stack"):
        with card("Machine"):
            facts(
                [
                    ("Python", f"{start['python']['implementation']} {capture.python}"),
                    ("System", f"{machine['system']} {machine['release']}, {machine['libc']}"),
                    ("Processor", f"{machine['processor']} ({machine['machine']})"),
                    ("Threads", ", ".join(f"{name} {count}" for name, count in start["threads"].items())),
                ]
            )
        with card("Seeds"):
            facts([(name, Cell(text=str(value), code=True)) for name, value in seeds.items() if value is not None])
            el("p", "Of a generator without a seed that can be read: the digest of its state.", cls="mp-muted")
        if start["variables"]:
            with card("Variables"):
                facts([(name, Cell(text=value, code=True)) for name, value in start["variables"].items()])
        code_block(lock, title=f"requirements.lock: {len(start['packages'])} packages")


# -- reproductions ------------------------------------------------------------------------------------------------


def _draw_attempts(data: _Data) -> None:
    if not data.attempts:
        empty_state(
            "Not reproduced yet", "Use the button, or a shell:", symbol="replay",
            code=f"millpond reproduce {data.run.id}", code_title="Shell",
        )  # fmt: skip
    with el("div", cls="mp-stack"):
        for attempt in data.attempts:
            _draw_attempt(data.run, attempt)


def _draw_attempt(run: Run, attempt: Mapping[str, Any]) -> None:
    verdict = attempt["verdict"]
    with card():
        with el("div", cls="mp-row"):
            badge(attempt["outcome"] or attempt["state"], _TONES.get(attempt["outcome"], "info"))
            el("span", f"for {attempt['requester']}, by the {attempt['place']}")
            when(attempt["created_at"])
            if attempt["new_run_id"]:
                button_link("The new run", urls.run_url(attempt["new_run_id"]), kind="mp-quiet", symbol="science")
        rows = _finding_rows(verdict)
        if rows:
            columns = (
                TableColumn(label="What"), TableColumn(label="Name"), TableColumn(label="Outcome"),
                TableColumn(label="Found", grow=True),
            )  # fmt: skip
            DataTable(label=f"Verdict on {run.name}", columns=columns, rows=rows)
        for title, key in (("Not captured or not restored", "missing"), ("Otherwise than it was", "notes")):
            if verdict.get(key):
                with el("div", cls="mp-stack").style("margin-top: 16px"):
                    el("h3", title)
                with el("ul"):
                    for each in verdict[key]:
                        el("li", str(each))
        if verdict.get("log"):
            code_block(str(verdict["log"]), title="What the code printed last")


def _finding_rows(verdict: Mapping[str, Any]) -> Rows:
    return [
        [
            kind.removesuffix("s"),
            Cell(text=str(each["name"])),
            Cell(badges=((str(each["outcome"]), _TONES.get(str(each["outcome"]), "plain")),)),
            Cell(text=str(each["message"])),
        ]
        for kind in ("metrics", "params", "artifacts", "inputs")
        for each in (verdict.get(kind) or ())[:100]
    ]


PAGES = (
    Page(
        path="/runs/{run_id}",
        section="experiments",
        load=_load,
        draw=_draw,
        title=lambda _visit, data: data.run.name,
    ),
)
