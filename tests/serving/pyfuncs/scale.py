"""Multiplies column x by the param `factor`."""

import mlflow
import pandas as pd


class Scale(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return pd.DataFrame({"y": model_input["x"] * (params or {}).get("factor", 1.0)})


mlflow.models.set_model(Scale())
