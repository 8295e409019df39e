"""`python predictions.py ORDER`: says how far two models' predictions for an input example are apart.

Runs in the environment that was built for the run, and knows nothing of Millpond.
"""

import json
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """For each pair of the order one number, or why there is none."""
    order = json.loads(Path(sys.argv[1]).read_text())
    answers = [_answer(pair) for pair in order["pairs"]]
    Path(order["answer"]).write_text(json.dumps(answers))


def _answer(pair: list[str]) -> dict[str, Any]:
    try:
        return {"apart": _apart(*pair)}
    except Exception as error:  # whatever a model raises is the answer
        return {"reason": f"{type(error).__name__}: {error}"[:300]}


def _apart(first: str, second: str) -> float:
    import mlflow.pyfunc
    import numpy
    import pandas
    from mlflow.models import Model

    example = Model.load(first).load_input_example(first)
    if example is None:
        raise ValueError("the model has no input example; log it with input_example=...")
    one, other = (pandas.DataFrame(mlflow.pyfunc.load_model(each).predict(example)) for each in (first, second))
    if one.shape != other.shape:
        raise ValueError(f"predictions of shape {one.shape}, then {other.shape}")
    left, right = one.to_numpy(), other.to_numpy()
    if left.dtype.kind in "OUS":
        return 0.0 if (left == right).all() else 1.0
    left, right = left.astype(float), right.astype(float)
    scale = numpy.maximum(numpy.maximum(numpy.abs(left), numpy.abs(right)), 1e-300)
    return float(numpy.nanmax(numpy.abs(left - right) / scale)) if left.size else 0.0


if __name__ == "__main__":
    main()
