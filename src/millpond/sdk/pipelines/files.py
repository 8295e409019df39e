"""Files of a volume as a stream: each that comes is read once (Auto Loader: `cloudFiles`, and `read_files` in SQL).

What was found is noted in a table beside the target, which is then the stream's source: its commits say which files
came together, and the target says up to which commit it has them.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from millpond.engine.syntax.cursor import Cursor
from millpond.sdk.dbutils.api import Api
from millpond.sdk.dbutils.fs import FileSystem
from millpond.sdk.pipelines.domain import PipelineFailed

_PREFIX = "cloudfiles."
_FORMATS = ("json", "csv", "parquet", "text", "avro", "orc", "binaryfile")
_IGNORED = frozenset({
    "schemalocation", "infercolumntypes", "schemaevolutionmode", "usenotifications", "maxfilespertrigger",
    "maxbytespertrigger", "usemanagedfileevents", "validateoptions",
})  # fmt: skip
"""Options of Auto Loader that say how, and not what; columns are inferred from all files there are."""
_GLOB = frozenset("*?[")


@dataclass(frozen=True, kw_only=True)
class FileSource:
    """Files that are read as a stream."""

    path: str
    """A directory of a volume, perhaps with `*`, or a file."""
    format: str
    options: tuple[tuple[str, str], ...]
    schema: str
    """As the user gave it; empty where the files say."""
    name_filter: str

    def put(self, relation: Any, paths: Sequence[str], schema: str = "") -> None:
        """Make a relation read files now."""
        source = relation.read.data_source
        relation.read.is_streaming = False
        source.Clear()
        source.format = self.format
        source.options.update(dict(self.options))
        source.paths.extend(paths)
        if schema or self.schema:
            source.schema = schema or self.schema

    @property
    def key(self) -> str:
        """By which files are noted."""
        return f"{self.path} {self.name_filter}".strip()


def source_of(read: Any) -> FileSource:
    """What a streaming read of files asks for. Raises PipelineFailed for what cannot be."""
    given = {key.lower(): value for key, value in read.options.items()}
    own = {key.removeprefix(_PREFIX): given.pop(key) for key in list(given) if key.startswith(_PREFIX)}
    paths = [*read.paths, *([given.pop("path")] if "path" in given else [])]
    form = read.format.lower()
    form = own.pop("format", "").lower() if form == "cloudfiles" else form
    unknown = next((key for key in own if key not in _IGNORED), None)
    if form not in _FORMATS:
        raise PipelineFailed(f"Streams are of tables, or of files of the formats {', '.join(_FORMATS)}; not '{form}'.")
    if unknown is not None:
        raise PipelineFailed(f"The option cloudFiles.{unknown} is not there.")
    if len(paths) != 1 or not paths[0].removeprefix("dbfs:").startswith("/Volumes/"):
        raise PipelineFailed(f"Files are streamed from one path of a volume, /Volumes/..., and not from {paths}.")
    name_filter = given.pop("pathglobfilter", "")
    for name in ("maxfilespertrigger", "maxbytespertrigger"):
        given.pop(name, None)
    return FileSource(
        path=paths[0].removeprefix("dbfs:").rstrip("/"), format=form, options=tuple(sorted(given.items())),
        schema=read.schema, name_filter=name_filter,
    )  # fmt: skip


def listed(source: FileSource) -> list[str]:
    """The files that are there now, by name; not those whose names, or directories', begin with `_` or `.`."""
    system = FileSystem(Api(os.environ["DATABRICKS_HOST"], os.environ["DATABRICKS_TOKEN"]))
    parts = source.path.split("/")
    fixed = next((at for at, part in enumerate(parts) if _GLOB.intersection(part)), len(parts))
    try:
        found = list(_walked(system, "/".join(parts[:fixed]), parts[fixed:]))
    except FileNotFoundError as error:
        raise PipelineFailed(f"'{source.path}' does not exist, or you may not read it.") from error
    name_filter = source.name_filter or "*"
    return sorted(path for path in found if fnmatchcase(path.rpartition("/")[2], name_filter))


def _walked(system: FileSystem, directory: str, patterns: Sequence[str]) -> Iterator[str]:
    for each in system.ls(directory):
        name = each.name.rstrip("/")
        if name[:1] in {"_", "."} or (patterns and not fnmatchcase(name, patterns[0])):
            continue
        if not each.isDir():
            if len(patterns) <= 1:
                yield each.path.removeprefix("dbfs:")
        else:
            yield from _walked(system, each.path.removeprefix("dbfs:").rstrip("/"), patterns[1:])


def of_arguments(text: str, relation: Any) -> None:
    """Make a relation read what `read_files('path', key => value, ...)` says; `text` stands in the parentheses.

    Raises ParseError, PipelineFailed.
    """
    cursor = Cursor(text)
    relation.read.data_source.paths.append(cursor.string())
    options = {}
    while cursor.accept(","):
        name = cursor.identifier()
        if not cursor.accept("=>"):
            cursor.expect("=", ">")
        options[name.lower()] = cursor.string() if cursor.sees_string() else cursor.take().text
    cursor.expect_end()
    if "format" not in options:
        raise PipelineFailed("read_files takes format => '...' here.")
    relation.read.data_source.format = options.pop("format")
    relation.read.data_source.schema = options.pop("schema", "")
    relation.read.data_source.options.update({key: options[key] for key in options if key not in _IGNORED})
