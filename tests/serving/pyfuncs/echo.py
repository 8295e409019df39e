"""A model that answers with all that it can tell about what it is given."""

import sys
from typing import Any

import mlflow
from mlflow.pyfunc import PythonModel


class Echo(PythonModel):
    """Raises for a contract of `boom`, and prints each call."""

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        """Columns, types, index, order in memory, and each value as Python writes it; for each row."""
        print(f"called with {len(model_input)} rows", file=sys.stderr, flush=True)
        if (model_input["contract"] == "boom").any():
            raise ValueError("boom was asked for")
        flags = model_input.to_numpy().flags
        about = {
            "columns": [repr(name) for name in model_input.columns],
            "types": [str(kind) for kind in model_input.dtypes],
            "order": [flags.c_contiguous, flags.f_contiguous],
        }
        return [
            about | {"index": repr(index), "values": [f"{type(value).__name__} {value!r}" for value in row]}
            for index, row in zip(model_input.index, model_input.itertuples(index=False), strict=True)
        ]


mlflow.models.set_model(Echo())
