"""Model versions from MLflow's registry."""

from pathlib import Path

from millpond.identity.domain import Principal
from millpond.kernel.errors import NotFound
from millpond.serving.domain import ModelVersion
from millpond.tracking.domain import canonical_model_name
from millpond.tracking.model_files import VersionFiles


class RegistryModels:
    """The `ModelSource` of a Millpond."""

    def __init__(self, files: VersionFiles) -> None:
        self._files = files

    def find_version(self, principal: Principal, name: str, version: str) -> ModelVersion:
        """A version by its number. Raises NotFound without it, or without the right to read it."""
        if not version.isdecimal() or len(version) > 9 or "\0" in name:
            raise NotFound(f"Version '{version[:80]}' of model '{name[:200]}' does not exist; versions are numbers.")
        name, number = canonical_model_name(name), str(int(version))
        source = self._files.locate(principal, name, number)
        return ModelVersion(name=name, version=number, source=source)

    def download(self, model: ModelVersion, destination: Path) -> None:
        """Copy the version's files. Raises NotFound when they are gone, Unavailable while MLflow is being loaded."""
        self._files.download(model.source, destination)
