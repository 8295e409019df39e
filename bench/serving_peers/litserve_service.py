"""The model in LitServe: `litserve_service.py PORT`."""

import sys
from typing import Any

import litserve
import pandas as pd
from loaded import model, plain


class Service(litserve.LitAPI):
    """Takes columns and data."""

    def setup(self, device: str) -> None:
        """Load."""
        self.model = model()

    def decode_request(self, request):  # LitServe would take an annotation for a query parameter
        """The rows."""
        return pd.DataFrame(request["data"], columns=request["columns"])

    def predict(self, rows: pd.DataFrame) -> Any:
        """Predictions for the rows."""
        return self.model.predict(rows)

    def encode_response(self, predicted: Any) -> dict[str, Any]:
        """As JSON has it."""
        return {"predictions": plain(predicted)}


if __name__ == "__main__":
    server = litserve.LitServer(Service(), accelerator="cpu", workers_per_device=1)
    server.run(port=int(sys.argv[1]), host="127.0.0.1", generate_client_file=False, log_level="warning")
