"""What MLflow's scoring code says: `python mlflow_reference.py DIRECTORY`, a request per line, an answer per line.

A line is JSON: `model` (a folder of the directory) and `body` (base64); the answer `status`, and `body` (base64) or
`error_code`. In a process of its own, because the tests themselves do not import mlflow.
"""

import base64
import json
import sys
import warnings
from functools import cache
from pathlib import Path

from mlflow.exceptions import MlflowException
from mlflow.pyfunc import load_model
from mlflow.pyfunc.scoring_server import invocations


@cache
def loaded(model: str):
    return load_model(str(Path(sys.argv[1]) / model))


def answer(model: str, body: bytes) -> dict:
    served = loaded(model)
    try:
        response = invocations(body, "application/json", served, served.metadata.get_input_schema())
    except MlflowException as error:
        return {"status": error.get_http_status_code(), "error_code": error.error_code}
    return {"status": response.status, "body": base64.b64encode(response.response.encode()).decode()}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(answer(asked["model"], base64.b64decode(asked["body"]))), flush=True)
