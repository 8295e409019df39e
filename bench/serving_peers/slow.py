"""A model of a user's own that takes 50 ms."""

import time

import mlflow


class Slow(mlflow.pyfunc.PythonModel):
    """Sleeps, and returns a number for each row."""

    def predict(self, context, model_input, params=None):
        time.sleep(0.05)
        return [0.5] * len(model_input)


mlflow.models.set_model(Slow())
