"""The model in Ray Serve: `ray_service.py PORT`."""

import sys
import threading
from typing import Any

import pandas as pd
import ray
from loaded import model, plain
from ray import serve
from starlette.requests import Request


@serve.deployment(max_ongoing_requests=100, logging_config={"enable_access_log": False})
class Service:
    """Takes columns and data."""

    def __init__(self) -> None:
        self.model = model()

    async def __call__(self, request: Request) -> dict[str, Any]:
        """Predictions for the rows."""
        given = await request.json()
        rows = pd.DataFrame(given["data"], columns=given["columns"])
        return {"predictions": plain(self.model.predict(rows))}


if __name__ == "__main__":
    ray.init(include_dashboard=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Service.bind(), route_prefix="/")
    threading.Event().wait()
