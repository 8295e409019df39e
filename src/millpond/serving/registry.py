"""Model versions from MLflow's registry, and feature specs from the catalog."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from millpond.catalog.domain import ObjectName
from millpond.catalog.service import CatalogService
from millpond.feature_serving.specs import MAX_BYTES
from millpond.features.spec import FILE
from millpond.features.specs import LANGUAGE
from millpond.identity.access import Act, require
from millpond.identity.domain import Principal
from millpond.kernel.errors import InvalidArgument, NotFound
from millpond.serving.domain import ModelVersion
from millpond.serving.ports import DESCRIPTION, MAX_DESCRIPTION_BYTES, Named
from millpond.serving.references import Reference
from millpond.tracking.domain import canonical_model_name, is_three_level
from millpond.tracking.model_files import VersionFiles
from millpond.tracking.watch import Target, TargetKind

Holders = Callable[[Collection[tuple[str, Target]]], Mapping[tuple[str, Target], int]]
"""Which versions of models have which aliases, or are the newest in which stages."""

Mover = Callable[[str, Target, int], str | None]
"""Who let an alias or stage of a model name a version."""


class RegistryModels:
    """The `ModelSource` of a Millpond."""

    def __init__(self, files: VersionFiles, catalog: CatalogService, holders: Holders, mover: Mover) -> None:
        self._files = files
        self._catalog = catalog
        self._holders = holders
        self._mover = mover

    def find_version(self, principal: Principal, name: str, version: str) -> ModelVersion:
        """A version by its number, or a feature spec. Raises NotFound without it, or without the right to read it."""
        if not version:
            return self._find_spec(principal, name)
        if not version.isdecimal() or len(version) > 9 or "\0" in name:
            raise NotFound(
                f"Version '{version[:80]}' of model '{name[:200]}' does not exist; versions are numbers, "
                "and an alias is written '@NAME'."
            )
        name, number = canonical_model_name(name), str(int(version))
        source = self._files.locate(principal, name, number)
        return ModelVersion(name=name, version=number, source=source)

    def find_referenced(self, principal: Principal, name: str, reference: Reference) -> ModelVersion:
        """The version that an alias or a stage names now. Raises NotFound, also without the right to read it."""
        asked = (canonical_model_name(name), reference)
        number = self.heads([asked]).get(asked)
        # nobody learns by another message that there is such a model: without a number, a version that never is
        try:
            return self.find_version(principal, name, number or "0")
        except NotFound as error:
            raise NotFound(f"No version of model '{name[:200]}' has {reference.words}.") from error

    def heads(self, asked: Collection[Named]) -> Mapping[Named, str]:
        """The numbers of what models and references name now."""
        targets = {(name, _target(each)): (name, each) for name, each in asked}
        return {targets[target]: str(number) for target, number in self._holders(list(targets)).items()}

    def moved_by(self, name: Named, version: str) -> str | None:
        """Who let a reference name a version, by the registry's record."""
        return self._mover(name[0], _target(name[1]), int(version))

    def find_spec(self, principal: Principal, model: ModelVersion) -> str | None:
        """What `FeatureEngineeringClient.log_model` wrote beside the model."""
        if model.is_spec:
            return model.source
        try:
            return self._files.read(principal, model.name, model.version, FILE, max_bytes=MAX_BYTES).decode()
        except NotFound:
            return None
        except UnicodeDecodeError as error:
            raise InvalidArgument(
                f"'{FILE}' of model '{model.name}' version {model.version} is no text in UTF-8; log the model again."
            ) from error

    def describe(self, principal: Principal, model: ModelVersion) -> str:
        """The text of a version's MLmodel file. Raises NotFound."""
        found = self._files.read(principal, model.name, model.version, DESCRIPTION, max_bytes=MAX_DESCRIPTION_BYTES)
        return found.decode(errors="replace")

    def _find_spec(self, principal: Principal, name: str) -> ModelVersion:
        found = self._catalog.look_up_function(ObjectName.of_full_name(name)) if is_three_level(name) else None
        if found is None:
            raise NotFound(f"Feature spec '{name[:800]}' does not exist; a model needs entity_version.")
        require(principal, Act.USE, found.securable)
        if found.definition.get("external_language") != LANGUAGE:
            raise InvalidArgument(f"'{name}' is a function and no feature spec, which create_feature_spec makes.")
        return ModelVersion(name=str(found.name), version="", source=str(found.definition["routine_definition"]))

    def download(self, model: ModelVersion, destination: Path) -> None:
        """Copy the version's files. Raises NotFound when they are gone, Unavailable while MLflow is being loaded."""
        self._files.download(model.source, destination)


def _target(reference: Reference) -> Target:
    return Target(TargetKind(reference.kind.value), reference.name)
