"""Needs a package that is not installed."""

import mlflow


class NeedsPackage(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        import no_such_package

        self.found = no_such_package

    def predict(self, context, model_input, params=None):
        return model_input


mlflow.models.set_model(NeedsPackage())
