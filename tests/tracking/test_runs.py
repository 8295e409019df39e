"""Runs on plain SQL answer as MLflow's own store does, call by call, on both databases."""

import json
import math
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LifecycleStage,
    LoggedModelOutput,
    Metric,
    Param,
    RunStatus,
    RunTag,
    ViewType,
)
from mlflow.exceptions import MlflowException
from mlflow.utils.proto_json_utils import message_to_json
from sqlalchemy import text

from millpond.tracking.embed import mlflow_database
from millpond.tracking.stores import run_sql, runs
from millpond.tracking.stores.run_records import json_of
from millpond.tracking.stores.tracking import OwnedTrackingStore
from tests.databases import Databases
from tests.servers import wait_until
from tests.tracking.conftest import Asker, person

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:mlflow", "ignore::sqlalchemy.exc.SADeprecationWarning"
)

BIG = 1.7976931348623157e308


def metric(key: str, value: float, timestamp: int = 1, step: int = 0) -> Metric:
    return Metric(key, value, timestamp, step)


def test_a_name_that_is_given_meanwhile_does_not_take_back_the_end(
    tracking_databases: Databases, asker: Asker, tmp_path: Path
) -> None:
    """Each writes what it was given only, so that who waits for the other does not write what it saw before."""
    waiting = text("SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
    with tracking_databases.new("postgresql", tmp_path) as database:
        own = mlflow_database(database)
        store = OwnedTrackingStore(own, asker)
        run_id = store.create_run("0", "ann", 1, [], "first").info.run_id

        def waits() -> bool:
            with database.read() as connection:
                return connection.execute(waiting).first() is not None

        thread = threading.Thread(target=store.update_run_info, args=(run_id, None, None, "renamed"))
        with database.write() as connection:
            run_sql.update_run(connection, run_id, "FINISHED", 77, None)
            thread.start()
            wait_until(waits, what="the one who gives the name to wait")
        thread.join()
        info = store.get_run(run_id).info
        assert (info.status, info.end_time, info.run_name) == ("FINISHED", 77, "renamed")
        own.dispose()


WRITES: dict[str, Callable[[Any, str], Any]] = {
    "one metric": lambda s, r: s.log_metric(r, metric("a", 1.5)),
    "the same metric twice": lambda s, r: [s.log_metric(r, metric("a", 1.5)) for _ in range(2)],
    "an older step after a newer": lambda s, r: [s.log_metric(r, metric("a", v, 9 - v, v)) for v in (3, 1, 2)],
    "ties are broken by time, then value": lambda s, r: [
        s.log_metric(r, m)
        for m in (metric("a", 1, 5, 1), metric("a", 9, 4, 1), metric("a", 2, 5, 1), metric("a", 1.5, 5, 1))
    ],
    "nan and infinities": lambda s, r: [
        s.log_metric(r, metric("a", v, t)) for t, v in enumerate([math.nan, math.inf, -math.inf, math.nan])
    ],
    "nan twice": lambda s, r: [s.log_metric(r, metric("a", math.nan)) for _ in range(2)],
    "a batch with repetitions": lambda s, r: s.log_batch(
        r, [metric("a", 1), metric("a", 1), metric("b", 2, 3, 4), metric("a", 0.5, 2, 2), metric("a", 7, 1, 1)], [], []
    ),
    "a batch that overlaps an earlier one": lambda s, r: [
        s.log_batch(r, [metric("a", i, i, i) for i in range(start, start + 5)], [], []) for start in (0, 3)
    ],
    "all kinds in one batch": lambda s, r: s.log_batch(
        r,
        [metric("a", 1)],
        [Param("p", "1"), Param("q", "ü'\"\\")],
        [RunTag("t", "1"), RunTag("t", "2"), RunTag("u", "")],
    ),
    "an empty batch": lambda s, r: s.log_batch(r, [], [], []),
    "a param twice": lambda s, r: [s.log_param(r, Param("p", "1")) for _ in range(2)],
    "a param that changes": lambda s, r: [s.log_param(r, Param("p", str(value))) for value in (1, 2)],
    "params that change in a batch": lambda s, r: [
        s.log_batch(r, [], [Param("p", value), Param(value, value)], []) for value in ("x", "y")
    ],
    "a param twice in one batch": lambda s, r: s.log_batch(r, [], [Param("p", "1"), Param("p", "2")], []),
    "a tag that changes": lambda s, r: [s.set_tag(r, RunTag("t", value)) for value in ("1", "2")],
    "a name by tag": lambda s, r: s.set_tag(r, RunTag("mlflow.runName", "new name")),
    "a name by tag in a batch": lambda s, r: s.log_batch(r, [], [], [RunTag("mlflow.runName", "batch name")]),
    "an empty name by tag": lambda s, r: s.set_tag(r, RunTag("mlflow.runName", "")),
    "the end of a run": lambda s, r: s.update_run_info(r, RunStatus.FINISHED, 77, None),
    "a new name": lambda s, r: s.update_run_info(r, None, None, "renamed"),
    "a tag that is removed": lambda s, r: [s.set_tag(r, RunTag("t", "1")), s.delete_tag(r, "t")],
    "a deleted run": lambda s, r: [s.delete_run(r), s.log_metric(r, metric("a", 1))],
    "a run restored": lambda s, r: [s.delete_run(r), s.restore_run(r), s.log_metric(r, metric("a", 1))],
    "a metric without a key": lambda s, r: s.log_metric(r, metric("", 1)),
    "a metric that is no number": lambda s, r: s.log_metric(r, metric("a", "one")),  # type: ignore[arg-type]
    "a metric before time began": lambda s, r: s.log_metric(r, metric("a", 1, -1)),
    "a path as a key": lambda s, r: s.log_metric(r, metric("../a", 1)),
    "a param that is too long": lambda s, r: s.log_param(r, Param("p", "x" * 7000)),
    "a tag that is too long": lambda s, r: s.set_tag(r, RunTag("t", "x" * 9000)),
    "a key that is too long": lambda s, r: s.set_tag(r, RunTag("t" * 251, "x")),
    "too many metrics": lambda s, r: s.log_batch(r, [metric(str(i), i) for i in range(1001)], [], []),
    "too many params": lambda s, r: s.log_batch(r, [], [Param(str(i), "1") for i in range(101)], []),
    "a thousand metrics": lambda s, r: s.log_batch(
        r, [metric(f"k{i % 7}", i % 3, i % 5, i % 11) for i in range(1000)], [], []
    ),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_a_write_leaves_what_mlflows_store_leaves(ours: Any, theirs: Any, write: Callable[[Any, str], Any]) -> None:
    outcomes = []
    for store in (ours, theirs):
        experiment_id = ours.create_experiment(f"for {type(store).__name__}")
        run_id = store.create_run(experiment_id, "ann", 1, [RunTag("mlflow.user", "ann")], "a run").info.run_id
        outcomes.append((run_id, failure_of(lambda s=store, r=run_id: write(s, r))))
    (our_run, our_failure), (their_run, their_failure) = outcomes
    assert our_failure == their_failure
    assert state_of(theirs, our_run) == state_of(theirs, their_run)
    assert state_of(ours, our_run) == state_of(theirs, our_run)


def test_random_batches_leave_what_mlflows_store_leaves(ours: Any, theirs: Any) -> None:
    experiment_id = ours.create_experiment("random")
    runs = [
        store.create_run(experiment_id, "ann", 1, [RunTag("mlflow.user", "ann")], "r").info.run_id
        for store in (ours, theirs)
    ]
    dice = random.Random(7)
    for _ in range(30):
        batch = [
            metric(
                dice.choice("abc"),
                dice.choice([0.0, 1.0, -1.0, math.nan, math.inf, 0.1]),
                dice.randrange(3),
                dice.randrange(-1, 3),
            )
            for _ in range(dice.randrange(1, 12))
        ]
        for store, run_id in zip((ours, theirs), runs, strict=True):
            store.log_batch(run_id, batch, [], [])
    assert state_of(theirs, runs[0]) == state_of(theirs, runs[1])


def failure_of(act: Callable[[], Any]) -> tuple[str, str] | None:
    """Code and message of the error, if there is one."""
    try:
        act()
    except MlflowException as error:
        return error.error_code, without_ids(error.message)
    return None


def without_ids(text: str) -> str:
    """The text without what differs from run to run."""
    words = text.replace("'", " ' ").split()
    return " ".join("RUN" if len(word.strip(".")) == 32 and word.strip(".").isalnum() else word for word in words)


_DIFFERENT = frozenset({"run_id", "run_uuid", "experiment_id", "artifact_uri"})


def state_of(store: Any, run_id: str) -> dict[str, Any]:
    """All that a store says of a run, apart from its id."""
    run = store.get_run(run_id)
    info = {key: str(value) for key, value in dict(run.info).items() if key not in _DIFFERENT}
    histories = {
        key: sorted((str(m.value), m.timestamp, m.step) for m in store.get_metric_history(run_id, key))
        for key in run.data.metrics
    }
    return {
        "info": info,
        "metrics": sorted((m.key, str(m.value), m.timestamp, m.step) for m in run.data._metric_objs),
        "params": run.data.params,
        "tags": run.data.tags,
        "histories": histories,
    }  # fmt: skip


@pytest.fixture
def many(ours: Any) -> str:
    """An experiment with runs of all kinds."""
    experiment_id = ours.create_experiment("many")
    for number in range(12):
        run_id = ours.create_run(
            experiment_id, "ann", number, [RunTag("team", "ab"[number % 2])], f"run {number}"
        ).info.run_id
        ours.log_batch(
            run_id,
            [metric("auc", number % 5 / 10), *([metric("loss", math.nan)] if number % 3 == 0 else [])],
            [Param("depth", str(number))],
            [],
        )
        if number % 4 == 0:
            ours.delete_run(run_id)
        if number == 5:
            dataset = Dataset("customers", "d1", "delta_table", '{"path": "x"}', '{"s": 1}', None)
            ours.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
            model = ours.create_logged_model(experiment_id, name="m", source_run_id=run_id)
            ours.log_outputs(run_id, [LoggedModelOutput(model.model_id, 3)])
    return experiment_id


SEARCHES: dict[str, dict[str, Any]] = {
    "all": {},
    "first page": {"max_results": 3},
    "by metric": {"filter_string": "metrics.auc > 0.15"},
    "by two": {"filter_string": "metrics.auc >= 0.1 and params.depth != '7' and tags.team = 'a'"},
    "by equal values": {"filter_string": "params.depth = '7' and tags.team = 'b' and attributes.run_name = 'run 7'"},
    "by a value that no index has": {"filter_string": f"tags.team = '{'b' * 301}'"},
    "by the dataset twice": {"filter_string": "dataset.name = 'customers' and dataset.context = 'training'"},
    "by name": {"filter_string": "attributes.run_name LIKE 'run 1%'"},
    "by dataset": {"filter_string": "dataset.name = 'customers'"},
    "by status": {"filter_string": "attributes.status = 'RUNNING' and attributes.start_time > 3"},
    "by id": {"filter_string": "attributes.run_id IN ('x', 'y')"},
    "ordered by metric": {"order_by": ["metrics.auc DESC", "attributes.start_time ASC"]},
    "ordered by a metric that some lack": {"order_by": ["metrics.loss ASC"], "max_results": 5},
    "ordered by param and tag": {"order_by": ["params.depth DESC", "tags.team ASC"]},
    "deleted": {"run_view_type": ViewType.DELETED_ONLY},
    "deleted too": {"run_view_type": ViewType.ALL},
    "a wrong filter": {"filter_string": "metrics.auc >"},
    "a wrong order": {"order_by": ["auc UP"]},
    "too many": {"max_results": 50_001},
    "a wrong token": {"page_token": "nonsense"},
}


@pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES.keys())
def test_a_search_finds_what_mlflows_store_finds(ours: Any, theirs: Any, many: str, search: dict[str, Any]) -> None:
    assert pages(ours, many, search) == pages(theirs, many, search)


KEYS = ("m", "n")
VALUES = (None, math.nan, -1.5, 0.0, 0.0, 0.25, 0.5, BIG)  # None: not logged


@pytest.fixture
def ties(ours: Any) -> list[str]:
    """Two experiments whose runs often have the same value, or NaN, or none."""
    dice = random.Random(11)
    experiments = [ours.create_experiment(name) for name in ("ties", "more ties")]
    for number in range(48):
        run_id = ours.create_run(dice.choice(experiments), "ann", dice.randrange(4), [], f"run {number}").info.run_id
        logged = [(key, value) for key in KEYS if (value := dice.choice(VALUES)) is not None]
        params = [Param("p", dice.choice("ab"))] if dice.random() < 0.7 else []
        ours.log_batch(run_id, [metric(key, value) for key, value in logged], params, [])
        if dice.random() < 0.1:
            ours.delete_run(run_id)
    return experiments


def test_random_searches_find_what_mlflows_store_finds(
    ours: Any, theirs: Any, ties: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In order, page by page, also where the best are looked for among few."""
    monkeypatch.setattr(runs, "_LOOKED_AT", 2)
    dice = random.Random(5)
    orders = [
        f"{what} {way}" for what in ("metrics.m", "metrics.n", "params.p", "start_time") for way in ("ASC", "DESC")
    ]
    filters = ("", "", "metrics.n >= 0", "params.p = 'a'", "params.p != 'a' and metrics.m < 0.5")
    for _ in range(40):
        columns = dice.sample(orders, dice.randrange(1, 4))
        search = {
            "order_by": list({column.split()[0]: column for column in columns}.values()),
            "filter_string": dice.choice(filters),
            "max_results": dice.choice([1, 3, 20, 60]),
            "run_view_type": dice.choice([ViewType.ACTIVE_ONLY, ViewType.ALL]),
        }
        asked = dice.sample(ties, dice.randrange(1, 3))
        assert ids(ours, asked, search) == ids(theirs, asked, search), search


def test_the_best_runs_of_somebody_else_are_not_found(
    ours: Any, ties: list[str], asker: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "_LOOKED_AT", 2)
    best: dict[str, Any] = {
        "order_by": ["metrics.m DESC"], "filter_string": "", "max_results": 3, "run_view_type": ViewType.ALL
    }  # fmt: skip
    assert len(ids(ours, ties, best)[0]) == 3
    asker.principal = person("bob")
    assert ids(ours, ties, best) == [[]]


def ids(store: Any, experiment_ids: list[str], search: dict[str, Any]) -> list[list[str]]:
    """The ids of the runs on the first pages of a search."""
    found: list[list[str]] = []
    token = None
    while len(found) < 4 and (token or not found):
        page = store.search_runs(experiment_ids, **search, page_token=token)
        found.append([run.info.run_id for run in page])
        token = page.token
    return found


def pages(store: Any, experiment_id: str, search: dict[str, Any]) -> Any:
    """Everything that a search answers, page by page."""
    asked = {"filter_string": "", "run_view_type": ViewType.ACTIVE_ONLY, "max_results": 100} | search
    found: list[Any] = []
    try:
        while True:
            page = store.search_runs([experiment_id], **asked)
            found.append([json.loads(message_to_json(run.to_proto())) for run in page])
            asked["page_token"] = page.token
            if not page.token:
                return [[ordered(run) for run in page] for page in found]
    except MlflowException as error:
        return error.error_code, error.message


def ordered(run: dict[str, Any]) -> dict[str, Any]:
    """A run's JSON with its lists in a fixed order: MLflow's has none."""
    data = {name: sorted(items, key=lambda item: item["key"]) for name, items in run["data"].items()}
    return run | {"data": data}


def test_the_json_is_mlflows(ours: Any, theirs: Any, many: str) -> None:
    found = theirs.search_runs([many], "", ViewType.ALL, 100)
    assert len(found) == 12
    for run in found:
        theirs_json = json.loads(message_to_json(theirs.get_run(run.info.run_id).to_proto()))
        ours_json = json.loads(json.dumps(json_of(ours.run_record(run.info.run_id))))
        assert ordered(ours_json) == ordered(theirs_json)


def test_a_created_run_is_the_one_that_is_stored(ours: Any, theirs: Any) -> None:
    experiment_id = ours.create_experiment("e")
    created = ours.create_run(experiment_id, "", 5, [RunTag("a", "b")], "")
    stored = theirs.get_run(created.info.run_id)
    assert dict(created.info) == dict(stored.info)
    assert created.data.tags == stored.data.tags
    assert stored.info.lifecycle_stage == LifecycleStage.ACTIVE


@pytest.mark.parametrize(
    ("name", "tag"), [("a", "b"), ("a", "a"), ("", "t"), ("n", None)], ids=["differ", "same", "tag", "argument"]
)
def test_run_names_come_from_argument_or_tag(ours: Any, theirs: Any, name: str, tag: str | None) -> None:
    experiment_id = ours.create_experiment("e")
    tags = [RunTag("mlflow.runName", tag)] if tag is not None else []

    def outcome(store: Any) -> Any:
        try:
            return store.create_run(experiment_id, "ann", 1, list(tags), name).info.run_name
        except MlflowException as error:
            return error.error_code, error.message

    assert outcome(ours) == outcome(theirs)


def test_experiments_are_read_as_mlflows_store_reads_them(ours: Any, theirs: Any) -> None:
    experiment_id = ours.create_experiment("it's a name %_", tags=[RunTag("a", "b")])
    ours.delete_experiment(ours.create_experiment("gone"))
    for name in ("it's a name %_", "gone", "Default", "nothing"):
        found, expected = (store.get_experiment_by_name(name) for store in (ours, theirs))
        assert (found and dict(found)) == (expected and dict(expected))
    for asked in (experiment_id, "0", "", "777", "x"):
        outcomes = [failure_of(lambda s=store, a=asked: s.get_experiment(a)) for store in (ours, theirs)]
        assert outcomes[0] == outcomes[1]
    assert dict(ours.get_experiment(experiment_id)) == dict(theirs.get_experiment(experiment_id))


@pytest.mark.parametrize("experiment_id", ["12345", "x", "-1"])
def test_a_run_needs_its_experiment(ours: Any, theirs: Any, experiment_id: str) -> None:
    assert failure_of(lambda: ours.create_run(experiment_id, "", 1, [], "")) == failure_of(
        lambda: theirs.create_run(experiment_id, "", 1, [], "")
    )


def test_concurrent_writers_lose_nothing(ours: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    run_id = ours.create_run(ours.create_experiment("e"), "", 1, [], "").info.run_id

    def log(worker: int) -> None:
        for step in range(20):
            ours.log_batch(run_id, [metric("a", worker, step, step), metric(f"b{worker}", step, step, step)], [], [])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(log, range(8)))
    assert len(ours.get_metric_history(run_id, "a")) == 160
    run = ours.get_run(run_id)
    assert run.data.metrics["a"] == 7  # the last step, and of equal steps the greatest value
    assert [run.data.metrics[f"b{worker}"] for worker in range(8)] == [19] * 8
