"""The model that a peer is to serve, by the variable `MODEL`: a folder of `serving_models.py`."""

import os
import time
from pathlib import Path
from typing import Any

import joblib


class Slow:
    """The slow model without MLflow."""

    def predict(self, rows: Any) -> list[float]:
        """A number for each row, after 50 ms."""
        time.sleep(0.05)
        return [0.5] * len(rows)


def model() -> Any:
    """The bare model."""
    place = Path(os.environ["MODEL"])
    return Slow() if place.name == "slow" else joblib.load(place / "model.joblib")


def plain(predicted: Any) -> list[Any]:
    """Predictions as JSON has them."""
    return predicted if isinstance(predicted, list) else list(predicted.tolist())
