"""Models and their feature specs: logged together, found together. A model of any flavor stays one of its flavor."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from millpond.features import certificate
from millpond.features.spec import FILE, FeatureSpec, read_spec
from millpond.features.training_set import TrainingSet

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


class _WithSpec:
    """A flavor that also saves the feature spec, in the same directory and so in the same upload."""

    def __init__(self, flavor: Any, model: Any, spec: FeatureSpec) -> None:
        self._flavor, self._model, self._spec = flavor, model, spec
        self.__name__ = flavor.__name__

    def save_model(self, *, path: str, mlflow_model: Any, **kwargs: Any) -> None:
        first = next(iter(inspect.signature(self._flavor.save_model).parameters))
        model = {"python_model": self._model} if first == "path" else {first: self._model}
        self._flavor.save_model(path=path, mlflow_model=mlflow_model, **model, **kwargs)
        (Path(path) / FILE).write_text(self._spec.to_yaml(), encoding="utf-8")


def log_model(
    model: Any, artifact_path: str, flavor: Any, training_set: TrainingSet, table_ids: Mapping[str, str],
    **kwargs: Any,
) -> Any:  # fmt: skip
    """Log a model with its spec; what it was trained on is in its run first.

    Returns MLflow's ModelInfo.
    """
    from mlflow.models import Model

    with _run() as run_id:
        _log_origin(run_id, training_set, table_ids)
        shim = _WithSpec(flavor, model, training_set.feature_spec)
        return Model.log(None, shim, name=artifact_path, **kwargs)


def spec_of(model_uri: str) -> FeatureSpec:
    """The feature spec of a logged model. Raises ValueError when it has none."""
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    try:
        path = get_artifact_repository(model_uri).download_artifacts(FILE)
    except (MlflowException, OSError) as error:
        raise ValueError(
            f"The model {model_uri} has no {FILE}, or cannot be read: log it with log_model of the feature store. "
            f"({error})"
        ) from error
    return read_spec(Path(path).read_text(encoding="utf-8"))


def predictions(model_uri: str, features: Any, result_type: str, params: Mapping[str, Any] | None) -> "pl.Series":
    """What a model predicts for a pandas frame, as a column `prediction` of a type."""
    import mlflow
    import numpy as np
    import polars as pl
    import pyarrow as pa

    wanted = arrow_type(result_type)
    found = mlflow.pyfunc.load_model(model_uri).predict(features, params=dict(params) if params else None)
    values = np.asarray(found)
    if values.ndim == 2 and values.shape[1] == 1 and not pa.types.is_list(wanted):
        values = values[:, 0]
    if len(values) != len(features):
        raise ValueError(f"The model {model_uri} gave {len(values)} predictions for {len(features)} rows.")
    try:
        column = pa.array(list(values), from_pandas=True)
        made = pl.Series("prediction", pl.from_arrow(column.cast(wanted)))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise ValueError(f"The model's predictions are no {result_type}: {error}. Give another result_type.") from error
    return made


def arrow_type(name: str) -> "pa.DataType":
    """The Arrow type of a Spark SQL type that predictions may have. Raises ValueError."""
    import pyarrow as pa

    types = {
        "double": pa.float64(), "float": pa.float32(), "long": pa.int64(), "bigint": pa.int64(), "int": pa.int32(),
        "integer": pa.int32(), "short": pa.int16(), "string": pa.string(), "boolean": pa.bool_(),
    }  # fmt: skip
    inner = name.strip().lower()
    if inner.startswith("array<") and inner.endswith(">"):
        return pa.list_(arrow_type(inner[6:-1]))
    if inner not in types:
        raise ValueError(f"result_type '{name}' is not known: one of {', '.join(types)}, or array<...> of one.")
    return types[inner]


@contextmanager
def _run() -> Iterator[str]:
    """The active run, or one of its own."""
    import mlflow

    active = mlflow.active_run()
    if active is not None:
        yield str(active.info.run_id)
        return
    with mlflow.start_run() as run:
        yield str(run.info.run_id)


def _log_origin(run_id: str, training_set: TrainingSet, table_ids: Mapping[str, str]) -> None:
    """The certificate, and the feature tables with the columns in use as the run's inputs."""
    from mlflow.entities import DatasetInput, InputTag
    from mlflow.tracking import MlflowClient

    found = training_set.certificate
    client = MlflowClient()
    client.log_dict(run_id, found.to_dict(), certificate.FILE)
    client.set_tag(run_id, "millpond.features.digest", found.digest)
    tags = [InputTag("mlflow.data.context", "features")]
    inputs = [DatasetInput(dataset, tags) for dataset in _datasets(training_set, table_ids)]
    if inputs:
        client.log_inputs(run_id, datasets=inputs)


def _datasets(training_set: TrainingSet, table_ids: Mapping[str, str]) -> Sequence[Any]:
    """Each feature table as MLflow's data set: its version, and which of its columns are in use."""
    from mlflow.data.meta_dataset import MetaDataset

    made = []
    for table, version in training_set.feature_spec.versions.items():
        joins = [join for join in training_set.plan.reads if join.table == table]
        used = tuple(dict.fromkeys(name for join in joins for name in join.table_columns))
        source = _source(table, version, table_ids[table], used)
        made.append(MetaDataset(source, name=table)._to_mlflow_entity())
    return made


def _source(table: str, version: int, table_id: str, columns: Sequence[str]) -> Any:
    """MLflow's source of a Delta table, which says besides what columns of it are used: lineage reads that."""
    from mlflow.data.delta_dataset_source import DeltaDatasetSource

    class FeatureTableSource(DeltaDatasetSource):  # type: ignore[misc]
        def to_dict(self) -> dict[Any, Any]:
            return {**super().to_dict(), "columns": list(columns)}

    return FeatureTableSource(delta_table_name=table, delta_table_version=version, delta_table_id=table_id)
