"""Finding runs and model versions among 100,000 runs and 10,000 versions, through us against `mlflow server`.

Both databases are of the same kind, with the same rows, written beside the servers. `RUNS=... VERSIONS=...` makes it
smaller (2,000 versions at least); `DATABASES=SQLite` and `KINDS=alias,"of a run"` (parts of names) choose what is
measured.
"""

import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import sqlalchemy
from mlflow import MlflowClient
from playwright.sync_api import Browser, Page, sync_playwright
from tests.browser.conftest import CHROMIUM, FLAGS
from tests.postgres import fresh_database, postgres_server

from bench.peers import Peer, millpond, mlflow_server
from bench.replays import kept, replayed
from bench.report import heading, median, row

RUNS = int(os.environ.get("RUNS", 100_000))
VERSIONS = int(os.environ.get("VERSIONS", 10_000))
DATABASES = os.environ.get("DATABASES", "SQLite,PostgreSQL").split(",")
KINDS = os.environ.get("KINDS", "").split(",")
VERSIONS_OF_A_MODEL = 20
EXPERIMENTS = 10
CALLS = 15
PAINTS = 5
ENOUGH_S = 30
"""After so long three calls are enough."""
AT_ONCE = 20_000
STATISTICS_S = 75
"""In this time PostgreSQL by itself, and our server for SQLite, take note that tables have grown."""
STARTED_MS = 1_700_000_000_000


def main() -> None:
    """Every measurement on both servers in turn, on SQLite and on PostgreSQL."""
    if "SQLite" in DATABASES:
        with tempfile.TemporaryDirectory() as directory:
            _against("SQLite", Path(directory), None, None)
    if "PostgreSQL" in DATABASES:
        _on_postgresql()


def _on_postgresql() -> None:
    with (
        postgres_server() as server,
        fresh_database(server) as our_url,
        fresh_database(server) as their_url,
        tempfile.TemporaryDirectory() as directory,
    ):
        _against("PostgreSQL", Path(directory), our_url, their_url)


def _against(kind: str, directory: Path, our_url: str | None, their_url: str | None) -> None:
    flags = ["--database-url", our_url] if our_url else []
    with millpond(directory / "data", *flags) as ours, mlflow_server(directory, their_url) as theirs:
        sides = (
            Side(ours, our_url or f"sqlite:///{directory}/data/millpond.db"),
            Side(theirs, their_url or f"sqlite:///{directory}/mlflow.db"),
        )
        for side in sides:
            side.fill()
        time.sleep(STATISTICS_S)
        heading(
            f"{RUNS:,} runs, {VERSIONS:,} model versions on {kind} against `mlflow server` (medians of up to {CALLS})"
        )
        for name, act in CASES.items():
            if _is_chosen(name):
                _compare(name, sides, act)
        if _is_chosen(PAINT):
            row(PAINT, *_paints(sides), "ms", goal="goal <= 1")


def _is_chosen(name: str) -> bool:
    return any(kind in name for kind in KINDS)


def _compare(name: str, sides: "tuple[Side, Side]", act: Callable[["Side", int], Any]) -> None:
    (ours_ms, peer_ms), own_ms = _in_turn(sides, act, CALLS), median(sides[0].own_ms)
    row(name, ours_ms, peer_ms, "ms", goal="goal <= 1, search <= 0.2")
    row("  with a server that took no time", own_ms, peer_ms, "ms", goal="the least a client can wait")
    ours, peer = replayed([side.calls for side in sides], [side.pids for side in sides], ENOUGH_S)
    row("  the server alone, the least", ours.least_ms, peer.least_ms, "ms", goal="goal <= 1, search <= 0.2")
    row("  CPU of server and database", ours.cpu_ms, peer.cpu_ms, "ms")


class Side:
    """One of the two servers, its database and a client."""

    def __init__(self, peer: Peer, database_url: str) -> None:
        self.peer = peer
        self.sign_in()
        self.client = MlflowClient(peer.url)
        self.own_ms: list[float] = []
        """What the last calls took of the client's own time: to make entities of an answer takes most of it."""
        self.calls: list[list[Any]] = []
        """The requests of the last calls."""
        self.database = sqlalchemy.create_engine(database_url)
        self.pids = [peer.pid, *_postmaster(self.database)]
        self.experiments = [self.client.create_experiment(f"bench-{number}") for number in range(EXPERIMENTS)]

    def sign_in(self) -> None:
        """From now on MLflow's client shows this server's token."""
        os.environ["MLFLOW_TRACKING_TOKEN"] = self.peer.token

    @property
    def pages(self) -> str:
        """Where MLflow's pages are."""
        return f"{self.peer.url}/ml" if self.peer.token else self.peer.url

    def opened(self, browser: Browser) -> Page:
        """A page in a browser that is let in, by a cookie: a browser that is told to send headers caches less."""
        context = browser.new_context()
        if self.peer.token:
            form, origin = {"token": self.peer.token}, {"Origin": self.peer.url}
            answer = context.request.post(f"{self.peer.url}/sign-in", form=form, headers=origin, max_redirects=0)
            assert answer.status == 303, answer.text()
        return context.new_page()

    def fill(self) -> None:
        """The same rows on both sides: runs with five metrics, params and tags, models with twenty versions each."""
        self.sign_in()
        models = [f"model-{number:04}" for number in range(VERSIONS // VERSIONS_OF_A_MODEL)]
        for name in models:
            self.client.create_registered_model(name)
        tables = sqlalchemy.MetaData()
        tables.reflect(self.database)
        with self.database.begin() as connection:
            for table, rows in (*_rows_of_runs(self.experiments), *_rows_of_versions(models)):
                connection.execute(sqlalchemy.insert(tables.tables[table]), rows)

    def timed(self, act: Callable[["Side", int], Any], number: int) -> float:
        """Milliseconds."""
        self.sign_in()
        with kept() as sent:
            began = time.perf_counter()
            act(self, number)
            elapsed_ms = (time.perf_counter() - began) * 1000
        self.own_ms.append(elapsed_ms - sum(sent.waits_ms))
        self.calls.append(sent.requests)
        return elapsed_ms


def _postmaster(database: sqlalchemy.Engine) -> list[int]:
    if database.dialect.name == "sqlite":
        return []
    with database.connect() as connection:
        home = Path(connection.exec_driver_sql("SHOW data_directory").scalar_one())
    return [int((home / "postmaster.pid").read_text().split()[0])]


def _rows_of_runs(experiments: Sequence[str]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    for start in range(0, RUNS, AT_ONCE):
        made = [_Run(number, experiments[number % EXPERIMENTS]) for number in range(start, min(start + AT_ONCE, RUNS))]
        yield "runs", [run.row() for run in made]
        for table in ("metrics", "latest_metrics"):
            yield table, [metric for run in made for metric in run.metrics()]
        yield "params", [param for run in made for param in run.params()]
        yield "tags", [tag for run in made for tag in run.tags()]


@dataclass(frozen=True)
class _Run:
    number: int
    experiment_id: str

    @property
    def id(self) -> str:
        return f"{self.number:032x}"

    def row(self) -> dict[str, Any]:
        started = STARTED_MS + self.number * 1000
        return {
            "run_uuid": self.id, "name": f"run-{self.number}", "source_type": "UNKNOWN", "source_name": "",
            "entry_point_name": "", "user_id": "bench", "status": "FINISHED", "start_time": started,
            "end_time": started + 500, "source_version": "", "lifecycle_stage": "active",
            "artifact_uri": f"mlflow-artifacts:/{self.experiment_id}/{self.id}/artifacts",
            "experiment_id": int(self.experiment_id),
        }  # fmt: skip

    def metrics(self) -> list[dict[str, Any]]:
        values = random.Random(self.number)
        return [
            {"run_uuid": self.id, "key": f"m{index}", "value": values.random(), "timestamp": STARTED_MS, "step": 0,
             "is_nan": False}
            for index in range(5)
        ]  # fmt: skip

    def params(self) -> list[dict[str, Any]]:
        return [
            {"run_uuid": self.id, "key": f"p{index}", "value": str(self.number % (7 + index))} for index in range(5)
        ]

    def tags(self) -> list[dict[str, Any]]:
        tags = {"mlflow.user": "bench", "mlflow.runName": f"run-{self.number}", "team": f"team-{self.number % 50}"}
        return [{"run_uuid": self.id, "key": key, "value": value} for key, value in tags.items()]


def _rows_of_versions(models: Sequence[str]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    versions = [(name, number) for name in models for number in range(1, VERSIONS_OF_A_MODEL + 1)]
    yield "model_versions", [_version_row(index, *version) for index, version in enumerate(versions)]
    yield (
        "model_version_tags",
        [{"name": name, "version": number, "key": "quality", "value": f"q{number % 4}"} for name, number in versions],
    )
    yield (
        "registered_model_aliases",
        [{"name": name, "alias": "production", "version": VERSIONS_OF_A_MODEL // 2} for name in models],
    )


def _version_row(index: int, name: str, number: int) -> dict[str, Any]:
    made = STARTED_MS + number
    return {
        "name": name, "version": number, "creation_time": made, "last_updated_time": made, "description": "",
        "user_id": "bench", "current_stage": "None", "source": f"mlflow-artifacts:/1/{number}/model",
        "run_id": f"{index:032x}", "status": "READY",
    }  # fmt: skip


def _newest_runs(side: Side, _number: int) -> None:
    assert len(side.client.search_runs(side.experiments[:1], max_results=100)) == 100


def _best_runs(side: Side, number: int) -> None:
    query = f"metrics.m1 > 0.{5 + number % 4} and params.p0 = '3'"
    assert side.client.search_runs(side.experiments[:1], query, order_by=["metrics.m2 DESC"], max_results=100)


def _runs_of_a_team(side: Side, number: int) -> None:
    query = f"tags.team = 'team-{number % 50}'"
    assert side.client.search_runs(side.experiments, query, order_by=["metrics.m0 ASC"], max_results=100)


def _best_of_experiment(side: Side, number: int) -> None:
    assert side.client.search_runs(side.experiments[:1], order_by=[f"metrics.m{number % 5} DESC"], max_results=100)


def _thousand_runs(side: Side, _number: int) -> None:
    assert side.client.search_runs(side.experiments, max_results=1000)


def _versions_of_a_model(side: Side, number: int) -> None:
    assert side.client.search_model_versions(f"name = 'model-{number % 100:04}'")


def _newest_versions(side: Side, _number: int) -> None:
    assert side.client.search_model_versions(order_by=["last_updated_timestamp DESC"], max_results=100)


def _versions_by_tag(side: Side, number: int) -> None:
    assert side.client.search_model_versions(f"tag.quality = 'q{number % 4}'", max_results=100)


def _version_of_a_run(side: Side, number: int) -> None:
    assert side.client.search_model_versions(f"run_id = '{number:032x}'")


def _models(side: Side, _number: int) -> None:
    assert side.client.search_registered_models(max_results=100)


def _alias(side: Side, number: int) -> None:
    assert side.client.get_model_version_by_alias(f"model-{number % 100:04}", "production")


PAINT = "the run table's first paint (Chromium)"
CASES = {
    "search_runs, newest 100 of an experiment": _newest_runs,
    "search_runs, by metric and param, best 100": _best_runs,
    "search_runs, by tag in all, best 100": _runs_of_a_team,
    "search_runs, best 100 of an experiment": _best_of_experiment,
    "search_runs, newest 1,000 of all": _thousand_runs,
    "search_model_versions of a model": _versions_of_a_model,
    "search_model_versions, newest 100": _newest_versions,
    "search_model_versions by tag, 100": _versions_by_tag,
    "search_model_versions of a run": _version_of_a_run,
    "search_registered_models, first 100": _models,
    "get_model_version_by_alias": _alias,
}


def _in_turn(sides: Sequence[Side], act: Callable[[Side, int], Any], calls: int) -> list[float]:
    times: list[list[float]] = [[] for _ in sides]
    for side in sides:
        side.own_ms.clear()
        side.calls.clear()
    began = time.perf_counter()
    for number in range(calls + 2):
        for side, elapsed_ms in zip(sides, times, strict=True):
            elapsed = side.timed(act, number)
            if number >= 2:
                elapsed_ms.append(elapsed)
        if number >= 4 and time.perf_counter() - began > ENOUGH_S:
            break
    return [median(elapsed_ms) for elapsed_ms in times]


def _paints(sides: Sequence[Side]) -> list[float]:
    """Milliseconds from opening an experiment's page to the newest run's row in its table, in a warm browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        pages = {side: side.opened(browser) for side in sides}
        try:
            return _in_turn(sides, lambda side, number: _paint(side, pages[side], number), PAINTS)
        finally:
            browser.close()


def _paint(side: Side, page: Page, number: int) -> None:
    experiment = number % EXPERIMENTS
    page.goto(f"{side.pages}/static-files/favicon.ico")  # of the same site, so that the browser keeps its process
    page.goto(f"{side.pages}/#/experiments/{side.experiments[experiment]}/runs")
    page.get_by_text(f"run-{RUNS - EXPERIMENTS + experiment}", exact=True).first.wait_for()


if __name__ == "__main__":
    main()
