"""A pipeline's settings as the Pipelines API writes them, checked. They are kept as they were sent.

What Millpond does not have is refused by its name, at once.
Source: databricks-sdk 0.156, `databricks/sdk/service/pipelines.py`.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from millpond.catalog.names import SchemaName
from millpond.kernel.environments import clean_requirements
from millpond.kernel.errors import InvalidArgument, NotImplementedHere
from millpond.kernel.shapes import validated
from millpond.kernel.storable import storable
from millpond.notifications.domain import Target
from millpond.pipelines.domain import Asked
from millpond.secrets.references import has_references

EVERYTHING_BELOW = "/**"
_FILE = ("-r /", "-r dbfs:/")
RETRIES = "pipelines.numUpdateRetryAttempts"
"""In `configuration`: how often an update that failed is tried again."""
_MOST_RETRIES = 100
_MOST_PARAMETERS = 10_000
"""Characters of all parameters. Source: the reference of `parameters`."""
_ALERTS = ("on-update-success", "on-update-failure", "on-update-fatal-failure", "on-flow-failure")
_EMPTY: tuple[Any, ...] = (None, [], {}, "")
_Text = Annotated[str, Field(pattern=r"^[^\x00]*$", max_length=4096)]
_Name = Annotated[str, Field(pattern=r"^[^\x00]+$", max_length=255)]
_Path = Annotated[str, Field(pattern=r"^/[^\x00]+$", max_length=4096)]
_Strings = dict[_Text, Annotated[str, Field(pattern=r"^[^\x00]*$", max_length=100_000)]]


class _Known(BaseModel):
    model_config = ConfigDict(extra="allow")

    def refuse_unknown(self, what: str) -> None:
        """Raises NotImplementedHere for the first field that Millpond does not have."""
        for name, value in (self.model_extra or {}).items():
            if value not in _EMPTY:
                raise NotImplementedHere(f"{what} has {name[:60]}, which this Millpond's pipelines do not have.")


class _PathInput(_Known):
    path: _Path


class _GlobInput(_Known):
    include: _Path


class LibraryInput(_Known):
    """Code, or what code needs."""

    notebook: _PathInput | None = None
    file: _PathInput | None = None
    glob: _GlobInput | None = None
    whl: _Path | None = None


class NotificationsInput(_Known):
    """Who is told of what."""

    alerts: list[Literal["on-update-success", "on-update-failure", "on-update-fatal-failure", "on-flow-failure"]]
    email_recipients: list[Annotated[str, Field(max_length=320)]] = Field(max_length=50)


class EnvironmentInput(_Known):
    """Packages."""

    dependencies: list[_Text] | None = Field(default=None, max_length=200)
    environment_version: _Text | None = None


class RunAsInput(_Known):
    """Whose rights the updates have."""

    user_name: _Text | None = None
    service_principal_name: _Text | None = None


class SettingsInput(_Known):
    """All settings of a pipeline."""

    name: _Name
    catalog: _Text
    schema_: _Text | None = Field(default=None, alias="schema", serialization_alias="schema")
    target: _Text | None = None
    libraries: list[LibraryInput] | None = Field(default=None, max_length=1000)
    root_path: _Path | None = None
    configuration: _Strings | None = Field(default=None, max_length=1000)
    parameters: _Strings | None = Field(default=None, max_length=1000)
    continuous: bool | None = None
    development: bool | None = None
    tags: dict[_Text, _Text] | None = Field(default=None, max_length=25)
    notifications: list[NotificationsInput] | None = Field(default=None, max_length=5)
    environment: EnvironmentInput | None = None
    run_as: RunAsInput | None = None
    storage: _Text | None = None
    channel: Literal["CURRENT", "PREVIEW"] | None = None
    edition: _Text | None = None
    photon: bool | None = None
    serverless: bool | None = None
    clusters: list[dict[str, Any]] | None = Field(default=None, max_length=10)
    trigger: dict[str, Any] | None = None
    deployment: dict[str, Any] | None = None
    parent_path: _Text | None = None
    budget_policy_id: _Text | None = None
    usage_policy_id: _Text | None = None


class StartInput(_Known):
    """`start_update`."""

    full_refresh: bool | None = None
    refresh_selection: list[_Text] | None = Field(default=None, max_length=1000)
    full_refresh_selection: list[_Text] | None = Field(default=None, max_length=1000)
    validate_only: bool | None = None
    parameters: _Strings | None = None
    development: bool | None = None
    cause: str | None = None

    @property
    def asked(self) -> Asked:
        """What the update is to do. Raises InvalidArgument, NotImplementedHere."""
        self.refuse_unknown("The update")
        _check_parameters(self.parameters)
        return Asked.of(self.model_dump())


def checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings, where they are whole. Raises InvalidArgument, NotImplementedHere."""
    found = validated(SettingsInput, settings)
    found.refuse_unknown("The pipeline")
    for part in _parts(found):
        part.refuse_unknown(type(part).__name__.removeprefix("_").removesuffix("Input").lower())
    if (found.schema_ is None) == (found.target is None):
        raise InvalidArgument("A pipeline has one of schema and target: where its datasets are published.")
    SchemaName(found.catalog, found.schema_ or found.target or "")
    if set(found.trigger or ()) - {"manual"}:
        raise NotImplementedHere("trigger has cron; start the pipeline by a job that has a schedule.")
    for library in found.libraries or ():
        _check_library(library)
    _check_parameters(found.parameters)
    if found.environment is not None:
        clean_requirements(requirements(settings)[0])
    retries_of(settings)
    return _storable(found.model_dump(mode="json", exclude_none=True, by_alias=True))


def _storable(kept: dict[str, Any]) -> dict[str, Any]:
    """The settings, of which some hold whatever was sent. Raises InvalidArgument for what no database takes."""
    for name, value in kept.items():
        try:
            is_whole = storable(value) == value
        except RecursionError:
            is_whole = False
        if not is_whole:
            raise InvalidArgument(f"{name} has NUL, halves of characters, or is nested too deep; send it without them.")
    return kept


def _parts(found: SettingsInput) -> Iterator[_Known]:
    for library in found.libraries or ():
        yield library
        yield from (part for part in (library.notebook, library.file, library.glob) if part is not None)
    yield from found.notifications or ()
    yield from (part for part in (found.environment, found.run_as) if part is not None)


def _check_library(library: LibraryInput) -> None:
    given = [name for name in ("notebook", "file", "glob", "whl") if getattr(library, name) is not None]
    if len(given) != 1:
        raise InvalidArgument("A library is one of notebook, file, glob and whl.")
    if library.glob is not None and "*" in library.glob.include.removesuffix(EVERYTHING_BELOW):
        told = f"'{library.glob.include[:80]}' is a path, or a directory with {EVERYTHING_BELOW} behind it."
        raise InvalidArgument(f"glob.include: {told}")


def _check_parameters(parameters: Mapping[str, str] | None) -> None:
    if sum(len(name) + len(value) for name, value in (parameters or {}).items()) > _MOST_PARAMETERS:
        raise InvalidArgument(f"parameters have more than {_MOST_PARAMETERS:,} characters.")


def requirements(settings: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Packages of the index that sources need beside the server's own, and the paths of files that name more."""
    lines = [line for line in _dependencies(settings) if not _is_wheel(line)]
    files = [line[3:].strip() for line in lines if line.startswith(_FILE)]
    return [line for line in lines if not line.startswith(_FILE)], files


def wheels(settings: Mapping[str, Any]) -> list[str]:
    """The paths of wheels that sources need."""
    given = [each["whl"] for each in settings.get("libraries") or () if "whl" in each]
    return [*given, *filter(_is_wheel, _dependencies(settings))]


def _dependencies(settings: Mapping[str, Any]) -> list[str]:
    return (settings.get("environment") or {}).get("dependencies") or []


def _is_wheel(line: str) -> bool:
    return line.startswith(("/", "dbfs:/")) and line.endswith(".whl")


def retries_of(settings: Mapping[str, Any]) -> int:
    """How often an update that failed is tried again; not one of a pipeline that is being written. Raises
    InvalidArgument."""
    text = str((settings.get("configuration") or {}).get(RETRIES, "0"))
    if not (text.isascii() and text.isdecimal() and int(text[:4]) <= _MOST_RETRIES):
        raise InvalidArgument(f"configuration: {RETRIES} is a number from 0 to {_MOST_RETRIES}, not '{text[:40]}'.")
    return 0 if settings.get("development") else int(text)


def referring(settings: Mapping[str, Any]) -> Iterator[str]:
    """Texts of the configuration that refer to secrets."""
    yield from (text for text in (settings.get("configuration") or {}).values() if has_references(text))


def targets(settings: Mapping[str, Any], *alerts: str) -> list[Target]:
    """Who is told of some alerts, or of any where none is named."""
    wanted = set(alerts or _ALERTS)
    return [
        Target(address=address)
        for each in settings.get("notifications") or ()
        if wanted & set(each["alerts"])
        for address in each["email_recipients"]
    ]
