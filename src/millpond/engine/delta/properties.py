"""Which table properties a Delta table here may have: known keys with valid values, none with a newer protocol."""

from collections.abc import Callable, Iterable, Mapping

from millpond.engine.errors import AnalysisError, unsupported

MAX_READER_VERSION = 1
MAX_WRITER_VERSION = 4
KEPT_LOG = {"delta.enableExpiredLogCleanup": "false"}
"""What tells every writer to remove nothing from a table's log."""


def _boolean(value: str) -> bool:
    return value.lower() in ("true", "false")


def _number(value: str) -> bool:
    return value.lstrip("-").isdecimal()


def _interval(value: str) -> bool:
    """`interval 3 days`, with the first word optional: delta-rs reads one number and one unit."""
    words = value.lower().split()
    words = words[1:] if words[:1] == ["interval"] else words
    units = {"nanosecond", "microsecond", "millisecond", "second", "minute", "hour", "day", "week"}
    return len(words) == 2 and words[0].isdecimal() and words[1].removesuffix("s") in units


def _any(value: str) -> bool:
    return True


_KNOWN: dict[str, tuple[Callable[[str], bool], str]] = {
    "delta.appendOnly": (_boolean, "true or false"),
    "delta.autoOptimize.autoCompact": (_any, ""),
    "delta.autoOptimize.optimizeWrite": (_any, ""),
    "delta.checkpoint.writeStatsAsJson": (_boolean, "true or false"),
    "delta.checkpoint.writeStatsAsStruct": (_boolean, "true or false"),
    "delta.checkpointInterval": (_number, "a whole number of commits"),
    "delta.dataSkippingNumIndexedCols": (_number, "a whole number"),
    "delta.dataSkippingStatsColumns": (_any, ""),
    "delta.deletedFileRetentionDuration": (_interval, "an interval such as `interval 7 days`"),
    "delta.enableExpiredLogCleanup": (_boolean, "true or false"),
    "delta.isolationLevel": (lambda v: v in ("Serializable", "WriteSerializable"), "Serializable or WriteSerializable"),
    "delta.logRetentionDuration": (_interval, "an interval such as `interval 30 days`"),
    "delta.parquet.compression.codec": (_any, ""),
    "delta.randomizeFilePrefixes": (_boolean, "true or false"),
    "delta.randomPrefixLength": (_number, "a whole number"),
    "delta.setTransactionRetentionDuration": (_interval, "an interval such as `interval 7 days`"),
    "delta.targetFileSize": (_any, ""),
    "delta.tuneFileSizesForRewrites": (_boolean, "true or false"),
}
_HARMLESS = {
    "delta.columnMapping.mode": "none",
    "delta.enableChangeDataFeed": "false",
    "delta.enableDeletionVectors": "false",
    "delta.enableRowTracking": "false",
    "delta.enableTypeWidening": "false",
}
_HINTS = {
    "delta.enableChangeDataFeed": "The embedded engine could then not write the table any more.",
    "delta.columnMapping.mode": "RENAME COLUMN and DROP COLUMN work here without column mapping.",
    "delta.enableTypeWidening": "ALTER COLUMN ... TYPE works here without it.",
}
_GIVEN = frozenset({"delta.feature.allowColumnDefaults", "delta.feature.timestampNtz", "delta.feature.appendOnly"})
"""Features that need no switch here: defaults and timestamp_ntz columns work; asking for them changes nothing."""


def checked(properties: Mapping[str, str]) -> dict[str, str]:
    """The properties to store.

    Raises: `AnalysisError` for an unknown `delta.` key or a bad value; `UnsupportedError` for features we lack.
    """
    return {key: value for key, value in properties.items() if _storable(key, value)}


def _storable(key: str, value: str) -> bool:
    if not key.lower().startswith("delta."):
        return True
    known = next((name for name in _KNOWN if name.lower() == key.lower()), None)
    if known is not None:
        return _valid(known, value)
    if key in ("delta.minReaderVersion", "delta.minWriterVersion"):
        return _version_is_given(key, value)
    if key.startswith("delta.constraints."):
        raise AnalysisError(
            "DELTA_ADD_CONSTRAINTS", "Use ALTER TABLE ADD CONSTRAINT to add CHECK constraints.", sql_state="0A000"
        )
    if key in _GIVEN or _HARMLESS.get(key) == value.lower():
        return False
    if key in _HARMLESS or key.startswith(("delta.feature.", "delta.enable")):
        raise unsupported(
            f"The table property {key} = {value} needs a Delta table feature that this engine does not have. "
            f"{_HINTS.get(key, '')}".strip(),
            "DELTA_UNSUPPORTED_FEATURES_FOR_WRITE",
        )
    raise AnalysisError(
        "DELTA_UNKNOWN_CONFIGURATION",
        f"Unknown configuration was specified: {key}. Properties of your own must not start with `delta.`.",
        sql_state="F0000",
        parameters={"config": key},
    )


def _valid(key: str, value: str) -> bool:
    check, wanted = _KNOWN[key]
    if not check(value):
        raise AnalysisError(
            "DELTA_INVALID_PROPERTY_VALUE",
            f"The value {value!r} of table property {key} is not valid: it must be {wanted}.",
            sql_state="22023",
            parameters={"property": key, "value": value},
        )
    return True


def _version_is_given(key: str, value: str) -> bool:
    limit = MAX_READER_VERSION if key == "delta.minReaderVersion" else MAX_WRITER_VERSION
    if not value.isdecimal() or int(value) > limit:
        raise unsupported(
            f"{key} = {value}: tables here stay on {key} {limit} or lower, so that every engine can read them.",
            "DELTA_UNSUPPORTED_FEATURES_FOR_WRITE",
        )
    return False


def engine_can_append(names: Iterable[str], configuration: Mapping[str, str]) -> bool:
    """Whether Sail can append to a table with these columns and properties.

    Sail 0.7 looks the columns of a table with CHECK constraints up in lower case and splits them at periods; UPDATE,
    DELETE and MERGE are not affected. Such appends go through delta-rs (`delta.append`).
    """
    constrained = any(key.startswith("delta.constraints.") for key in configuration)
    return not constrained or not any(name != name.lower() or "." in name for name in names)


def keeps_log(configuration: Mapping[str, str]) -> bool:
    """Whether nothing is removed from the log of a table with these properties."""
    return all(configuration.get(key, "").lower() == value for key, value in KEPT_LOG.items())
