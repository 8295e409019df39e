"""Cannot be loaded."""

import mlflow


class Broken(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        raise RuntimeError("the weights are missing")

    def predict(self, context, model_input, params=None):
        return model_input


mlflow.models.set_model(Broken())
