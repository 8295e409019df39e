"""Models are called past their wrappers only where each of their parameters is heeded."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MaxAbsScaler, MinMaxScaler, StandardScaler

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # MLflow warns of its own types
    import mlflow
    from mlflow.models import infer_signature

    from millpond.serving.worker.answers import Unsuited
    from millpond.serving.worker.direct import Way, ways_to_predict
    from millpond.serving.worker.fast_path import Reference, choose
    from millpond.serving.worker.proof import Requests
    from millpond.serving.worker.rows import RECORDS, RowReader, Rows

pytestmark = pytest.mark.filterwarnings("ignore")

CHANCE = np.random.default_rng(5)
ROWS = pd.DataFrame({"a": CHANCE.normal(size=300), "b": CHANCE.normal(size=300)})
TWO = (ROWS.a + CHANCE.normal(size=300) > 0).astype(int)
THREE = TWO + (ROWS.b > 0.5).astype(int)

OF_RECORDS = Reference(
    decode=lambda body: (
        pd.DataFrame(json.loads(body)["dataframe_records"], columns=["a", "b"], dtype=float)
        if b"dataframe_records" in body
        else None
    ),
    frame=lambda body: None,
    encode=lambda found: json.dumps(np.asarray(found).tolist()).encode(),
)


def saved(flavor: Any, model: Any, path: Path, **options: Any) -> Any:
    signature = infer_signature(ROWS, model.predict(ROWS))
    flavor.save_model(model, path, signature=signature, pip_requirements=["mlflow"], **options)
    return mlflow.pyfunc.load_model(str(path))


def in_sklearn(model: Any, path: Path, labels: Any = TWO) -> Any:
    return saved(mlflow.sklearn, model.fit(ROWS, labels), path, serialization_format="cloudpickle")


def answers(way: Way, rows: pd.DataFrame) -> Any:
    body = json.dumps({"dataframe_records": rows.to_dict("records")}).encode()
    return way.predict(RowReader(infer_signature(ROWS).inputs, [RECORDS]).read(body))


def test_xgboost_that_stopped_early_uses_its_best_trees(tmp_path: Path) -> None:
    model = xgboost.XGBClassifier(n_estimators=200, learning_rate=1.0, early_stopping_rounds=20)
    model.fit(ROWS[:150], TWO[:150], eval_set=[(ROWS[150:], TWO[150:])], verbose=False)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    loaded = saved(mlflow.xgboost, model, tmp_path / "m")
    wide = ROWS * 3
    way = ways_to_predict(loaded)[0]
    assert way.name == "XGBoost's booster on a matrix"
    np.testing.assert_array_equal(answers(way, wide), loaded.predict(wide))


def one_by_one(labels: Any, scores: Any) -> tuple[Any, Any]:
    chances = 1 / (1 + np.exp(-scores))
    return chances - labels, chances * (1 - chances)


@pytest.mark.parametrize(
    "make",
    [
        lambda path: saved(
            mlflow.xgboost, xgboost.XGBClassifier(n_estimators=3, objective="multi:softmax").fit(ROWS, THREE), path
        ),
        lambda path: saved(
            mlflow.lightgbm, lightgbm.LGBMClassifier(n_estimators=3, verbose=-1, pred_early_stop=True).fit(ROWS, TWO),
            path,
        ),
        lambda path: saved(
            mlflow.lightgbm, lightgbm.LGBMClassifier(n_estimators=3, verbose=-1, objective=one_by_one).fit(ROWS, TWO),
            path, serialization_format="cloudpickle",
        ),
        lambda path: in_sklearn(make_pipeline(MaxAbsScaler(clip=True), LogisticRegression()), path),
        lambda path: in_sklearn(make_pipeline(MinMaxScaler(clip=True), LogisticRegression()), path),
        lambda path: in_sklearn(make_pipeline(FunctionTransformer(np.abs), LogisticRegression()), path),
        lambda path: in_sklearn(make_pipeline(FunctionTransformer(validate=True), LogisticRegression()), path),
    ],
    ids=["softmax", "pred_early_stop", "own objective", "MaxAbs clips", "MinMax clips", "function", "validates"],
)  # fmt: skip
def test_what_is_not_heeded_goes_through_the_wrapper(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    first = ways_to_predict(make(tmp_path / "m"))[0]
    assert "past MLflow's parsing" in first.name


@pytest.mark.parametrize(
    "make",
    [
        lambda path: saved(mlflow.xgboost, xgboost.XGBClassifier(n_estimators=3).fit(ROWS, THREE), path),
        lambda path: saved(
            mlflow.lightgbm, lightgbm.LGBMClassifier(n_estimators=3, verbose=-1, n_jobs=1).fit(ROWS, THREE), path
        ),
        lambda path: in_sklearn(make_pipeline(StandardScaler(), MaxAbsScaler(), LogisticRegression()), path),
        lambda path: in_sklearn(RandomForestClassifier(5, n_jobs=1), path, THREE),
    ],
    ids=["xgboost", "lightgbm", "pipeline", "forest"],
)
def test_what_is_heeded_is_called_directly(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    loaded = make(tmp_path / "m")
    first = ways_to_predict(loaded)[0]
    assert "past MLflow's parsing" not in first.name
    wide = ROWS * CHANCE.choice([-100, -1, 1, 100], size=ROWS.shape)
    np.testing.assert_array_equal(answers(first, wide), loaded.predict(wide))


def of_lightgbm(**params: Any) -> Any:
    return lightgbm.train({"verbose": -1, "num_threads": 1, **params}, lightgbm.Dataset(ROWS, THREE), 20)


@pytest.mark.parametrize(
    "make",
    [
        lambda: lightgbm.LGBMRegressor(n_estimators=20, verbose=-1, n_jobs=1, objective="poisson").fit(ROWS, THREE),
        lambda: lightgbm.LGBMClassifier(n_estimators=20, verbose=-1, n_jobs=1).fit(ROWS, THREE),
        lambda: of_lightgbm(objective="regression", linear_tree=True),
        lambda: of_lightgbm(objective="multiclass", num_class=3),
    ],
    ids=["poisson", "classifier", "linear trees", "chances of three"],
)
def test_a_single_row_has_the_answer_that_it_has_among_others(tmp_path: Path, make: Callable[[], Any]) -> None:
    loaded = saved(mlflow.lightgbm, make(), tmp_path / "m")
    way = ways_to_predict(loaded)[0]
    rows = ROWS[:50] * CHANCE.choice([-100, -1, 1, 100], size=(50, 2))
    rows.iloc[3, 0] = np.nan
    alone = np.concatenate([way.call(rows.to_numpy()[number : number + 1]) for number in range(len(rows))])
    np.testing.assert_array_equal(alone, loaded.predict(rows))
    with pytest.raises(Unsuited):
        way.call(np.zeros((1, 3)))


def test_a_proof_that_saw_one_class_alone_says_nothing_of_labels(tmp_path: Path) -> None:
    labels = np.where((ROWS.a > 0) & (ROWS.b > 0), 1, 0)
    labels[0] = 1
    loaded = in_sklearn(RandomForestClassifier(3, random_state=1), tmp_path / "m", labels)
    loaded._model_impl.get_raw_model().classes_ = np.array([7, 7])
    assert "past MLflow's parsing" in choose(loaded, OF_RECORDS, None).told


def test_a_proof_asks_for_a_few_rows_too(tmp_path: Path) -> None:
    """As matrix products of few rows may be computed in another way than those of one and of many."""
    loaded = in_sklearn(RandomForestRegressor(3, random_state=1), tmp_path / "m", ROWS.a)
    assert "scikit-learn's trees on a matrix" in choose(loaded, OF_RECORDS, None).told
    model = loaded._model_impl.get_raw_model()
    usual = model.predict
    model.predict = lambda rows: usual(rows) + (1 < len(rows) < 5)
    assert "past MLflow's parsing" in choose(loaded, OF_RECORDS, None).told


def test_a_proof_asks_for_more_rows_than_a_way_calls_few(tmp_path: Path) -> None:
    loaded = in_sklearn(RandomForestRegressor(30, max_depth=5, random_state=1), tmp_path / "m", ROWS.a)
    model = loaded._model_impl.get_raw_model()
    usual = model.predict
    model.predict = lambda rows: usual(rows) + (len(rows) > ways_to_predict(loaded)[0].few)
    assert "past MLflow's parsing" in choose(loaded, OF_RECORDS, None).told


def test_a_proof_looks_far_from_the_example() -> None:
    example = json.dumps({"dataframe_split": {"columns": ["a", "b"], "data": [[50.0, 50.0]]}}).encode()
    schema = infer_signature(ROWS).inputs
    bodies = list(Requests(schema, example).plain(RECORDS, rows=60))
    read: Rows = RowReader(schema, [RECORDS]).read(bodies[1])
    sizes = np.abs(read.numbers())
    assert (sizes > 5000).any()
    assert (sizes < 0.5).any()
    assert (read.numbers() < -20).any()
