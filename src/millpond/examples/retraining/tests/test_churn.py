"""What needs no server: pytest in this directory."""

from pathlib import Path

import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

import churn
import models

SAMPLE = Path(__file__).parents[1] / "sample" / "customers.parquet"


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return churn.prepared(pd.read_parquet(SAMPLE))


def test_the_latest_row_of_a_customer_counts(rows: pd.DataFrame) -> None:
    first = pd.read_parquet(SAMPLE).head(1)
    again = churn.prepared(pd.concat([first.assign(churn="Yes"), first.assign(churn="No")]))
    assert (len(again), again[churn.LABEL].item()) == (1, 0)


def test_models_see_neither_the_key_nor_the_label(rows: pd.DataFrame) -> None:
    assert not {churn.KEY, churn.LABEL} & set(churn.features(rows).columns)


def test_the_exam_is_a_fifth_and_always_the_same(rows: pd.DataFrame) -> None:
    exam = churn.is_exam(rows)
    assert exam.mean() == pytest.approx(1 / churn.EXAM_OF, abs=0.01)
    assert churn.is_exam(rows.sample(frac=1, random_state=1)).sort_index().equals(exam)


def test_a_candidate_finds_out_who_leaves(rows: pd.DataFrame) -> None:
    exam = churn.is_exam(rows)
    _, pipeline = next(models.candidates())
    pipeline.fit(churn.features(rows[~exam]), rows[~exam][churn.LABEL])
    predicted = models.Churn(pipeline).predict(None, churn.features(rows[exam]))
    assert roc_auc_score(rows[exam][churn.LABEL], predicted) > 0.8
