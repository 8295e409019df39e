"""Files of registered model versions, for those who serve and show them."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from millpond.identity.domain import Principal
from millpond.identity.middleware import acting_as
from millpond.kernel.errors import InvalidArgument, NotFound
from millpond.tracking.artifact_files import ArtifactFiles
from millpond.tracking.domain import ARTIFACT_SCHEME, check_relative_path
from millpond.tracking.translation import millpond_errors

if TYPE_CHECKING:
    from millpond.tracking.embed import Stores


class VersionFiles:
    """Finds and copies a version's files, as the principal who asks."""

    def __init__(self, stores: Callable[[], "Stores"], files: Callable[[], ArtifactFiles]) -> None:
        self._stores = stores
        self._files = files

    def locate(self, principal: Principal, name: str, version: str) -> str:
        """Where a version's files are below the artifact root.

        Raises NotFound without the version or the right to read it.
        """
        with acting_as(principal), millpond_errors():
            stores = self._stores()
            uri = stores.registry.get_model_version_download_uri(name, version)
            return artifact_path_of(uri, stores.tracking)

    def read(self, principal: Principal, name: str, version: str, path: str, *, max_bytes: int) -> bytes:
        """A small file of a version. Raises NotFound, InvalidArgument when it is larger."""
        place = f"{self.locate(principal, name, version)}/{check_relative_path(path)}"
        with self._local(place) as file:
            if file.stat().st_size > max_bytes:
                raise InvalidArgument(
                    f"File '{path}' of model '{name}' version {version} is larger than {max_bytes} bytes."
                )
            return file.read_bytes()

    def download(self, source: str, destination: Path) -> None:
        """Copy all files below a place that `locate` gave into an existing directory. Raises NotFound without files."""
        if self._copy(source, destination) == 0:
            raise NotFound(f"The model's files at '{source}' are gone.")

    def _copy(self, source: str, destination: Path) -> int:
        copied = 0
        for name, is_directory, _size in self._files().list(source):
            place, target = f"{source}/{name}", destination / name
            if is_directory:
                target.mkdir()
                copied += self._copy(place, target)
            else:
                with self._local(place) as file:
                    shutil.copyfile(file, target)
                copied += 1
        return copied

    @contextmanager
    def _local(self, place: str) -> Iterator[Path]:
        file, is_copy = self._files().fetch(place)
        try:
            yield file
        finally:
            if is_copy:
                file.unlink()
                file.parent.rmdir()


def artifact_path_of(uri: str, tracking: Any) -> str:
    """The path below the artifact root of a version's location, which may name a run or a logged model.

    `tracking` is MLflow's tracking store. Raises InvalidArgument for other places.
    """
    parts = urlsplit(uri)
    if parts.scheme == ARTIFACT_SCHEME:
        return parts.path.strip("/")
    if parts.scheme == "runs":
        run_id, _, path = parts.path.strip("/").partition("/")
        root = tracking.get_run(run_id).info.artifact_uri
        return f"{urlsplit(root).path.strip('/')}/{check_relative_path(path)}"
    if parts.scheme == "models" and parts.path.strip("/").startswith("m-"):
        model = tracking.get_logged_model(parts.path.strip("/"))
        return urlsplit(str(model.artifact_location)).path.strip("/")
    raise InvalidArgument(f"The model's files at '{uri[:200]}' are not kept by this server.")
