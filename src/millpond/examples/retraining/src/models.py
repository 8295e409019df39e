"""The models to choose from. Needs no server."""

from collections.abc import Iterator

import mlflow
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler


PACKAGES = ("mlflow", "numpy", "pandas", "scikit-learn")
"""What a model needs to run; MLflow would look for it by running it, which takes longer than the training."""


class Churn(mlflow.pyfunc.PythonModel):
    """Answers with the probability of leaving."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline

    def predict(self, context, model_input, params=None):
        """One probability for each row."""
        return self.pipeline.predict_proba(model_input)[:, 1]


def candidates() -> Iterator[tuple[dict, Pipeline]]:
    """Parameters and an untrained pipeline of each model that is tried."""
    yield {"model": "logistic", "C": 1.0}, _pipeline(LogisticRegression(C=1.0, max_iter=1000))
    for leaves in (4, 8):
        boosting = HistGradientBoostingClassifier(max_leaf_nodes=leaves, max_iter=60, random_state=7)
        yield {"model": "boosting", "max_leaf_nodes": leaves}, _pipeline(boosting)


def _pipeline(last) -> Pipeline:
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), make_column_selector(dtype_exclude="number")),
        (StandardScaler(), make_column_selector(dtype_include="number")),
    )
    return make_pipeline(columns, last)
