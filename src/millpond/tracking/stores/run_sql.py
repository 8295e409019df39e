"""The SQL of the hot paths of runs and experiments, for SQLite and PostgreSQL, on MLflow's tables.

MLflow's own store does the same through ORM entities, which costs five to twenty times the CPU. A test holds the
answers of both against each other.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, text

_OWNED_RUNS = """
    SELECT r.run_uuid, r.name, r.experiment_id, r.user_id, r.status, r.start_time, r.end_time, r.lifecycle_stage,
           r.artifact_uri, o.owner
    FROM runs r
    LEFT JOIN tracking_owners o ON o.kind = 'experiment' AND o.object_id = CAST(r.experiment_id AS VARCHAR(20))
"""
_RUN = text(f"{_OWNED_RUNS} WHERE r.run_uuid = :run_id")
_RUNS = text(f"{_OWNED_RUNS} WHERE r.run_uuid IN :run_ids").bindparams(bindparam("run_ids", expanding=True))
_LISTED = "= ANY(string_to_array(:run_ids, ','))"
"""For PostgreSQL: one text for any number of runs, and one parameter. Ids of runs have no comma."""
_LISTED_RUNS = text(f"{_OWNED_RUNS} WHERE r.run_uuid {_LISTED}")

_EXPERIMENTS = """
    SELECT e.experiment_id, e.name, e.artifact_location, e.lifecycle_stage, e.creation_time, e.last_update_time,
           e.workspace, o.owner
    FROM experiments e
    LEFT JOIN tracking_owners o ON o.kind = 'experiment' AND o.object_id = CAST(e.experiment_id AS VARCHAR(20))
"""
_EXPERIMENT = text(f"{_EXPERIMENTS} WHERE e.experiment_id = :experiment_id")
_EXPERIMENT_BY_NAME = text(f"{_EXPERIMENTS} WHERE e.workspace = 'default' AND e.name = :name")
_EXPERIMENT_TAGS = text("SELECT key, value FROM experiment_tags WHERE experiment_id = :experiment_id")

_INSERT_RUN = text("""
    INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status, start_time,
                      source_version, lifecycle_stage, artifact_uri, experiment_id)
    VALUES (:run_uuid, :name, 'UNKNOWN', '', '', :user_id, 'RUNNING', :start_time, '', 'active', :artifact_uri,
            :experiment_id)
""")

_UPDATE_RUN = text("""
    UPDATE runs
    SET status = COALESCE(:status, status), end_time = COALESCE(:end_time, end_time), name = COALESCE(:name, name)
    WHERE run_uuid = :run_id
""")

_METRIC_COLUMNS = ("run_uuid", "key", "value", "timestamp", "step", "is_nan")
_NEWER = """
    ON CONFLICT (key, run_uuid) DO UPDATE
    SET value = excluded.value, timestamp = excluded.timestamp, step = excluded.step, is_nan = excluded.is_nan
    WHERE (excluded.step, excluded.timestamp, excluded.value)
        > (latest_metrics.step, latest_metrics.timestamp, latest_metrics.value)
"""
_INTO = "INSERT INTO {table} (run_uuid, key, value, timestamp, step, is_nan)"
_SQLITE_ROWS = "VALUES (?, ?, ?, ?, ?, ?)"
_POSTGRES_ROWS = """
    SELECT %(run_id)s, * FROM unnest(%(keys)s::varchar[], %(values)s::float8[], %(timestamps)s::bigint[],
                                     %(steps)s::bigint[], %(nans)s::boolean[])
"""

_UPSERT_TAGS = text("""
    INSERT INTO tags (run_uuid, key, value) VALUES (:run_id, :key, :value)
    ON CONFLICT (key, run_uuid) DO UPDATE SET value = excluded.value
""")
_INSERT_PARAMS = text("""
    INSERT INTO params (run_uuid, key, value) VALUES (:run_id, :key, :value) ON CONFLICT DO NOTHING
""")
_PARAMS = text("SELECT key, value FROM params WHERE run_uuid = :run_id")
_PARAM = text("SELECT value FROM params WHERE run_uuid = :run_id AND key = :key")


_DETAILS = {
    "metrics": "SELECT run_uuid, key, value, timestamp, step, is_nan FROM latest_metrics WHERE run_uuid {these}",
    "params": "SELECT run_uuid, key, value FROM params WHERE run_uuid {these}",
    "tags": "SELECT run_uuid, key, value FROM tags WHERE run_uuid {these}",
    "datasets": """
        SELECT i.destination_id AS run_uuid, d.dataset_uuid, d.name, d.digest, d.dataset_source_type, d.dataset_source,
               d.dataset_schema, d.dataset_profile, t.name AS tag_name, t.value AS tag_value
        FROM inputs i
        JOIN datasets d ON i.source_id = d.dataset_uuid
        LEFT JOIN input_tags t ON t.input_uuid = i.input_uuid
        WHERE i.destination_type = 'RUN' AND i.destination_id {these}
    """,
    "models": """
        SELECT source_id AS run_uuid, source_type, destination_id AS model_id, step
        FROM inputs
        WHERE (source_type = 'RUN_INPUT' AND destination_type = 'MODEL_INPUT'
               OR source_type = 'RUN_OUTPUT' AND destination_type = 'MODEL_OUTPUT')
          AND source_id {these}
    """,
}
_EXPANDED_DETAILS = {
    name: text(query.format(these="IN :run_ids")).bindparams(bindparam("run_ids", expanding=True))
    for name, query in _DETAILS.items()
}
_LISTED_DETAILS = {name: text(query.format(these=_LISTED)) for name, query in _DETAILS.items()}

_RUNS_AT_ONCE = 5000  # SQLite takes 32,766 parameters in one statement

MetricRow = tuple[str, str, float, int, int, bool]
"""run_uuid, key, value, timestamp, step, is_nan."""


def find_run(connection: Connection, run_id: str) -> Any | None:
    """The run's row with its experiment's owner."""
    return connection.execute(_RUN, {"run_id": run_id}).first()


def find_runs(connection: Connection, run_ids: Sequence[str]) -> Sequence[Any]:
    """The rows of those of some runs that are there, in the order of the ids, with their experiments' owners."""
    query = _RUNS if connection.dialect.name == "sqlite" else _LISTED_RUNS
    found = {
        row.run_uuid: row for some in _portions(connection, run_ids) for row in connection.execute(query, some).all()
    }
    return [found[run_id] for run_id in run_ids if run_id in found]


def find_experiment(connection: Connection, experiment_id: int) -> Any | None:
    """The experiment's row with its owner."""
    return connection.execute(_EXPERIMENT, {"experiment_id": experiment_id}).first()


def find_experiment_by_name(connection: Connection, name: str) -> Any | None:
    """The experiment's row with its owner."""
    return connection.execute(_EXPERIMENT_BY_NAME, {"name": name}).first()


def tags_of_experiment(connection: Connection, experiment_id: int) -> Sequence[Any]:
    """Key and value of an experiment's tags."""
    return connection.execute(_EXPERIMENT_TAGS, {"experiment_id": experiment_id}).all()


def insert_run(connection: Connection, values: Mapping[str, Any]) -> None:
    """A new running run."""
    connection.execute(_INSERT_RUN, values)


def update_run(connection: Connection, run_id: str, status: str | None, end_time: int | None, name: str | None) -> None:
    """Set what `runs/update` sets; None leaves it, whoever else sets it at the same time."""
    connection.execute(_UPDATE_RUN, {"run_id": run_id, "status": status, "end_time": end_time, "name": name})


def insert_metrics(connection: Connection, rows: Sequence[MetricRow]) -> None:
    """Add measurements, those already there not twice, and keep the newest of each key in `latest_metrics`."""
    _insert_metric_rows(connection, "metrics", rows, "ON CONFLICT DO NOTHING")
    newest: dict[str, MetricRow] = {}
    for row in rows:
        known = newest.get(row[1])
        if known is None or _age(row) > _age(known):
            newest[row[1]] = row
    # in the order of keys, so that two writers lock rows in the same order
    _insert_metric_rows(connection, "latest_metrics", [newest[key] for key in sorted(newest)], _NEWER)


def _age(row: MetricRow) -> tuple[int, int, float]:
    return (row[4], row[3], row[2])


def _insert_metric_rows(connection: Connection, table: str, rows: Sequence[MetricRow], conflict: str) -> None:
    into = _INTO.format(table=table)
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"{into} {_SQLITE_ROWS} {conflict}", list(rows))
        return
    columns = list(zip(*rows, strict=True))
    connection.exec_driver_sql(
        f"{into} {_POSTGRES_ROWS} {conflict}",
        {
            "run_id": rows[0][0],
            "keys": list(columns[1]),
            "values": list(columns[2]),
            "timestamps": list(columns[3]),
            "steps": list(columns[4]),
            "nans": list(columns[5]),
        },
    )


def upsert_tags(connection: Connection, run_id: str, tags: Mapping[str, str]) -> None:
    """Set tags, in the order of keys."""
    connection.execute(_UPSERT_TAGS, [{"run_id": run_id, "key": key, "value": tags[key]} for key in sorted(tags)])


def insert_params(connection: Connection, run_id: str, params: Mapping[str, str]) -> Mapping[str, str]:
    """Add the params that are new; returns those of `params`' keys that were there with another value."""
    connection.execute(_INSERT_PARAMS, [{"run_id": run_id, "key": key, "value": params[key]} for key in sorted(params)])
    if len(params) == 1:
        ((key, value),) = params.items()
        stored = connection.execute(_PARAM, {"run_id": run_id, "key": key}).scalar_one()
        return {} if stored == value else {key: stored}
    found = connection.execute(_PARAMS, {"run_id": run_id}).all()
    return {key: stored for key, stored in found if key in params and params[key] != stored}


def details_of_runs(connection: Connection, run_ids: Sequence[str]) -> dict[str, Iterable[Any]]:
    """Rows of metrics, params, tags, datasets and models of runs, each starting with `run_uuid`."""
    queries = _EXPANDED_DETAILS if connection.dialect.name == "sqlite" else _LISTED_DETAILS
    found: dict[str, list[Any]] = {name: [] for name in queries}
    for some in _portions(connection, run_ids):
        for name, query in queries.items():
            found[name] += connection.execute(query, some).all()
    return dict(found)


def _portions(connection: Connection, run_ids: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The ids as parameters of as few statements as the database takes."""
    if connection.dialect.name != "sqlite":
        yield {"run_ids": ",".join(run_ids)}
        return
    for start in range(0, len(run_ids), _RUNS_AT_ONCE):
        yield {"run_ids": list(run_ids[start : start + _RUNS_AT_ONCE])}
