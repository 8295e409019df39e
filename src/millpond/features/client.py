"""`FeatureEngineeringClient`: feature tables, training sets, and models that know their features.

Source of names, arguments and behaviour: Databricks' public reference of `databricks.feature_engineering`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from millpond.features import frames, models, specs
from millpond.features.carrying_out import Carrier, certificate
from millpond.features.certificate import Certificate
from millpond.features.connection import Connection
from millpond.features.declared import Feature, renamed
from millpond.features.declared_features import DeclaredFeatures
from millpond.features.endpoints import FeatureServingEndpoints
from millpond.features.lookups import FeatureFunction, FeatureLookup, Names, names_of
from millpond.features.online import OnlineStores
from millpond.features.parity import ParityChecks
from millpond.features.planning import Plan, Wanted, make_plan
from millpond.features.spark_certificate import spark_certificate
from millpond.features.spec import FeatureSpec
from millpond.features.tables import FeatureTable
from millpond.features.training_set import Prove, TrainingSet

_MEMORY_LIMIT_BYTES = 1 << 30
_ROWS_DESCRIBED = 1000


class FeatureEngineeringClient(DeclaredFeatures, OnlineStores, FeatureServingEndpoints, ParityChecks):
    """The feature store for one user, found through the environment that `millpond env` prints."""

    def __init__(self, *, model_registry_uri: str | None = None, memory_limit_bytes: int = _MEMORY_LIMIT_BYTES) -> None:
        """`memory_limit_bytes`: how much of a feature table is held in memory before a join goes by way of the disk."""
        super().__init__(Connection())
        self._carrier = Carrier(self._connection, memory_limit_bytes=memory_limit_bytes)
        if model_registry_uri is not None:
            import mlflow

            mlflow.set_registry_uri(model_registry_uri)

    # -- training -----------------------------------------------------------------------------------------------

    def create_training_set(
        self,
        *,
        df: Any,
        feature_lookups: Sequence[Wanted] | None = None,
        label: Names = None,
        exclude_columns: Names = None,
        feature_spec: str | None = None,
        features: Sequence[Wanted] | None = None,
    ) -> TrainingSet:
        """The rows of `df` with their features, each as of its own time.

        `feature_spec` is the name of one that `create_feature_spec` made, instead of lookups. Raises ValueError.
        """
        given = [each for each in (feature_lookups, features, feature_spec) if each is not None]
        if len(given) != 1:
            raise ValueError("Give either feature_lookups or feature_spec.")
        spec = specs.load(self._connection, feature_spec) if feature_spec is not None else None
        wanted = spec.wanted if spec else tuple(feature_lookups if feature_lookups is not None else features or ())
        excluded = (*names_of(exclude_columns), *(spec.excluded if spec else ()))
        wanted, tables = self._resolved(wanted)
        columns, labels = frames.columns_of(df), names_of(label)
        plan = make_plan(wanted, tables, self._parameters(wanted), columns, labels=labels, excluded=excluded)
        made = FeatureSpec(
            wanted=wanted,
            features=plan.features,
            labels=labels,
            excluded=excluded,
            versions={name: self._connection.version(name) for name in tables},
        )
        return TrainingSet(spec=made, plan=plan, load=lambda: self._load(df, plan, made))

    def _load(self, df: Any, plan: Plan, spec: FeatureSpec) -> tuple[Any, Prove]:
        run_id = _active_run()
        if frames.kind_of(df) is frames.Kind.SPARK:
            found = frames.select(self._carrier.plan_in_spark(df, plan, spec.versions), plan.columns)
            return found, lambda: self._prove(df, plan, spec, run_id)
        df = frames.eager(df)
        with self._connection.on_behalf_of(run_id):
            made = self._carrier.carry_out(df, plan, spec.versions)
        found = frames.select(made.frame, plan.columns)
        proof = certificate(frames.height(df), found, made.lookups)
        return found, lambda: proof

    def _prove(self, df: Any, plan: Plan, spec: FeatureSpec, run_id: str | None) -> Certificate:
        with self._connection.on_behalf_of(run_id):
            return spark_certificate(self._carrier, df, plan, spec.versions, zone=self._connection.zone)

    def create_feature_spec(
        self, *, name: str, features: Sequence[Wanted], exclude_columns: Names = None
    ) -> FeatureSpec:
        """Keep lookups and functions under a name of the catalog, for training sets and for serving."""
        wanted, _ = self._resolved(features)
        self._parameters(wanted)
        made = FeatureSpec(wanted=wanted, excluded=names_of(exclude_columns))
        specs.save(self._connection, name, made)
        return made

    def delete_feature_spec(self, *, name: str) -> None:
        """Remove what `create_feature_spec` made."""
        specs.load(self._connection, name)
        specs.delete(self._connection, name)

    # -- models -------------------------------------------------------------------------------------------------

    def log_model(
        self,
        *,
        model: Any,
        artifact_path: str | None = None,
        flavor: Any,
        training_set: TrainingSet | None = None,
        registered_model_name: str | None = None,
        await_registration_for: int = 300,
        infer_input_example: bool = False,
        name: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Log a model together with its feature spec; `kwargs` are those of the flavor's own `save_model`.

        Its signature, if not given, is that of the training set. Its run has the training set's certificate, and the
        feature tables as inputs. Returns MLflow's ModelInfo.
        """
        if training_set is None:
            raise ValueError("training_set is missing: it says which features the model is given.")
        if (name or artifact_path) is None:
            raise ValueError("Give the model a name (or artifact_path).")
        if infer_input_example or "signature" not in kwargs:
            kwargs = {**_described(training_set, example=infer_input_example), **kwargs}
        table_ids = {
            table: self._connection.table(table, keyless=True).table_id for table in training_set.feature_spec.tables
        }
        return models.log_model(
            model,
            str(name or artifact_path),
            flavor,
            training_set,
            table_ids,
            registered_model_name=registered_model_name,
            await_registration_for=await_registration_for,
            **kwargs,
        )

    def score_batch(
        self,
        *,
        model_uri: str,
        df: Any,
        result_type: str = "double",
        env_manager: str = "local",
        params: Mapping[str, Any] | None = None,
    ) -> Any:
        """The rows of `df` with their features and a column `prediction`.

        `df` has the lookup keys; a column of the name of a feature stands for that feature. Raises ValueError.
        """
        if env_manager != "local":
            raise NotImplementedError(f"env_manager '{env_manager}' is not implemented; only 'local' is.")
        models.arrow_type(result_type)
        spec = models.spec_of(model_uri)
        plan, versions = self._plan_to_score(df, spec, model_uri)
        return self._scored(df, plan, versions, spec, model_uri, result_type, params)

    def _plan_to_score(self, df: Any, spec: FeatureSpec, model_uri: str) -> tuple[Plan, dict[str, int]]:
        """How features are found for rows, and at which versions of their tables. Raises ValueError."""
        wanted, tables = self._resolved(spec.wanted)
        columns = frames.columns_of(df)
        plan = make_plan(wanted, tables, self._parameters(wanted), columns, overriding=True)
        missing = [name for name in spec.features if name not in plan.features]
        if missing:
            raise ValueError(
                f"df lacks the columns {missing}, which the model {model_uri} is given beside its features."
            )
        return plan, {read.table: self._connection.version(read.table) for read in plan.reads}

    def with_features(self, *, model_uri: str, df: Any) -> tuple[Any, tuple[str, ...]]:
        """The rows of a Spark data frame with the features that a model is given, and the names of all that it is
        given; nothing is done yet. Raises ValueError.
        """
        spec = models.spec_of(model_uri)
        plan, versions = self._plan_to_score(df, spec, model_uri)
        return self._carrier.plan_in_spark(df, plan, versions), tuple(spec.features)

    def _scored(
        self, df: Any, plan: Plan, versions: Mapping[str, int], spec: FeatureSpec, model_uri: str, result_type: str,
        params: Mapping[str, Any] | None,
    ) -> Any:  # fmt: skip
        in_spark = frames.kind_of(df) is frames.Kind.SPARK
        if in_spark:
            found = self._carrier.plan_in_spark(df, plan, versions).toArrow()
        else:
            found = self._carrier.carry_out(df, plan, versions).frame
        given = frames.to_pandas(frames.select(found, spec.features))
        made = models.predictions(model_uri, given, result_type, params).to_frame()
        found = frames.with_columns(found, made, zone="UTC")
        return self._connection.spark.createDataFrame(found) if in_spark else found

    # -- both ---------------------------------------------------------------------------------------------------

    def _resolved(self, wanted: Sequence[Wanted]) -> tuple[tuple[Wanted, ...], dict[str, FeatureTable]]:
        """The same with full names, of tables and functions, and features' names, and the tables."""
        if not wanted:
            raise ValueError("No features are asked for: give a list of FeatureLookup, FeatureFunction and Feature.")
        tables: dict[str, FeatureTable] = {}
        made: list[Wanted] = []
        for each in wanted:
            if isinstance(each, FeatureLookup):
                name = self._connection.full_name(each.table_name)
                tables[name] = tables.get(name) or self._connection.table(name)
                made.append(each.resolved(name, tables[name].features))
            elif isinstance(each, Feature):
                name = self._connection.full_name(each.source.full_name)
                tables[name] = tables.get(name) or self._connection.table(name, keyless=True)
                made.append(renamed(each, table=name))
            else:
                full = self._connection.full_name(each.udf_name)
                made.append(replace(each, udf_name=full, output_name=each.output))
        return tuple(made), tables

    def _parameters(self, wanted: Sequence[Wanted]) -> dict[str, Sequence[str]]:
        functions = {each.udf_name for each in wanted if isinstance(each, FeatureFunction)}
        return {name: self._connection.parameters(name) for name in sorted(functions)}


def _active_run() -> str | None:
    """The id of MLflow's active run, if MLflow is in use at all."""
    import sys

    mlflow = sys.modules.get("mlflow")
    run = mlflow.active_run() if mlflow is not None else None
    return None if run is None else str(run.info.run_id)


def _described(training_set: TrainingSet, *, example: bool) -> dict[str, Any]:
    """A model's signature as the training set has it: features in, labels out; and some rows of features."""
    from mlflow.models import infer_signature

    frame = training_set.load_df()
    rows = frames.to_pandas(frame.limit(_ROWS_DESCRIBED) if frames.kind_of(frame) is frames.Kind.SPARK else frame)
    plan = training_set.plan
    given, labels = rows[list(plan.features)], rows[list(plan.labels)]
    signature = infer_signature(given, labels if plan.labels else None)
    return {"signature": signature, **({"input_example": given.head(5)} if example else {})}
