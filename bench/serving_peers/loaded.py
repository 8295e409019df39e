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


class Network:
    """The network, which takes a tensor."""

    def __init__(self, path: Path) -> None:
        import torch  # only where it is served

        self._torch = torch
        self._network = torch.load(path, weights_only=False)

    def predict(self, rows: Any) -> Any:
        """Its answers to the rows of a data frame."""
        with self._torch.inference_mode():
            return self._network(self._torch.from_numpy(rows.to_numpy(dtype="float32"))).numpy()


def model() -> Any:
    """The bare model."""
    place = Path(os.environ["MODEL"])
    if place.name == "slow":
        return Slow()
    return Network(place / "model.pt") if place.name == "torch" else joblib.load(place / "model.joblib")


def plain(predicted: Any) -> list[Any]:
    """Predictions as JSON has them."""
    return predicted if isinstance(predicted, list) else list(predicted.tolist())
