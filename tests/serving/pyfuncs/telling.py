"""A model that answers with the frame that it is given: order, types and values."""

from collections.abc import Iterator
from typing import Any

import mlflow
import pandas as pd


class Telling(mlflow.pyfunc.PythonModel):
    """For tests of what reaches a model."""

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> list[str]:
        """A text for each row."""
        kinds = " ".join(f"{name}:{kind}" for name, kind in model_input.dtypes.items())
        return [f"{kinds} {[str(value) for value in row]}" for row in model_input.itertuples(index=False)]

    def predict_stream(self, context: Any, model_input: dict[str, Any], params: Any = None) -> Iterator[Any]:
        """A part for each column of the one row."""
        yield from ({name: value} for name, value in model_input.items())


mlflow.models.set_model(Telling())
