"""`millpond export`: what it writes runs without the platform and gives the same answers, also as ONNX."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightgbm
import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from millpond.sdk.exported.to_onnx import _apart
from millpond.sdk.exporting import ExportError, Parity, _first_difference, dockerfile, export_model
from tests.clients.scored import Scored, open_scored
from tests.servers import MILLPOND, Server

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def scored(any_server: Server) -> Iterator[Scored]:
    found = open_scored(any_server)
    yield found
    found.spark.stop()


def export(scored: Scored, uri: str, directory: Path, *flags: str, token: str = "") -> Any:
    """The command as a user gives it, with this machine's way to PyPI."""
    index = {name: value for name, value in os.environ.items() if name.startswith(("SSL_", "UV_"))}
    env = scored.server.client_env(token=token or None) | index
    command = [MILLPOND, "export", uri, str(directory), *flags]
    return subprocess.run(command, env=env, capture_output=True, text=True)


@pytest.mark.long
def test_a_pipeline_runs_alone_and_as_onnx(scored: Scored, tmp_path: Path) -> None:
    rows = pd.DataFrame({"contract": ["a", "b", "a", "c"] * 5, "tenure": np.arange(20.0)})
    encode = ColumnTransformer([("c", OneHotEncoder(handle_unknown="ignore"), ["contract"])], remainder="passthrough")
    model = make_pipeline(encode, LogisticRegression()).fit(rows, ["yes" if n % 3 else "no" for n in range(20)])
    signature = infer_signature(rows, model.predict(rows))
    scored.log("pipeline", model, signature=signature, input_example=rows.head(2))
    uri, target = f"models:/{scored.schema}.pipeline/1", tmp_path / "out"
    done = export(scored, uri, target, "--onnx")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "answers are the same" in done.stdout
    names = {path.name for path in target.iterdir()}
    assert names >= {"Dockerfile", "README.md", "model", "model.onnx", "parity.json", "requirements.lock", "serve.py"}
    report = json.loads((target / "parity.json").read_text())
    assert report["container"] == {"same": True, "requests": 4, "rows": 62, "different": []}
    assert report["onnx"]["distance_of_tolerance"] <= 1
    assert [each["name"] for each in report["onnx"]["inputs"]] == ["contract", "tenure"]
    lock = (target / "requirements.lock").read_text()
    assert re.search(r"^scikit-learn==.*\\$", lock, re.MULTILINE)
    assert "--hash=sha256:" in lock
    assert "millpond" not in lock
    copied = re.findall(r"^COPY (\S+) ", (target / "Dockerfile").read_text(), re.MULTILINE)
    assert set(copied) == {"requirements.lock", "serve.py", "model"}

    again = export(scored, uri, target)
    assert again.returncode != 0
    assert "is not empty" in again.stderr
    stranger = scored.server.new_user(f"stranger-{scored.schema[-6:]}@example.com")
    refused = export(scored, uri, tmp_path / "none", token=stranger)
    assert refused.returncode != 0
    assert "cannot be downloaded" in refused.stderr
    assert not (tmp_path / "none").exists()


@pytest.mark.long
def test_boosted_trees_become_onnx_and_python_of_ones_own_is_refused(scored: Scored, tmp_path: Path) -> None:
    made = np.random.default_rng(0)
    rows = pd.DataFrame(made.normal(size=(200, 4)), columns=list("abcd"))
    model = lightgbm.LGBMRegressor(n_estimators=20, verbose=-1).fit(rows, rows.a * rows.b)
    how: dict[str, Any] = {"signature": infer_signature(rows, model.predict(rows))}
    name = f"{scored.schema}.trees"
    from tests.clients.mlflow_session import signed_in

    with signed_in(scored.server), mlflow.start_run():
        mlflow.lightgbm.log_model(
            model, name="m", registered_model_name=name, pip_requirements=["mlflow", "lightgbm", "scikit-learn"], **how
        )
        mlflow.pyfunc.log_model(
            name="m", python_model=lambda model_input: model_input, registered_model_name=f"{scored.schema}.own",
            pip_requirements=["mlflow"], signature=infer_signature(rows, rows), input_example=rows.head(2),
        )  # fmt: skip
    done = export(scored, f"models:/{name}/1", tmp_path / "trees", "--onnx")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "trees" / "parity.json").read_text())["onnx"]["flavor"] == "lightgbm"
    assert "libgomp1" in (tmp_path / "trees" / "Dockerfile").read_text()
    own = export(scored, f"models:/{scored.schema}.own/1", tmp_path / "own", "--onnx", "--no-check")
    assert own.returncode == 1
    assert "no ONNX: its flavors are" in own.stdout


def test_an_export_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """Neither the directory, where it was not there, nor anything in it."""
    source, there = tmp_path / "source", tmp_path / "there"
    for each in (source, there):
        each.mkdir()
    (source / "weights").write_text("of no model of MLflow's")
    for target in (there, tmp_path / "made" / "for-it"):
        with pytest.raises(ExportError, match="has no MLmodel file"):
            export_model(str(source), target, lambda body: (200, body), say=lambda _: None)
    assert [*there.iterdir()] == []
    assert not (tmp_path / "made" / "for-it").exists()


def test_what_differs_is_named() -> None:
    assert _first_difference({"predictions": [1.0, 2.0]}, {"predictions": [1.0, 2.0 + 1e-12]}, "") == ""
    told = _first_difference({"predictions": [1.0, 2.0]}, {"predictions": [1.0, 2.1]}, "")
    assert told.startswith(".predictions[1] is 2.0 here")
    assert "the answer" in _first_difference([1], [1, 2], "")
    assert not Parity(requests=1, rows=1, different=["x"]).same
    assert "libgomp1" not in dockerfile("3.11")
    one, nan, inf = np.array([1.0, 2.0]), np.array([1.0, np.nan]), np.array([1.0, np.inf])
    assert [_apart(each, each.copy()) for each in (one, nan, inf)] == [0.0, 0.0, 0.0]
    assert {_apart(*pair) for pair in ((one, nan), (nan, one), (inf, -inf), (inf, nan))} == {np.inf}
