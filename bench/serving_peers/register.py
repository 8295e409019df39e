"""Puts an MLflow model of a folder into the registry: `register.py FOLDER NAME`."""

import sys

import mlflow

with mlflow.start_run() as run:
    mlflow.log_artifacts(sys.argv[1], "model")
mlflow.register_model(f"runs:/{run.info.run_id}/model", sys.argv[2])
