"""promote.py MODEL VERSION: makes the version the champion, if the model's policy lets it."""

import sys
import time

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

model_name, version = sys.argv[1:]
client = MlflowClient()
deadline = time.monotonic() + 900


def refusal() -> str:
    """Why the version was not promoted; empty where it was. The checks may take longer than one request waits."""
    while True:
        try:
            client.set_registered_model_alias(model_name, "champion", version)
            return ""
        except MlflowException as error:
            if "still works" not in str(error) or time.monotonic() > deadline:
                return str(error)


reason = refusal()
dbutils.jobs.taskValues.set("promoted", "false" if reason else "true")
dbutils.jobs.taskValues.set("reason", reason)
print(reason or f"Version {version} of {model_name} is the champion.")
