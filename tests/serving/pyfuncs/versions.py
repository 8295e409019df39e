"""Answers with the versions of packages that it runs with, and where its Python is."""

import sys
from importlib.metadata import version

import mlflow


class Versions(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return [{"click": version("click"), "prefix": sys.prefix, "ours": "nicegui" in sys.modules}]


mlflow.models.set_model(Versions())
