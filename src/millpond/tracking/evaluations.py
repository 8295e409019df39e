"""Evaluations of logged models: runs in which `mlflow.evaluate` looked at one, with their metrics and data sets.

A run says so by an input of the kind MODEL_INPUT, or by its tag `mlflow.datasets`, in which `mlflow.evaluate` writes
the id of the model beside the data set. Source: MLflow 3.17, `models/evaluation/base.py` (`_log_dataset_tag`).
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, String, bindparam, text

from millpond.identity.access import Securable
from millpond.kernel.clock import from_epoch_ms
from millpond.tracking.domain import run_securable

_NEWEST = 200
_RUNS = text("""
    SELECT r.run_uuid, r.name, r.experiment_id, r.user_id, r.status, r.start_time, r.end_time, o.owner
    FROM runs r
    LEFT JOIN tracking_owners o ON o.kind = 'experiment' AND o.object_id = CAST(r.experiment_id AS VARCHAR(20))
    WHERE r.lifecycle_stage = 'active' AND (
        r.run_uuid IN (SELECT source_id FROM inputs WHERE destination_type = 'MODEL_INPUT'
                       AND destination_id = :model_id AND source_type = 'RUN_INPUT')
        OR r.run_uuid IN (SELECT run_uuid FROM tags WHERE key = 'mlflow.datasets' AND value LIKE :named))
    ORDER BY r.start_time DESC, r.run_uuid LIMIT :newest
""")
_METRICS = text("SELECT run_uuid, key, value, is_nan FROM latest_metrics WHERE run_uuid IN :runs")
_DATASETS = text("""
    SELECT i.destination_id AS run_uuid, d.name, d.digest, d.dataset_source
    FROM inputs i JOIN datasets d ON i.source_id = d.dataset_uuid
    WHERE i.destination_type = 'RUN' AND i.source_type = 'DATASET' AND i.destination_id IN :runs ORDER BY d.name
""")


@dataclass(frozen=True, kw_only=True)
class EvaluationData:
    """A data set that a model was evaluated on."""

    name: str
    digest: str
    table: str = ""
    """Where it is a table's, its three-level name."""
    table_version: int | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A run that evaluated a model."""

    run_id: str
    run_name: str
    experiment_id: str
    maker: str
    """Name of who made the run."""
    status: str
    """As MLflow has it: RUNNING, FINISHED, FAILED, KILLED."""
    at: datetime
    """When it ended, or began where it has not."""
    metrics: Mapping[str, float]
    """The last values; those that are no numbers are left out."""
    datasets: tuple[EvaluationData, ...]
    securable: Securable


def evaluations_of(connection: Connection, model_id: str) -> list[Evaluation]:
    """The newest runs that evaluated a logged model, newest first."""
    asked = {"model_id": model_id, "named": f'%"{model_id}"%', "newest": _NEWEST}
    rows = connection.execute(_RUNS, asked).all()
    metrics, datasets = (_by_run(connection, query, [row.run_uuid for row in rows]) for query in (_METRICS, _DATASETS))
    return [
        Evaluation(
            run_id=row.run_uuid,
            run_name=row.name or row.run_uuid,
            experiment_id=str(row.experiment_id),
            maker=row.user_id or "",
            status=row.status,
            at=from_epoch_ms(row.end_time or row.start_time),
            metrics={each.key: each.value for each in metrics.get(row.run_uuid, ()) if not each.is_nan},
            datasets=tuple(map(_dataset, datasets.get(row.run_uuid, ()))),
            securable=run_securable(row),
        )
        for row in rows
    ]


def _by_run(connection: Connection, query: Any, runs: list[str]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    of_runs: Iterable[Any] = connection.execute(
        query.bindparams(bindparam("runs", expanding=True, type_=String)), {"runs": runs}
    )
    for row in of_runs:
        found.setdefault(row.run_uuid, []).append(row)
    return found


def _dataset(row: Any) -> EvaluationData:
    try:
        told = json.loads(row.dataset_source)
    except (TypeError, ValueError):
        told = {}
    told = told if isinstance(told, dict) else {}
    version = told.get("delta_table_version")
    return EvaluationData(
        name=row.name,
        digest=row.digest,
        table=str(told.get("delta_table_name") or told.get("table_name") or "").replace("`", ""),
        table_version=version if isinstance(version, int) else None,
    )
