"""A run as it is read: from rows to MLflow's entity, and straight to MLflow's JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelInput,
    LoggedModelOutput,
    Metric,
    Param,
    Run,
    RunData,
    RunInfo,
    RunInputs,
    RunOutputs,
    RunTag,
)
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME

_NAN = "NaN"
"""As protobuf's JSON has it."""
_DATASET_FIELDS = ("name", "digest", "source_type", "source", "schema", "profile")


@dataclass(kw_only=True)
class RunRecord:
    """One run's rows. `row` has the columns of `run_sql.find_run`."""

    row: Any
    metrics: list[dict[str, Any]] = field(default_factory=list)
    """As MLflow's REST API writes them, like params and tags: there are many, so they are touched once only."""
    params: list[dict[str, str]] = field(default_factory=list)
    tags: list[dict[str, str]] = field(default_factory=list)
    datasets: dict[str, tuple[Mapping[str, str], list[tuple[str, str]]]] = field(default_factory=dict)
    """By id: the dataset's fields, and the input's tags."""
    model_inputs: list[str] = field(default_factory=list)
    model_outputs: list[tuple[str, int]] = field(default_factory=list)

    @property
    def name(self) -> str | None:
        """The run's name, which old runs have only as a tag."""
        return self.row.name or next((tag["value"] for tag in self.tags if tag["key"] == MLFLOW_RUN_NAME), None)


def records_of(rows: Sequence[Any], details: Mapping[str, Any], *, with_model_inputs: bool) -> list[RunRecord]:
    """Records in the order of their rows. A search leaves model inputs out, as MLflow's does."""
    records = {row.run_uuid: RunRecord(row=row) for row in rows}
    for run_id, key, value, timestamp, step, is_nan in details["metrics"]:
        metric = {"key": key, "value": _NAN if is_nan else value, "timestamp": timestamp, "step": step}
        records[run_id].metrics.append(metric)
    for run_id, key, value in details["params"]:
        records[run_id].params.append({"key": key, "value": value})
    for run_id, key, value in details["tags"]:
        records[run_id].tags.append({"key": key, "value": value})
    for row in details["datasets"]:
        _, tags = records[row.run_uuid].datasets.setdefault(row.dataset_uuid, (_dataset_fields(row), []))
        if row.tag_name is not None:
            tags.append((row.tag_name, row.tag_value))
    for row in details["models"]:
        if row.source_type == "RUN_OUTPUT":
            records[row.run_uuid].model_outputs.append((row.model_id, row.step))
        elif with_model_inputs:
            records[row.run_uuid].model_inputs.append(row.model_id)
    return list(records.values())


def _dataset_fields(row: Any) -> dict[str, str]:
    values = (
        row.name,
        row.digest,
        row.dataset_source_type,
        row.dataset_source,
        row.dataset_schema,
        row.dataset_profile,
    )
    return dict(zip(_DATASET_FIELDS, values, strict=True))


def info_of(record: RunRecord) -> RunInfo:
    """MLflow's RunInfo."""
    row = record.row
    return RunInfo(
        run_id=row.run_uuid,
        run_name=record.name,
        experiment_id=str(row.experiment_id),
        user_id=row.user_id,
        status=row.status,
        start_time=row.start_time,
        end_time=row.end_time,
        lifecycle_stage=row.lifecycle_stage,
        artifact_uri=row.artifact_uri,
    )


def entity_of(record: RunRecord) -> Run:
    """MLflow's Run."""
    data = RunData(
        metrics=[Metric(**{**metric, "value": float(metric["value"])}) for metric in record.metrics],
        params=[Param(**param) for param in record.params],
        tags=[RunTag(**tag) for tag in record.tags],
    )
    datasets = [
        DatasetInput(dataset=Dataset(**fields), tags=[InputTag(*tag) for tag in tags])
        for fields, tags in record.datasets.values()
    ]
    models = [LoggedModelInput(model_id) for model_id in record.model_inputs]
    outputs = [LoggedModelOutput(model_id=model_id, step=step) for model_id, step in record.model_outputs]
    inputs = RunInputs(dataset_inputs=datasets, model_inputs=models)
    return Run(info_of(record), data, inputs, RunOutputs(outputs))


def json_of(record: RunRecord) -> dict[str, Any]:
    """The run as MLflow's REST API writes it: what is empty is left out, NaN is a string."""
    return {
        "info": _info_json(record),
        "data": _without_empty({"metrics": record.metrics, "params": record.params, "tags": record.tags}),
        "inputs": _without_empty(
            {
                "dataset_inputs": [_dataset_json(fields, tags) for fields, tags in record.datasets.values()],
                "model_inputs": [{"model_id": model_id} for model_id in record.model_inputs],
            }
        ),
        "outputs": _without_empty(
            {
                "model_outputs": [{"model_id": model_id, "step": step} for model_id, step in record.model_outputs],
            }
        ),
    }


def _info_json(record: RunRecord) -> dict[str, Any]:
    row = record.row
    info = {
        "run_uuid": row.run_uuid,
        "run_id": row.run_uuid,
        "run_name": record.name,
        "experiment_id": str(row.experiment_id),
        "user_id": row.user_id,
        "status": row.status,
        "start_time": row.start_time,
        "end_time": row.end_time,
        "artifact_uri": row.artifact_uri,
        "lifecycle_stage": row.lifecycle_stage,
    }
    return {key: value for key, value in info.items() if value is not None}


def _dataset_json(fields: Mapping[str, str], tags: Sequence[tuple[str, str]]) -> dict[str, Any]:
    dataset = {key: value for key, value in fields.items() if value or key not in {"schema", "profile"}}
    return _without_empty({"tags": [{"key": key, "value": value} for key, value in tags]}) | {"dataset": dataset}


def _without_empty(values: dict[str, list[Any]]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value}
