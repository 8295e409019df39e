"""Writes a model that `bench_serving.py` serves: `serving_models.py DIRECTORY NAME`.

It is a folder with an MLflow model (`mlflow`), the bare model for peers (`model.joblib`, `model.pt`), and 100 rows
(`rows.json`).
"""

import json
import os
import sys
from importlib.metadata import version
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
    """The model of a name."""
    target = Path(sys.argv[1]).resolve() / sys.argv[2]
    target.mkdir(parents=True)
    os.chdir(target)
    _MODELS[target.name](target, np.random.default_rng(1))


def _lightgbm(place: Path, chance: Any) -> None:
    numbers, wanted = _numbers(chance)
    booster = lightgbm.train({"num_threads": 1, "verbose": -1}, lightgbm.Dataset(numbers, wanted), 100)
    _save(place, mlflow.lightgbm, booster, numbers)


def _forest(place: Path, chance: Any) -> None:
    numbers, wanted = _numbers(chance)
    forest = RandomForestClassifier(500, max_depth=12, random_state=1).fit(numbers, wanted > 0)
    _save(place, mlflow.sklearn, forest, numbers, serialization_format="cloudpickle")


def _pipeline(place: Path, chance: Any) -> None:
    people = _people(chance)
    left = (people.tenure < 20) & (people.contract == "month")
    model = _churn_pipeline().fit(people, left)
    _save(place, mlflow.sklearn, model, people, serialization_format="cloudpickle")


def _slow(place: Path, chance: Any) -> None:
    numbers, _ = _numbers(chance)
    _save_rows(place, numbers)
    signature = infer_signature(numbers)
    mlflow.pyfunc.save_model(
        place / "mlflow", python_model=str(_SLOW), signature=signature, pip_requirements=["mlflow"]
    )


def _torch(place: Path, chance: Any) -> None:
    """Two hidden layers of 128; by an interpreter that has torch."""
    import torch
    from torch import nn

    numbers, wanted = _numbers(chance)
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(20, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 1))
    optimizer = torch.optim.Adam(model.parameters())
    rows, targets = (torch.from_numpy(each.to_numpy(dtype=np.float32)) for each in (numbers, wanted))
    for _ in range(50):
        loss = nn.functional.mse_loss(model(rows)[:, 0], targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    _save_rows(place, numbers)
    torch.save(model, place / "model.pt")
    signature = infer_signature(numbers, model(rows).detach().numpy())
    needed = [f"{name}=={version(name).partition('+')[0]}" for name in ("mlflow", "torch", "numpy", "pandas")]
    mlflow.pytorch.save_model(
        model, place / "mlflow", signature=signature, input_example=numbers.head(3), pip_requirements=needed,
        serialization_format="pickle",
    )  # fmt: skip


def _numbers(chance: Any) -> tuple[pd.DataFrame, pd.Series]:
    numbers = pd.DataFrame(chance.normal(size=(ROWS, 20)), columns=[f"f{number}" for number in range(20)])
    return numbers, numbers.f0 * 2 + numbers.f1 * numbers.f2


def _people(chance: Any) -> pd.DataFrame:
    return pd.DataFrame({
        "tenure": chance.integers(0, 70, ROWS),
        "monthly": chance.uniform(10, 100, ROWS),
        "total": chance.uniform(10, 1000, ROWS),
        "contract": chance.choice(["month", "year", "two years"], ROWS),
        "payment": chance.choice(["card", "cash", "transfer", "check"], ROWS),
        "internet": chance.choice(["none", "fiber", "dsl"], ROWS),
    })  # fmt: skip


def _churn_pipeline() -> Any:
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
    (place / "rows.json").write_text(json.dumps(rows.head(100).to_dict("split", index=False)))


_MODELS = {"lightgbm": _lightgbm, "pipeline": _pipeline, "forest": _forest, "torch": _torch, "slow": _slow}

if __name__ == "__main__":
    main()
