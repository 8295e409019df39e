"""Writes the models that the serving tests serve: `python make_models.py DIRECTORY`.

In a process of its own, because the tests themselves import neither mlflow nor scikit-learn.
"""

import os
import sys
from pathlib import Path
from typing import Any

import lightgbm
import mlflow
import numpy as np
import pandas as pd
from mlflow.models import infer_signature
from mlflow.types.schema import ParamSchema, ParamSpec
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, PolynomialFeatures, StandardScaler

HERE = Path(__file__).parent / "pyfuncs"
NOTHING_MORE = ["mlflow"]


def churn(directory: Path) -> None:
    """A scikit-learn pipeline with a signature and an example."""
    rows = pd.DataFrame(
        {
            "tenure": [1, 60, 3, 48, 2, 70],
            "monthly_charges": [90.5, 20.0, 80.0, 30.0, 99.0, 25.0],
            "contract": ["month", "year", "month", "year", "month", "year"],
        }
    )
    encode = make_column_transformer((OneHotEncoder(), ["contract"]), remainder="passthrough")
    model = make_pipeline(encode, LogisticRegression()).fit(rows, [1, 0, 1, 0, 1, 0])
    for name, labels in (("churn", {}), ("churn_swapped", {1: 0, 0: 1})):
        if labels:
            model = make_pipeline(encode, LogisticRegression()).fit(rows, [0, 1, 0, 1, 0, 1])
        mlflow.sklearn.save_model(
            model,
            directory / name,
            signature=infer_signature(rows, model.predict(rows)),
            input_example=rows.head(2),
            pip_requirements=["mlflow", "scikit-learn"],
            serialization_format="cloudpickle",
        )


def pyfuncs(directory: Path) -> None:
    """Custom models, each a file of `pyfuncs/`."""
    for source in sorted(HERE.glob("*.py")):
        mlflow.pyfunc.save_model(
            directory / source.stem,
            python_model=str(source),
            pip_requirements=["mlflow", "no-such-package==1.0"] if source.stem == "needs_package" else NOTHING_MORE,
        )


def apart(directory: Path) -> None:
    """Models that were logged with other packages than these here."""
    others = {
        "other_click": [f"mlflow-skinny=={mlflow.__version__}", "pandas<3", "click==8.1.7"],
        "pond": ["pond==1.0"],
    }
    for name, requirements in others.items():
        mlflow.pyfunc.save_model(
            directory / name, python_model=str(HERE / "versions.py"), pip_requirements=requirements
        )


class Thief:
    """Looks around where it is unpickled, and answers with what it found."""

    def __reduce__(self) -> tuple[Any, ...]:
        look = (Path(__file__).parent / "thief.py").read_text()
        return eval, (f"(lambda scope: (exec({look!r}, scope), scope['thief'])[1])({{}})",)

    def predict(self, rows: Any) -> Any:
        return rows


def pickles(directory: Path) -> None:
    """A model whose file does more than to be a model."""
    mlflow.sklearn.save_model(
        Thief(), directory / "thief", pip_requirements=NOTHING_MORE, serialization_format="cloudpickle"
    )


def with_params(directory: Path) -> None:
    """A model whose signature has params."""
    rows = pd.DataFrame({"x": [1.0, 2.0]})
    params = ParamSchema([ParamSpec("factor", "double", 1.0)])
    signature = infer_signature(rows, pd.DataFrame({"y": [1.0]}))
    signature.params = params
    mlflow.pyfunc.save_model(
        directory / "scaled",
        python_model=str(HERE / "scale.py"),
        signature=signature,
        pip_requirements=NOTHING_MORE,
    )


def quick(directory: Path) -> None:
    """Models that are answered past MLflow's parsing, each in another way."""
    chance = np.random.default_rng(3)
    rows = pd.DataFrame({
        "tenure": chance.integers(0, 70, 400),
        "charges": chance.uniform(10, 100, 400),
        "total": chance.uniform(10, 1000, 400),
        "senior": chance.random(400) < 0.3,
        "contract": chance.choice(["month", "year", "größe"], 400),
        "payment": chance.choice(["card", "cash"], 400),
    })  # fmt: skip
    left = np.where((rows.tenure < 20) & (rows.contract == "month") | (rows.charges > 90), "left", "stays")
    prepare = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["contract"]),
        (OrdinalEncoder(), ["payment"]),
        (make_pipeline(SimpleImputer(), StandardScaler()), ["charges", "total"]),
        remainder="passthrough",
    )
    forest = make_pipeline(prepare, RandomForestClassifier(20, random_state=1)).fit(rows, left)
    _save(mlflow.sklearn, directory / "forest", forest, rows, serialization_format="cloudpickle")
    numbers = rows[["tenure", "charges", "total", "senior"]].astype({"total": "float32", "tenure": "int32"})
    booster = lightgbm.train({"verbose": -1, "num_threads": 1}, lightgbm.Dataset(numbers, rows.charges * 2), 20)
    _save(mlflow.lightgbm, directory / "booster", booster, numbers)
    linear = make_pipeline(PolynomialFeatures(), LinearRegression()).fit(rows[["charges", "total"]], rows.tenure)
    _save(mlflow.sklearn, directory / "linear", linear, rows[["charges", "total"]], serialization_format="cloudpickle")
    array = rows[["charges", "total"]].to_numpy()
    linear = LinearRegression().fit(array, rows.tenure)
    _save(mlflow.sklearn, directory / "tensor", linear, array, serialization_format="cloudpickle")
    mlflow.pyfunc.save_model(
        directory / "typed",
        python_model=str(HERE / "echo.py"),
        signature=infer_signature(rows),
        input_example=rows[:3],
        pip_requirements=NOTHING_MORE,
    )


def _save(flavor: Any, path: Path, model: Any, rows: Any, **options: Any) -> None:
    signature = infer_signature(rows, model.predict(rows))
    flavor.save_model(
        model, path, signature=signature, input_example=rows[:3], pip_requirements=NOTHING_MORE, **options
    )


if __name__ == "__main__":
    target = Path(sys.argv[1])
    os.chdir(target)  # mlflow copies the lock file of a project that it is run in
    churn(target)
    pyfuncs(target)
    apart(target)
    pickles(target)
    with_params(target)
    quick(target)
