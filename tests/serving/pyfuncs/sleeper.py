"""Never ends loading."""

import threading

import mlflow


class Sleeper(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        threading.Event().wait()

    def predict(self, context, model_input, params=None):
        return model_input


mlflow.models.set_model(Sleeper())
