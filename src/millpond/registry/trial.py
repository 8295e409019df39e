"""`python -m millpond.registry.trial ORDER`: load a model in this clean process, let it predict, write what came.

Runs in a child with limits; the order and the answer are JSON files in its scratch directory. Knows no other part of
Millpond but how a child answers its parent.
"""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from millpond.kernel.child import report_ready
from millpond.kernel.imports import hidden

_MAX_MESSAGE = 2000
_NOT_NEEDED = ("polars", "pyspark", "litellm", "aiohttp", "matplotlib", "torch")
"""MLflow looks for these only to offer them on its client side; a model that needs one imports it itself, later."""


def main() -> None:
    """Do what the order says; say whether it went well."""
    order = json.loads(Path(sys.argv[1]).read_text())
    try:
        answer = _tried(order)
        Path(order["answer"]).write_text(json.dumps(answer, default=str))
        report_ready({"ok": True})
    except Exception as error:  # whatever the model raises is the answer
        report_ready({"ok": False, "message": f"{type(error).__name__}: {error}"[:_MAX_MESSAGE]})


def _tried(order: dict[str, Any]) -> dict[str, Any]:
    with hidden(*_NOT_NEEDED):
        import mlflow.pyfunc

    began = time.perf_counter()
    model = mlflow.pyfunc.load_model(order["model_dir"])
    load_s = time.perf_counter() - began
    p99_ms = _p99_ms(model, _example(order["model_dir"]), order["calls"]) if order["calls"] else None
    predictions = {name: _plain(model.predict(_rows(path))) for name, path in order["rows"].items()}
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"load_s": load_s, "p99_ms": p99_ms, "peak_mb": peak_mb, "predictions": predictions}


def _rows(path: str) -> Any:
    import pyarrow.parquet as pq

    return pq.read_table(path).to_pandas()


def _example(model_dir: str) -> Any:
    from mlflow.models import Model

    example = Model.load(model_dir).load_input_example(model_dir)
    if example is None:
        raise ValueError("the version has no input example; log it with input_example=...")
    return example


def _p99_ms(model: Any, rows: Any, calls: int) -> float:
    took = []
    for _ in range(calls):
        began = time.perf_counter()
        model.predict(rows)
        took.append((time.perf_counter() - began) * 1000)
    took.sort()
    return took[min(len(took) - 1, int(len(took) * 0.99))]


def _plain(predicted: Any) -> list[Any]:
    """One plain value for each row; of a frame with several columns the first."""
    if hasattr(predicted, "columns"):
        predicted = predicted[predicted.columns[0]]
    values = predicted.tolist() if hasattr(predicted, "tolist") else list(predicted)
    return [value[0] if isinstance(value, list) and len(value) == 1 else value for value in values]


if __name__ == "__main__":
    main()
