"""Files as sources and targets: which formats, which options, and how a catalog table becomes a place to read."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from millpond.catalog import locations
from millpond.catalog.domain import Table
from millpond.catalog.locations import VolumePath
from millpond.catalog.names import quote
from millpond.catalog.service import CatalogService
from millpond.engine.errors import AnalysisError, unsupported
from millpond.engine.needs import Needs
from millpond.engine.sessions import Session
from millpond.identity.domain import Principal

DEFAULT_FORMAT = "delta"
FORMATS = frozenset({"delta", "parquet", "csv", "json", "text", "orc", "avro", "binaryfile"})
"""All others (jdbc, Python data sources, Iceberg and Hive tables, ...) could reach what no permission covers."""

# What an option may not be about: credentials, other file systems, other places.
_REFUSED_OPTION = re.compile(
    r"(^|[._])(fs|hadoop|hive|jdbc)([._]|$)|password|secret|credential|access.?key|token|endpoint|proxy|^url$|^uri$"
    r"|^(driver|query|dbtable)$",
    re.IGNORECASE,
)


def is_path_format(part: str) -> bool:
    """Whether `part.`path`` reads files: the first part names a format."""
    return part.lower() in FORMATS


def check_options(options: Iterable[str]) -> None:
    """Refuse options that would reach beyond the files that were checked."""
    for key in options:
        if _REFUSED_OPTION.search(key):
            raise AnalysisError(
                "INSUFFICIENT_PERMISSIONS",
                f"The option '{key}' is not allowed: places and credentials come from the catalog.",
                sql_state="42501",
            )


def check_format(name: str) -> str:
    """The format in lower case. Raises for sources that are not files of a known kind."""
    lowered = (name or DEFAULT_FORMAT).lower()
    lowered = lowered.rpartition(".")[2] if lowered.startswith("org.apache.spark.sql.") else lowered
    if lowered not in FORMATS:
        raise AnalysisError(
            "DATA_SOURCE_NOT_FOUND",
            f"Failed to find the data source: {name}. This server reads and writes {', '.join(sorted(FORMATS))}.",
            sql_state="42K02",
            parameters={"provider": name},
        )
    return lowered


def check_read(catalog: CatalogService, principal: Principal, source: Any, needs: Needs, *, keep_paths: bool) -> None:
    """Check a DataSource read and put locations in the place of its paths, unless they are to be kept as written."""
    source.format = check_format(source.format)
    if source.predicates:
        raise unsupported("Predicates of a JDBC read.")
    paths = [*source.paths, *_take_paths(source.options)]
    check_options(source.options)
    if not paths:
        raise AnalysisError("UNABLE_TO_INFER_SCHEMA", f"Give a path to read {source.format} from.", sql_state="42KD9")
    found = [reach(catalog, principal, path, needs, write=False) for path in paths]
    del source.paths[:]
    source.paths.extend(paths if keep_paths else found)


def reach(catalog: CatalogService, principal: Principal, path: str, needs: Needs, *, write: bool) -> str:
    """The location of a path that the principal may read (or write); noted as needed.

    Raises PermissionDenied, NotFound, InvalidArgument.
    """
    location = catalog.check_path(principal, path, write=write)
    volume = locations.find_volume_path(path)
    place = _volume_root(location, volume) if volume is not None else locations.without_glob(location)
    if write:
        needs.write(place, path)
    else:
        needs.read(place, path)
    needs.names[location] = path
    return location


def _volume_root(location: str, path: VolumePath) -> str:
    for _ in path.parts:
        location = location.rpartition("/")[0]
    return location


def _take_paths(options: Any) -> list[str]:
    """The option `path` in any case, taken out."""
    keys = [key for key in options if key.lower() in {"path", "paths", "basepath"}]
    for key in keys:
        if key.lower() != "path":
            raise unsupported(f"The option '{key}'; give the paths themselves.")
    return [options.pop(key) for key in keys]


def read_table(source: Any, table: Table) -> None:
    """Make `source` (a DataSource) read a catalog table."""
    source.format = check_format(table.data_source_format)
    source.paths.append(table.storage_location)
    if source.format != "delta" and table.columns:
        source.schema = ", ".join(f"`{c.name.replace('`', '``')}` {c.type_text}" for c in table.columns)
        for key, value in table.properties.items():
            if key.startswith("option."):
                source.options[key.removeprefix("option.")] = value


def set_as_of(source: Any, version: str | None, timestamp: str | None, session: Session) -> None:
    """Read an earlier state of a Delta table."""
    if version is None and timestamp is None:
        return
    if source.format != "delta":
        raise unsupported(f"Time travel on a table of format {source.format}.")
    if version is not None:
        if not version.strip().isdecimal():
            raise AnalysisError(
                "INVALID_TIME_TRAVEL_SPEC", f"VERSION AS OF '{version}' is not a whole number.", sql_state="42K0E"
            )
        source.options["versionAsOf"] = version.strip()
    else:
        source.options["timestampAsOf"] = _instant(str(timestamp), session)


def normalise_as_of(options: Any, session: Session) -> None:
    """Write the reader's timestamp option as the engine wants it."""
    for key in list(options):
        if key.lower() == "timestampasof":
            options[key] = _instant(options[key], session)


def _instant(text: str, session: Session) -> str:
    """A timestamp as users write it, in the session's time zone, as RFC 3339 in UTC."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise AnalysisError(
            "INVALID_TIME_TRAVEL_TIMESTAMP_EXPR.INPUT",
            f'The time travel timestamp expression "{text}" is invalid: cannot be cast to the "TIMESTAMP" type.',
            sql_state="42K0E",
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=_zone(session))
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _zone(session: Session) -> Any:
    try:
        return ZoneInfo(session.setting("spark.sql.session.timeZone") or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        return UTC


def refuse_as_of(parts: tuple[str, ...], version: str | None, timestamp: str | None) -> None:
    """Raises AnalysisError for time travel on a view."""
    if version is not None or timestamp is not None:
        raise AnalysisError(
            "UNSUPPORTED_FEATURE.TIME_TRAVEL",
            f"The feature is not supported: Time travel on the relation: {'.'.join(map(quote, parts))}, a view.",
            sql_state="0A000",
        )
