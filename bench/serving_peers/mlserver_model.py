"""The model in MLServer, as a runtime of its own: the V2 protocol brings columns, its codec makes a data frame."""

import numpy as np
from loaded import model
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, PandasCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Service(MLModel):
    """Takes the V2 protocol."""

    async def load(self) -> bool:
        """Load."""
        self._model = model()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Predictions for the rows."""
        predicted = np.asarray(self._model.predict(PandasCodec.decode_request(payload)))
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("predictions", predicted)])
