"""The model in BentoML, as its guides write it."""

from typing import Any

import bentoml
import pandas as pd
from loaded import model, plain


@bentoml.service(traffic={"timeout": 60})
class Service:
    """Takes records, as BentoML reads a data frame."""

    def __init__(self) -> None:
        self.model = model()

    @bentoml.api
    def predict(self, rows: pd.DataFrame) -> list[Any]:
        """Predictions for the rows."""
        return plain(self.model.predict(rows))
