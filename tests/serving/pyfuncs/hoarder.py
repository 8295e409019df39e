"""Takes more memory than any limit while it loads."""

import mlflow


class Hoarder(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        self.memory = [bytearray(256 << 20) for _ in range(10_000)]

    def predict(self, context, model_input, params=None):
        return model_input


mlflow.models.set_model(Hoarder())
