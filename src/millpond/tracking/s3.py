"""Access to an object store for MLflow's S3 repository, which reads it from the environment."""

import os

from millpond.kernel.settings import S3Settings


def s3_environment(s3: S3Settings) -> None:
    """Set what MLflow's repository and boto3 look for; credentials are passed as arguments instead."""
    os.environ["AWS_DEFAULT_REGION"] = s3.region
    if s3.endpoint_url:
        os.environ["MLFLOW_S3_ENDPOINT_URL"] = s3.endpoint_url
