"""Writes the models that the serving tests serve: `python make_models.py DIRECTORY`.

In a process of its own, because the tests themselves import neither mlflow nor scikit-learn.
"""

import os
import sys
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.models import infer_signature
from mlflow.types.schema import ParamSchema, ParamSpec
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

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


if __name__ == "__main__":
    target = Path(sys.argv[1])
    os.chdir(target)  # mlflow copies the lock file of a project that it is run in
    churn(target)
    pyfuncs(target)
    with_params(target)
