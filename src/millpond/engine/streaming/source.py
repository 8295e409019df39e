"""A Delta table as the source of a stream: which files come next, and which commits end the query.

Source: Delta Lake's documentation, "Table streaming reads and writes"; texts of errors are Delta's own.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from millpond.catalog.domain import Table
from millpond.engine.errors import AnalysisError, ExecutionError, unsupported
from millpond.engine.shaping import same_type
from millpond.engine.streaming.log import AddedFile, Commit, TableLog
from millpond.engine.streaming.offsets import BEFORE_ALL, Offset

_MAX_FILES = 1000
_SWITCHES = {"ignoredeletes": "ignore_deletes", "ignorechanges": "ignore_changes", "skipchangecommits": "skip_changes"}
_COUNTS = {"maxfilespertrigger": "max_files", "maxbytespertrigger": "max_bytes"}
_UNITS = {"b": 1, "k": 1 << 10, "kb": 1 << 10, "m": 1 << 20, "mb": 1 << 20, "g": 1 << 30, "gb": 1 << 30}


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """How a table is streamed."""

    starting_version: str | None = None
    """A number or `latest`; None begins with all that is there."""
    max_files: int = _MAX_FILES
    max_bytes: int | None = None
    """About as much of a batch's files, at least one."""
    ignore_deletes: bool = False
    ignore_changes: bool = False
    skip_changes: bool = False


def read_options(options: Mapping[str, str]) -> ReadOptions:
    """The options of a streaming read, whatever their case. Raises AnalysisError for one that is not known or wrong."""
    found: dict[str, Any] = {}
    for key, value in options.items():
        name = key.lower()
        if name == "startingversion":
            found["starting_version"] = _version(value)
        elif name in _SWITCHES:
            found[_SWITCHES[name]] = _switch(key, value)
        elif name in _COUNTS:
            found[_COUNTS[name]] = _count(key, value)
        else:
            raise unsupported(
                f"The option '{key}' of a streaming read. Known are startingVersion, maxFilesPerTrigger, "
                "maxBytesPerTrigger, ignoreDeletes, ignoreChanges and skipChangeCommits."
            )
    return ReadOptions(**found)


def _version(value: str) -> str:
    text = value.strip().lower()
    if text != "latest" and not text.isdecimal():
        raise _wrong("startingVersion", value, "a version number or 'latest'")
    return text


def _switch(key: str, value: str) -> bool:
    if value.strip().lower() not in {"true", "false"}:
        raise _wrong(key, value, "'true' or 'false'")
    return value.strip().lower() == "true"


def _count(key: str, value: str) -> int:
    digits = value.strip().rstrip("bkmgBKMG")
    unit = value.strip()[len(digits) :].lower() or "b"
    is_bytes = key.lower() == "maxbytespertrigger"
    if not digits.isdecimal() or unit not in _UNITS or (unit != "b" and not is_bytes) or int(digits) < 1:
        raise _wrong(key, value, "a size such as 10m" if is_bytes else "a number from 1")
    return int(digits) * _UNITS[unit]


def _wrong(key: str, value: str, wanted: str) -> AnalysisError:
    return AnalysisError(
        "DELTA_ILLEGAL_OPTION", f"Invalid value '{value}' for option '{key}', must be {wanted}.", sql_state="42616"
    )


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What a batch reads of one source."""

    start: Offset
    end: Offset
    files: tuple[AddedFile, ...]


class _NoLimit:
    """A batch that takes all there is."""

    def has_place(self, file: AddedFile | None, version: int) -> bool:
        """Whether it takes one more file, or passes over a version without any."""
        return True


class _Room(_NoLimit):
    """A batch that takes as much as the options say, at least one file."""

    def __init__(self, options: ReadOptions) -> None:
        self._files = options.max_files
        self._bytes = options.max_bytes
        self._is_empty = True

    def has_place(self, file: AddedFile | None, version: int) -> bool:
        if file is None:
            return True
        self._files -= 1
        if self._bytes is not None:
            self._bytes -= file.size_bytes
        fits = self._files >= 0 and (self._bytes is None or self._bytes >= 0)
        fits, self._is_empty = fits or self._is_empty, False
        return fits


class _OneCommit(_NoLimit):
    """A batch that takes the first commit with files, and all of it."""

    def __init__(self) -> None:
        self._version: int | None = None

    def has_place(self, file: AddedFile | None, version: int) -> bool:
        if self._version is None and file is not None:
            self._version = version
        return self._version in {None, version}


class Source:
    """One streaming read of one run of a query. Its methods block."""

    def __init__(self, table: Table, log: TableLog, options: ReadOptions) -> None:
        """`table` as it is when the run begins: its columns stay those of the run."""
        self.table = table
        self.log = log
        self.options = options
        self.shape = log.shape()
        self._fields = {field["name"].lower(): field for field in json.loads(self.shape.schema)["fields"]}
        self._snapshot: tuple[int, tuple[AddedFile, ...]] | None = None

    def first(self) -> Offset:
        """Where a query without a checkpoint begins. Raises AnalysisError for a version that is not there."""
        newest, wanted = self.log.newest(), self.options.starting_version
        if wanted is None:
            return Offset(version=newest, snapshot=True)
        if wanted == "latest":
            return Offset(version=newest + 1)
        if int(wanted) > newest or not self.log.has(int(wanted)):
            raise AnalysisError(
                "DELTA_VERSION_NOT_FOUND",
                f"Cannot stream {self.table.name} from version {wanted}: its newest version is {newest}, and commits "
                "older than the log's retention are gone. Leave startingVersion out to begin with all its rows.",
                sql_state="22003",
            )
        return Offset(version=int(wanted))

    def has_more(self, offset: Offset) -> bool:
        """Whether there may be something behind an offset; cheap."""
        return offset.snapshot or offset.index > BEFORE_ALL or self.log.has(offset.version)

    def take(self, start: Offset, *, until: int | None = None, limited: bool = True, one_commit: bool = False) -> Taken:
        """What comes next, of versions up to `until`, within the limits of the options where `limited`.

        With `one_commit`, all files of one version. Raises SparkError for a commit that may not be passed.
        """
        room = _OneCommit() if one_commit else _Room(self.options) if limited else _NoLimit()
        files: list[AddedFile] = []
        end = start
        for file, version, after in self._steps(start, until):
            if not room.has_place(file, version):
                break
            if file is not None:
                files.append(file)
            end = after
        return Taken(start=start, end=end, files=tuple(files))

    def between(self, start: Offset, end: Offset) -> Taken:
        """What a batch reads whose offsets are in the checkpoint."""
        files: list[AddedFile] = []
        if start >= end:
            return Taken(start=start, end=end, files=())
        until = end.version if end.index > BEFORE_ALL else end.version - 1  # what is behind the end is not looked at
        for file, _, after in self._steps(start, until):
            if after > end:
                break
            if file is not None:
                files.append(file)
        return Taken(start=start, end=end, files=tuple(files))

    def _steps(self, start: Offset, until: int | None) -> Iterator[tuple[AddedFile | None, int, Offset]]:
        """Files behind an offset, each with its version and the offset behind it; None for versions without any."""
        version, index = start.version, start.index
        if start.snapshot:
            yield from _numbered(self._files_at(version), version, index, snapshot=True)
            version, index = version + 1, BEFORE_ALL
        while until is None or version <= until:
            commit = self.log.commit(version)
            if commit is None:
                self._check_end(version)
                return
            yield from _numbered(self._passed(commit), version, index, snapshot=False)
            version, index = version + 1, BEFORE_ALL

    def _files_at(self, version: int) -> tuple[AddedFile, ...]:
        if self._snapshot is None or self._snapshot[0] != version:
            self._snapshot = (version, self.log.snapshot(version))
        return self._snapshot[1]

    def _check_end(self, version: int) -> None:
        """A version that is not there is still to come, or so old that its commit is gone."""
        newest = self.log.newest()
        if version <= newest and not self.log.has(version):
            raise ExecutionError(
                "DELTA_STREAMING_COMMITS_EXPIRED",
                f"The stream is to read version {version} of {self.table.name} next, but the log does not have it any "
                f"more; its newest version is {newest}. Begin anew at another checkpointLocation.",
                sql_state="22003",
            )

    def _passed(self, commit: Commit) -> tuple[AddedFile, ...]:
        """The files of a commit that the stream gets. Raises ExecutionError for one that is no append."""
        if commit.fields is not None:
            self._check_columns(commit)
        if commit.removed is None:
            return commit.added
        options = self.options
        if options.skip_changes:
            return ()
        if not commit.added:
            if options.ignore_deletes or options.ignore_changes:
                return ()
            raise _deleted(commit, str(self.table.name))
        if not options.ignore_changes:
            raise _updated(commit, str(self.table.name))
        return commit.added

    def _check_columns(self, commit: Commit) -> None:
        for field in commit.fields or ():
            known = self._fields.get(field["name"].lower())
            if known is None or not same_type(known["type"], field["type"]):
                raise ExecutionError(
                    "DELTA_SCHEMA_CHANGED_WITH_VERSION",
                    f"Detected schema change in version {commit.version} of {self.table.name}: column {field['name']}. "
                    "Please try restarting the query. If this issue repeats over and over without making progress, you "
                    "have made an incompatible schema change and need to start your query from scratch using a new "
                    "checkpoint directory.",
                    sql_state="KD007",
                )


def _numbered(
    files: tuple[AddedFile, ...], version: int, index: int, *, snapshot: bool
) -> Iterator[tuple[AddedFile | None, int, Offset]]:
    """The files of a version behind an index. Behind its last one stands the next version's beginning."""
    behind = Offset(version=version + 1)
    if len(files) <= index + 1:
        yield None, version, behind
    for number in range(index + 1, len(files)):
        is_last = number == len(files) - 1
        yield (
            files[number],
            version,
            behind if is_last else Offset(version=version, index=number, snapshot=snapshot),
        )


def _deleted(commit: Commit, shown: str) -> ExecutionError:
    return ExecutionError(
        "DELTA_SOURCE_IGNORE_DELETE",
        f"Detected deleted data (for example {commit.removed}) from streaming source {shown} at version "
        f"{commit.version}. This is currently not supported. If you'd like to ignore deletes, set the option "
        "'ignoreDeletes' to 'true'. If you would like the data to be processed again, begin anew at another "
        "checkpointLocation.",
        sql_state="0A000",
    )


def _updated(commit: Commit, shown: str) -> ExecutionError:
    return ExecutionError(
        "DELTA_SOURCE_TABLE_IGNORE_CHANGES",
        f"Detected a data update (for example {commit.removed}) in the source table {shown} at version "  # noqa: S608
        f"{commit.version}. This is currently not supported. If this is going to happen regularly and you are okay to "
        "skip changes, set the option 'skipChangeCommits' to 'true'. If you would like the data update to be "
        "reflected, begin anew at another checkpointLocation.",
        sql_state="0A000",
    )
