"""Writes the models that `bench_serving.py` serves: `serving_models.py DIRECTORY`.

Each is a folder with an MLflow model (`mlflow`), the bare model for peers (`model.joblib`), and 100 rows (`rows.json`).
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import mlflow
import numpy as np
import pandas as pd
from mlflow.models import infer_signature
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

ROWS = 4000
_SLOW = Path(__file__).with_name("serving_peers") / "slow.py"


def main() -> None:
    """All models."""
    target = Path(sys.argv[1]).resolve()
    target.mkdir(parents=True, exist_ok=True)
    os.chdir(target)
    chance = np.random.default_rng(1)
    numbers = pd.DataFrame(chance.normal(size=(ROWS, 20)), columns=[f"f{number}" for number in range(20)])
    wanted = numbers.f0 * 2 + numbers.f1 * numbers.f2
    booster = lightgbm.train({"num_threads": 1, "verbose": -1}, lightgbm.Dataset(numbers, wanted), 100)
    _save(target / "lightgbm", mlflow.lightgbm, booster, numbers)
    forest = RandomForestClassifier(500, max_depth=12, random_state=1).fit(numbers, wanted > 0)
    _save(target / "forest", mlflow.sklearn, forest, numbers, serialization_format="cloudpickle")
    people = _people(chance)
    left = (people.tenure < 20) & (people.contract == "month")
    _save(
        target / "pipeline", mlflow.sklearn, _pipeline().fit(people, left), people, serialization_format="cloudpickle"
    )
    _save_rows(target / "slow", numbers)
    mlflow.pyfunc.save_model(
        target / "slow" / "mlflow",
        python_model=str(_SLOW),
        signature=infer_signature(numbers),
        pip_requirements=["mlflow"],
    )


def _people(chance: Any) -> pd.DataFrame:
    return pd.DataFrame({
        "tenure": chance.integers(0, 70, ROWS),
        "monthly": chance.uniform(10, 100, ROWS),
        "total": chance.uniform(10, 1000, ROWS),
        "contract": chance.choice(["month", "year", "two years"], ROWS),
        "payment": chance.choice(["card", "cash", "transfer", "check"], ROWS),
        "internet": chance.choice(["none", "fiber", "dsl"], ROWS),
    })  # fmt: skip


def _pipeline() -> Any:
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    prepare = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["contract", "payment", "internet"]),
        (numbers, ["tenure", "monthly", "total"]),
    )
    return make_pipeline(prepare, LogisticRegression())


def _save(place: Path, flavor: Any, model: Any, rows: pd.DataFrame, **options: Any) -> None:
    _save_rows(place, rows)
    joblib.dump(model, place / "model.joblib")
    signature = infer_signature(rows, model.predict(rows))
    flavor.save_model(
        model, place / "mlflow", signature=signature, input_example=rows.head(3), pip_requirements=["mlflow"], **options
    )


def _save_rows(place: Path, rows: pd.DataFrame) -> None:
    place.mkdir()
    (place / "rows.json").write_text(json.dumps(rows.head(100).to_dict("split", index=False)))


if __name__ == "__main__":
    main()
