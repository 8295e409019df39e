"""The distribution that lends our feature store Databricks' names: beside their SDK in either order, and alone."""

import importlib
import subprocess
import sys
from importlib.metadata import version
from itertools import permutations
from pathlib import Path

import pytest

import millpond.features

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
OURS, SDK = str(ROOT / "packages" / "databricks-compat"), f"databricks-sdk=={version('databricks-sdk')}"
NAMES = {
    "databricks.feature_engineering": ["FeatureEngineeringClient", "FeatureLookup", "FeatureFunction"],
    "databricks.feature_engineering.client": ["FeatureEngineeringClient"],
    "databricks.feature_engineering.entities": [
        "DeltaTableSource",
        "Feature",
        "AggregationFunction",
        "Sum",
        "ContinuousWindow",
        "TumblingWindow",
        "OfflineStoreConfig",
    ],
    "databricks.feature_engineering.entities.feature_lookup": ["FeatureLookup"],
    "databricks.feature_engineering.entities.feature_function": ["FeatureFunction"],
    "databricks.feature_engineering.entities.feature_table": ["FeatureTable"],
    "databricks.feature_engineering.entities.feature_serving_endpoint": ["EndpointCoreConfig", "ServedEntity"],
    "databricks.feature_engineering.training_set": ["TrainingSet"],
    "databricks.feature_store": ["FeatureStoreClient", "FeatureLookup", "FeatureFunction"],
    "databricks.feature_store.client": ["FeatureStoreClient"],
    "databricks.feature_store.entities.feature_lookup": ["FeatureLookup"],
}


@pytest.mark.parametrize("module", NAMES)
def test_their_names_are_our_things(module: str) -> None:
    found = importlib.import_module(module)
    for name in NAMES[module]:
        assert getattr(found, name) is getattr(millpond.features, name)


@pytest.mark.parametrize("installed", [*permutations([OURS, SDK]), (OURS,)], ids=["ours first", "SDK first", "alone"])
def test_it_lives_beside_the_sdk(tmp_path: Path, installed: tuple[str, ...]) -> None:
    """Each installation is one of its own, as users' are; both packages are then found in one place."""
    for each in installed:
        command = [str(UV), "pip", "install", "--quiet", "--no-deps", "--python", sys.executable, "--target",
                   str(tmp_path), each]  # fmt: skip
        subprocess.run(command, check=True, timeout=120)
    assert (tmp_path / "databricks" / "__init__.py").exists() == (SDK in installed)
    code = (
        "import importlib.util, databricks.feature_engineering as f, databricks.feature_store\n"
        "print(f.__file__, bool(importlib.util.find_spec('databricks.sdk')))"
    )
    ran = subprocess.run(
        [sys.executable, "-S", "-c", code], env={"PYTHONPATH": f"{tmp_path}:{ROOT / 'src'}"}, check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    place = tmp_path / "databricks" / "feature_engineering" / "__init__.py"
    assert ran.stdout.split() == [str(place), str(SDK in installed)]


def test_importing_it_costs_nothing_heavy() -> None:
    """A notebook that only makes lookups does not wait for MLflow, pandas, Polars, Arrow or PySpark."""
    code = "import sys, millpond.features; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"mlflow", "pandas", "polars", "pyarrow", "pyspark", "numpy", "fastapi", "sqlalchemy"} & set(loaded)
