"""What is checked: a version of a model, or a feature spec of the catalog; found for who may read it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from millpond.catalog.domain import ObjectName
from millpond.catalog.service import CatalogService
from millpond.feature_serving.specs import MAX_BYTES, parse_spec
from millpond.features.spec import FILE, FeatureSpec
from millpond.features.specs import LANGUAGE
from millpond.identity.access import Act, Securable, require
from millpond.identity.domain import SYSTEM, Principal
from millpond.identity.middleware import acting_as
from millpond.kernel.database import Database
from millpond.kernel.errors import InvalidArgument, NotFound
from millpond.registry.models import securable_of, securable_with_key
from millpond.tracking.domain import canonical_model_name
from millpond.tracking.model_files import VersionFiles
from millpond.tracking.translation import millpond_errors

if TYPE_CHECKING:
    from millpond.tracking.embed import Stores

_MODEL = re.compile(r"models:/(?P<name>[^@/]+)(?:/(?P<version>\d{1,9})|@(?P<alias>.+))")


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A version of a model, or a feature spec."""

    securable: Securable
    name: str
    version: int | None = None
    """Of a model; None for a spec."""

    @property
    def key(self) -> str:
        """What it is kept under, whatever it is called later."""
        return self.securable.ids[0]

    @property
    def words(self) -> str:
        """As messages call it."""
        return f"Feature spec '{self.name}'" if self.version is None else f"Version {self.version} of '{self.name}'"


class Subjects:
    """Finds them."""

    def __init__(
        self, database: Database, catalog: CatalogService, stores: Callable[[], "Stores"], files: VersionFiles
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._stores = stores
        self._files = files

    def named(self, principal: Principal, text: str) -> Subject:
        """`models:/NAME/VERSION`, `models:/NAME@ALIAS`, or the full name of a feature spec. Raises NotFound."""
        found = _MODEL.fullmatch(text)
        if found is None:
            return self._spec(principal, text)
        name = canonical_model_name(found["name"])
        number = found["version"] or self._version_at(principal, name, found["alias"])
        self._files.locate(principal, name, number)
        return Subject(securable=self.model(principal, name), name=name, version=int(number))

    def model(self, principal: Principal, name: str) -> Securable:
        """A model that one may read. Raises NotFound, PermissionDenied."""
        with self._database.read() as connection:
            securable = securable_of(self._catalog, connection, canonical_model_name(name))
        require(principal, Act.READ, securable)
        return securable

    def kept(self, principal: Principal, key: str, version: int | None) -> Subject:
        """What is kept under a key, for who may read it. Raises NotFound, PermissionDenied."""
        if version is None:
            function = self._catalog.get_function_by_id(principal, key)
            require(principal, Act.USE, function.securable)
            return Subject(securable=function.securable, name=str(function.name))
        with self._database.read() as connection:
            securable = securable_with_key(self._catalog, connection, key)
        require(principal, Act.READ, securable)
        return Subject(securable=securable, name=securable.name, version=version)

    def spec(self, subject: Subject) -> FeatureSpec | None:
        """Its feature spec, for the server itself; None for a model without one. Raises InvalidArgument."""
        if subject.version is None:
            function = self._catalog.get_function(SYSTEM, ObjectName.of_full_name(subject.name))
            return parse_spec(str(function.definition["routine_definition"]))
        try:
            raw = self._files.read(SYSTEM, subject.name, str(subject.version), FILE, max_bytes=MAX_BYTES)
        except NotFound:
            return None
        return parse_spec(raw.decode(errors="replace"))

    def _spec(self, principal: Principal, text: str) -> Subject:
        if text.startswith("models:"):
            raise InvalidArgument(f"'{text[:200]}' is no version of a model; write models:/NAME/VERSION.")
        function = self._catalog.get_function(principal, ObjectName.of_full_name(text))
        require(principal, Act.USE, function.securable)
        if function.definition.get("external_language") != LANGUAGE:
            raise InvalidArgument(f"Function '{function.name}' is no feature spec.")
        return Subject(securable=function.securable, name=str(function.name))

    def _version_at(self, principal: Principal, name: str, alias: str) -> str:
        with acting_as(principal), millpond_errors():
            return str(self._stores().registry.get_model_version_by_alias(name, alias).version)
