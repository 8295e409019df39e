"""Answers requests for the model beside this file by MLflow's scoring protocol: `GET /ping`, `POST /invocations`.

The environment says where: HOST (0.0.0.0), PORT (8080).
"""

import os
from pathlib import Path


def main() -> None:
    """Serve until killed."""
    import mlflow.pyfunc
    import uvicorn
    from mlflow.pyfunc import scoring_server

    os.environ["_MLFLOW_IS_IN_SERVING_ENVIRONMENT"] = "true"
    model = mlflow.pyfunc.load_model(str(Path(__file__).with_name("model")))
    uvicorn.run(
        scoring_server.init(model),
        host=os.environ.get("HOST", "0.0.0.0"),  # noqa: S104 - of a container
        port=int(os.environ.get("PORT", "8080")),
        log_level="warning",
    )


if __name__ == "__main__":
    main()
