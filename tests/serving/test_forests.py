"""A walk through all trees of a forest gives what scikit-learn gives, to the last bit."""

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeRegressor

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # MLflow warns of its own types

    from millpond.serving.worker import fast_path, forests

CHANCE = np.random.default_rng(5)
ROWS = CHANCE.normal(size=(400, 3))
ROWS[:, 2] = CHANCE.choice([-0.0, 0.0, 1.0, 1e30, -1e30, 1e-45], size=400)
NUMBER = ROWS[:, 0] + ROWS[:, 1] ** 2 + CHANCE.normal(size=400) / 3
FOUR = np.digitize(NUMBER, [0, 1, 2]) + 10 * (ROWS[:, 2] > 0)
FEW = forests.few(3)
COUNTS = [1, 2, 3, 7, FEW - 1, FEW, FEW + 1, 3 * FEW]


def trees_of(model: Any) -> list[Any]:
    return [each.tree_ for each in getattr(model, "estimators_", [model])]


def summed(trees: Any, rows: Any) -> Any:
    """As scikit-learn adds: one tree after the other."""
    total = np.zeros((len(rows), trees[0].value.shape[2]))
    for tree in trees:
        total += tree.predict(rows)
    return total / len(trees)


def rows_near(trees: Any, count: int) -> Any:
    """Rows that lie on thresholds, beside them and far away."""
    thresholds = np.concatenate([[0.0], *(tree.threshold[tree.children_left >= 0] for tree in trees)]).astype("f4")
    on = CHANCE.choice(thresholds, size=(count, 3))
    beside = np.nextafter(on, CHANCE.choice([-np.inf, np.inf], size=on.shape).astype("f4"))
    largest = np.finfo("f4").max
    far = CHANCE.choice(np.array([0.0, -0.0, 1e-45, -1e-45, largest, -largest, 1e30], "f4"), size=on.shape)
    usual = CHANCE.normal(size=on.shape).astype("f4")
    return np.choose(CHANCE.integers(4, size=on.shape), [on, np.clip(beside, -largest, largest), far, usual])


MODELS = [
    RandomForestClassifier(40, random_state=1),
    RandomForestClassifier(300, max_depth=3, random_state=1),
    RandomForestClassifier(40, max_leaf_nodes=30, random_state=1),
    ExtraTreesClassifier(40, random_state=1),
    RandomForestRegressor(40, random_state=1),
    RandomForestRegressor(301, max_depth=9, random_state=1),
    ExtraTreesRegressor(40, max_depth=12, random_state=1),
    RandomForestRegressor(3, max_depth=2, random_state=1),
    RandomForestRegressor(30, max_depth=1, min_samples_split=1000, random_state=1),
    DecisionTreeClassifier(random_state=1),
    DecisionTreeRegressor(max_depth=1),
    ExtraTreeRegressor(random_state=1),
]


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # scikit-learn adds huge numbers to see them finite
@pytest.mark.parametrize("model", MODELS, ids=[f"{type(each).__name__}-{at}" for at, each in enumerate(MODELS)])
def test_a_walk_gives_what_the_trees_give(model: Any) -> None:
    model.fit(ROWS, FOUR if type(model).__name__.endswith("Classifier") else NUMBER)
    trees = trees_of(model)
    mean = forests.mean_of(trees)
    for count in COUNTS:
        rows = rows_near(trees, count)
        found = mean(rows)
        assert found.tobytes() == summed(trees, rows).tobytes()
        usual = model.set_params(n_jobs=1) if hasattr(model, "n_jobs") else model
        theirs = usual.predict_proba(rows) if hasattr(model, "classes_") else usual.predict(rows)[:, np.newaxis]
        assert found.tobytes() == theirs.tobytes()


def test_thresholds_need_not_be_of_single_precision() -> None:
    model = RandomForestRegressor(20, random_state=1).fit(ROWS, NUMBER)
    thresholds = np.concatenate([tree.threshold for tree in trees_of(model)])
    assert (thresholds != thresholds.astype("f4")).any()
    exact = np.array([0.1, -0.1, 1e300, -1e300, 1e-60, -1e-60, 0.0, 0.5, np.inf])
    near = np.array([0.1, -0.1, np.finfo("f4").max, -np.finfo("f4").max, 1e-45, -1e-45, 0.0, -0.0, 0.5], "f4")
    near = np.concatenate([near, np.nextafter(near[:2], np.float32(9)), np.nextafter(near[:2], np.float32(-9))])
    rounded = forests._rounded_down(exact)
    assert rounded.dtype == np.float32
    np.testing.assert_array_equal(near[:, np.newaxis] > rounded, near.astype("f8")[:, np.newaxis] > exact)


def test_forests_are_walked_only_where_that_is_quicker_and_small_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(forests, "_tree_by_tree", lambda trees, rows: asked.append(len(rows)))
    forest = trees_of(RandomForestRegressor(20, max_depth=5, random_state=1).fit(ROWS, NUMBER))
    rows = rows_near(forest, 2 * FEW)
    mean = forests.mean_of(forest)
    for count in (0, 1, FEW, FEW + 1):
        mean(rows[:count])
    assert asked == [0, FEW + 1]
    forests.mean_of(forest[:3])(rows[:1])
    monkeypatch.setattr(forests, "_MOST_BYTES", 1000)
    forests.mean_of(forest)(rows[:2])
    assert asked[2:] == [1, 2]


def test_fewer_wide_rows_are_walked_as_a_proof_has_to_try_more(monkeypatch: pytest.MonkeyPatch) -> None:
    assert forests.few(20) > forests.few(1000)
    assert forests.few(1000) + 1 in fast_path._PREDICTED
    asked: list[int] = []
    monkeypatch.setattr(forests, "_tree_by_tree", lambda trees, rows: asked.append(len(rows)))
    wide = trees_of(RandomForestRegressor(20, max_depth=2).fit(CHANCE.normal(size=(50, 1000)), NUMBER[:50]))
    for count in (forests.few(1000), forests.few(1000) + 1):
        forests.mean_of(wide)(np.zeros((count, 1000), "f4"))
    assert asked == [forests.few(1000) + 1]


def test_a_walk_of_many_values_is_made_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    forest = trees_of(RandomForestClassifier(20, random_state=1).fit(ROWS, FOUR))
    rows = rows_near(forest, 50)
    monkeypatch.setattr(forests, "_AT_ONCE", 20 * 7 * forest[0].value.shape[2])
    np.testing.assert_array_equal(forests.mean_of(forest)(rows), summed(forest, rows))
