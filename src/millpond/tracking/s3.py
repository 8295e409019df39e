"""Access to an object store for MLflow. Imports MLflow, so only what loads MLflow may import this."""

import os
from typing import Any

from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository

from millpond.kernel.settings import S3Settings


class ThroughTheServer(ArtifactRepository):  # type: ignore[misc]
    """An object store whose files go through this server only.

    MLflow's own S3 repository can also presign URLs, and its server then tells clients to ask for them: past our door.
    """

    def __init__(self, inner: Any) -> None:
        super().__init__(inner.artifact_uri)
        self._inner = inner

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Send a file."""
        self._inner.log_artifact(local_file, artifact_path)

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Send a directory."""
        self._inner.log_artifacts(local_dir, artifact_path)

    def list_artifacts(self, path: str | None = None) -> Any:
        """What lies directly below a prefix."""
        return self._inner.list_artifacts(path)

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        self._inner._download_file(remote_file_path, local_path)

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Delete what starts with a prefix."""
        self._inner.delete_artifacts(artifact_path)


def s3_repository(root: str, s3: S3Settings) -> ThroughTheServer:
    """The store at an `s3://` root, with the settings' credentials."""
    os.environ["AWS_DEFAULT_REGION"] = s3.region  # MLflow's repository has no argument for it
    if s3.endpoint_url:
        os.environ["MLFLOW_S3_ENDPOINT_URL"] = s3.endpoint_url
    return ThroughTheServer(
        S3ArtifactRepository(root, access_key_id=s3.access_key_id, secret_access_key=s3.secret_access_key)
    )
