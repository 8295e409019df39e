"""Ends its process while it loads."""

import os
import sys

import mlflow


class Quitter(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        print("about to quit", file=sys.stderr)
        os._exit(9)

    def predict(self, context, model_input, params=None):
        return model_input


mlflow.models.set_model(Quitter())
