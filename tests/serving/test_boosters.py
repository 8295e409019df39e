"""The masks of a booster give what LightGBM gives, to the last bit."""

from typing import Any

import lightgbm
import numpy as np
import pytest

from millpond.serving.worker import boosters
from millpond.serving.worker.answers import Unsuited

CHANCE = np.random.default_rng(7)
ROWS = CHANCE.normal(size=(600, 4))
ROWS[:, 2] = CHANCE.choice([-1.0, 0.0, 0.5, 3.0], size=600)
WANTED = ROWS[:, 0] + ROWS[:, 1] ** 2 + ROWS[:, 2] + CHANCE.normal(size=600) / 3
SOME_MISSING = np.where(CHANCE.random(ROWS.shape) < 0.2, np.nan, ROWS)


def trained(rows: Any = ROWS, rounds: int = 30, wanted: Any = WANTED, categories: Any = "auto", **params: Any) -> Any:
    """A booster as it comes out of the file that MLflow keeps."""
    params = {"verbose": -1, "num_threads": 1, "min_data_in_leaf": 2, **params}
    made = lightgbm.train(params, lightgbm.Dataset(rows, wanted, categorical_feature=categories), rounds)
    return lightgbm.Booster(model_str=made.model_to_string())


def rows_near(booster: Any, count: int) -> Any:
    """Rows that lie on thresholds, beside them and far away; and such as lack values."""
    thresholds = [0.0]

    def walk(node: Any) -> None:
        if "threshold" in node:
            thresholds.append(node["threshold"])
            walk(node["left_child"])
            walk(node["right_child"])

    for tree in booster.dump_model()["tree_info"]:
        walk(tree["tree_structure"])
    on = CHANCE.choice(thresholds, size=(count, booster.num_feature()))
    beside = np.nextafter(on, CHANCE.choice([-np.inf, np.inf], size=on.shape))
    far = CHANCE.choice([0.0, -0.0, 1e-300, -1e-36, 1e300, -1e300, np.inf, -np.inf, np.nan], size=on.shape)
    return np.choose(CHANCE.integers(4, size=on.shape), [on, beside, far, CHANCE.normal(size=on.shape)])


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"rows": SOME_MISSING},
        {"objective": "regression_l1"},
        {"objective": "binary", "wanted": WANTED > 0},
        {"objective": "binary", "wanted": WANTED > 0, "rows": SOME_MISSING, "sigmoid": 0.7},
        {"num_leaves": 33},
        {"num_leaves": 64, "rounds": 3},
        {"num_leaves": 2, "rounds": 300},
        {"boosting": "dart"},
        {"extra_trees": True, "bagging_fraction": 0.5, "bagging_freq": 1},
        {"rounds": 1},
        {"min_data_in_leaf": 1000},
    ],
    ids=["plain", "missing", "l1", "binary", "sigmoid", "33", "64", "300", "dart", "extra", "one", "stump"],
)
def test_masks_give_what_the_walks_give(how: Any) -> None:
    booster = trained(**how)
    scores = boosters.scores_of(booster)
    for count in (17, 100, 128, 129, 1000):
        rows = rows_near(booster, count)
        expected = booster.predict(rows)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(booster, "predict", None)  # it is not asked
            assert scores(rows).tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    "how",
    [
        {"num_leaves": 65, "min_data_in_leaf": 1, "rounds": 2},
        {"objective": "multiclass", "num_class": 3, "wanted": np.digitize(WANTED, [0, 1])},
        {"objective": "poisson", "wanted": np.abs(WANTED)},
        {"reg_sqrt": True},
        {"boosting": "rf", "bagging_fraction": 0.5, "bagging_freq": 1},
        {"linear_tree": True},
        {"zero_as_missing": True},
        {"rows": np.abs(ROWS), "categories": [2], "min_data_per_group": 1, "cat_smooth": 0, "max_cat_to_onehot": 1},
    ],
    ids=["leaves", "classes", "poisson", "roots", "forest", "linear", "zeros", "categories"],
)
def test_what_is_walked_otherwise_is_left_to_lightgbm(how: Any) -> None:
    with pytest.raises(Unsuited):
        boosters.scores_of(trained(**how))


def test_a_large_booster_is_left_to_lightgbm_before_it_is_told_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    booster, asked = trained(), []

    def told(**which: Any) -> Any:
        asked.append(which)
        return lightgbm.Booster.dump_model(booster, **which)

    monkeypatch.setattr(booster, "dump_model", told)
    boosters.scores_of(booster)
    monkeypatch.setattr(boosters, "_MOST_BYTES", 100_000)
    with pytest.raises(Unsuited):
        boosters.scores_of(booster)
    assert asked == [{"num_iteration": 1}, {}, {"num_iteration": 1}]


def test_a_booster_with_trees_of_a_thousand_levels_is_left_to_lightgbm(monkeypatch: pytest.MonkeyPatch) -> None:
    booster = trained(rounds=1)
    told = booster.dump_model()
    deep = told["tree_info"][0]["tree_structure"]
    for _ in range(2000):
        deep = {**deep, "left_child": deep}
    told["tree_info"][0]["tree_structure"] = deep
    monkeypatch.setattr(booster, "dump_model", lambda **_which: told)
    with pytest.raises(Unsuited):
        boosters.scores_of(booster)


def test_a_booster_without_trees_is_left_to_lightgbm() -> None:
    made = lightgbm.train(
        {"verbose": -1, "num_threads": 1}, lightgbm.Dataset(ROWS, WANTED), 1, keep_training_booster=True
    )
    made.rollback_one_iter()
    assert made.num_trees() == 0
    with pytest.raises(Unsuited):
        boosters.scores_of(made)


def test_a_booster_of_an_objective_of_its_own_is_left_to_lightgbm() -> None:
    own = trained(objective=lambda scores, data: (scores - data.get_label(), np.ones_like(scores)))
    with pytest.raises(Unsuited):
        boosters.scores_of(own)


def test_few_rows_and_those_of_another_width_are_for_lightgbm() -> None:
    booster = trained()
    scores = boosters.scores_of(booster)
    assert scores(ROWS[:16]).tobytes() == booster.predict(ROWS[:16]).tobytes()
    with pytest.raises(lightgbm.basic.LightGBMError, match="number of features in data"):
        scores(ROWS[:40, :3])


def test_a_booster_that_stopped_early_is_asked_up_to_its_best_round() -> None:
    booster = trained()
    whole = booster.predict(ROWS)
    booster.best_iteration = 20
    assert boosters.scores_of(booster)(ROWS).tobytes() == booster.predict(ROWS).tobytes() != whole.tobytes()
