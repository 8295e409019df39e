"""What the process of an update is told: settings, and sources got with the rights of whom the pipeline runs as."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from millpond.catalog.files import Files
from millpond.identity.domain import Principal
from millpond.jobs.code import Code
from millpond.jobs.fetching import VOLUMES
from millpond.kernel.environments import clean_requirements
from millpond.kernel.errors import InvalidArgument
from millpond.pipelines.domain import Pipeline, Update
from millpond.pipelines.settings import EVERYTHING_BELOW, requirements
from millpond.secrets.references import References
from millpond.workspace.domain import ObjectType
from millpond.workspace.notebooks import Language, from_jupyter, source_language, to_source
from millpond.workspace.service import WorkspaceService

_ENDS = (".py", ".sql", ".ipynb")
_MOST_SOURCES = 1000
_MOST_LOOKED_AT = 20_000
_LARGEST_BYTES = 10 << 20
"""Of all sources."""
_EVERYBODYS = ("", "/Users", "/Shared", "/Workspace", "/Workspace/Users", "/Workspace/Shared")
"""In these anybody may make files."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Gets them."""

    code: Code
    files: Files
    workspace: WorkspaceService
    references: References

    def order(
        self, principal: Principal, pipeline: Pipeline, update: Update, directory: Path
    ) -> tuple[dict[str, Any], Sequence[str]]:
        """What the process is told, and the packages that it needs besides; modules are put into the directory.

        Raises MillpondError for what cannot be had.
        """
        settings, asked = update.settings, update.asked
        texts = {name: self.references.resolve(principal, text) for name, text in _configuration(settings).items()}
        paths = list(dict.fromkeys(self._paths(principal, settings)))
        if not paths:
            raise InvalidArgument(f"Pipeline '{pipeline.name}' has no sources; give it libraries.")
        spec = {
            "pipeline_id": pipeline.id, "pipeline_name": pipeline.name, "update_id": update.id,
            "catalog": settings["catalog"], "schema": settings.get("schema") or settings.get("target"),
            "configuration": {name: found.text for name, found in texts.items()},
            "development": update.is_development,
            "continuous": bool(settings.get("continuous")) and not asked.validate_only,
            "validate_only": asked.validate_only, "full_refresh": asked.full_refresh,
            "refresh_selection": list(asked.refresh_selection),
            "full_refresh_selection": list(asked.full_refresh_selection),
            "parameters": {**(settings.get("parameters") or {}), **asked.parameters},
            "sources": self._read(principal, paths),
        }  # fmt: skip
        secrets = [value for found in texts.values() for value in found.values]
        beside = self._modules(principal, settings, paths, directory)
        names, files = requirements(settings)
        more = clean_requirements([*names, *(self.code.text(principal, path) for path in files)])
        return {"update": spec, "secrets": secrets, "beside": beside}, more

    def _paths(self, principal: Principal, settings: Mapping[str, Any]) -> Iterator[str]:
        for library in settings.get("libraries") or ():
            if "glob" in library:
                include = library["glob"]["include"]
                if not include.endswith(EVERYTHING_BELOW):
                    yield include
                else:
                    yield from self._below(principal, _single(include.removesuffix(EVERYTHING_BELOW)))
            elif found := library.get("notebook") or library.get("file"):
                yield found["path"]

    def _below(self, principal: Principal, root: str) -> Iterator[str]:
        """The sources in a directory and those below it, by name."""
        if root in _EVERYBODYS:
            raise InvalidArgument(
                f"glob.include: in '{root or '/'}' anybody may make files; name a directory of yours."
            )
        waiting, looked_at = [root], 0
        found: list[str] = []
        while waiting:
            place = waiting.pop()
            for name, is_directory, is_source in self._inside(principal, place):
                looked_at += 1
                if looked_at > _MOST_LOOKED_AT or len(found) > _MOST_SOURCES:
                    raise InvalidArgument(f"'{root}' has more than {_MOST_SOURCES} sources, or too much beside them.")
                if is_directory:
                    waiting.append(f"{place}/{name}")
                elif is_source:
                    found.append(f"{place}/{name}")
        yield from sorted(found)

    def _inside(self, principal: Principal, place: str) -> Iterator[tuple[str, bool, bool]]:
        """Names in a directory: whether each is one, and whether it is a source."""
        if not place.startswith(VOLUMES):
            for each in self.workspace.list(principal, place):
                is_notebook = each.type is ObjectType.NOTEBOOK
                yield each.path.name, each.type is ObjectType.DIRECTORY, is_notebook or each.path.name.endswith(_ENDS)
            return
        token: str | None = ""
        while token is not None:
            listing = self.files.list_directory(principal, place, page_token=token or None)
            for entry in listing.entries:
                yield entry.name, entry.is_directory, entry.name.endswith(_ENDS)
            token = listing.next_token

    def _read(self, principal: Principal, paths: Sequence[str]) -> list[dict[str, str]]:
        sources, size = [], 0
        for path in paths:
            data = self.code.data(principal, path, _LARGEST_BYTES)
            size += len(data)
            if size > _LARGEST_BYTES:
                raise InvalidArgument(f"The sources of the pipeline have more than {_LARGEST_BYTES >> 20} MiB.")
            sources.append(source_of(path, data))
        return sources

    def _modules(
        self, principal: Principal, settings: Mapping[str, Any], paths: Sequence[str], directory: Path
    ) -> list[str]:
        """Directories in which the process finds modules: a copy of the root, else of what lies beside each source."""
        if root := settings.get("root_path"):
            place = directory / "root"
            place.mkdir()
            self.code.copy(principal, _single(root), place)
            return [str(place)]
        first = {str(PurePosixPath(path).parent): path for path in reversed(paths)}
        return [
            self.code.modules(principal, path, directory / f"beside-{number}")
            for number, path in enumerate(first.values())
        ]


def _single(path: str) -> str:
    """A path whose parts have one slash between them, as the workspace reads it; empty for its root."""
    return "".join(f"/{part}" for part in path.split("/") if part)


def source_of(path: str, data: bytes) -> dict[str, str]:
    """A source as a process is told of it. Raises InvalidArgument for what is none."""
    try:
        text = to_source(from_jupyter(data)) if path.endswith(".ipynb") else data.decode("utf-8-sig")
    except ValueError as error:
        raise InvalidArgument(f"{path} cannot be read: {str(error)[:200]}") from error
    language = source_language(text)
    if language not in (None, Language.PYTHON, Language.SQL):
        raise InvalidArgument(f"{path} is in {language.capitalize()}; pipelines are written in Python and SQL.")
    if language is Language.PYTHON:
        return {"path": path, "kind": "notebook", "text": text}
    kind = "sql" if language is Language.SQL or path.endswith(".sql") else "python"
    return {"path": path, "kind": kind, "text": text}


def _configuration(settings: Mapping[str, Any]) -> Mapping[str, str]:
    return settings.get("configuration") or {}
