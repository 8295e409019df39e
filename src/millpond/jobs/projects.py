"""Projects of dbt and MLflow: directories got with the rights of whom the task runs as, and what their processes are
told to do with them."""

import io
import re
import shutil
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from millpond.catalog.files import Files
from millpond.identity.domain import OPAQUE_PREFIX, Principal
from millpond.jobs.domain import Kind, Run, TaskRun, TaskSpec
from millpond.jobs.fetching import VOLUMES
from millpond.jobs.git_sources import GitSources
from millpond.kernel.environments import clean_requirements
from millpond.kernel.errors import InvalidArgument, NotFound, NotImplementedHere
from millpond.workspace.formats import Format
from millpond.workspace.service import WorkspaceService

DBT = ("dbt-core==1.11.16", "dbt-databricks==1.12.7")
"""Where a task of dbt names no packages. Later dbt-core brings a parser that PyPI alone does not have."""
_MOST_BYTES = 256 << 20
_MOST_FILES = 5000
"""And as many directories."""
_MOST_TEXT = 64 << 10
"""Of a file of YAML, which is parsed in the server."""
_EVERYBODYS = ("/", "/Shared", "/Users")
"""Directories of the workspace that are no project: whoever may make something there would be run."""


class Projects:
    """Gets projects from volumes, the workspace and repositories."""

    def __init__(self, files: Files, workspace: WorkspaceService, git: GitSources) -> None:
        self._files = files
        self._workspace = workspace
        self._git = git

    def order(
        self, principal: Principal, run: Run, spec: TaskSpec, task: TaskRun, directory: Path
    ) -> tuple[dict[str, Any], Sequence[str]]:
        """What the process is told, and the packages of its environment, where the task names none itself.

        Raises NotFound, PermissionDenied, InvalidArgument, NotImplementedHere.
        """
        body = task.order
        path = body.get("project_directory" if spec.kind is Kind.DBT else "uri") or ""
        if spec.from_git:
            root = _within(self._git.checkout(run, directory), path)
        else:
            root = directory / "project"
            root.mkdir()
            self.copy(principal, "/" + path.removeprefix("dbfs:").strip("/"), root)
        if spec.kind is Kind.DBT:
            _require(root / "dbt_project.yml", path)
            return {"project": str(root), "dbt": {**body, "token_prefix": OPAQUE_PREFIX}}, DBT
        _require(root / "MLproject", path)
        return {"project": str(root), "mlflow_project": dict(body)}, _packages_of_mlflow(root)

    def copy(self, principal: Principal, path: str, root: Path) -> None:
        """Put a directory of a volume or the workspace into an empty one. Raises NotFound, InvalidArgument."""
        if not path.startswith(VOLUMES):
            if path.removeprefix("/Workspace") in ("", *_EVERYBODYS):
                raise InvalidArgument(f"'{path}' is no project's directory; put it in one of its own below it.")
            archive = self._workspace.export(principal, path, Format.AUTO)
            if archive.file_type != "zip":
                raise InvalidArgument(f"'{path[:200]}' is a file; name the directory of the project.")
            with zipfile.ZipFile(io.BytesIO(archive.data)) as packed:
                packed.extractall(root)
            return
        if sum(1 for _ in self._download(principal, path, root)) == 0:
            raise NotFound(f"'{path[:200]}' has no files.")

    def _download(self, principal: Principal, path: str, root: Path) -> Iterator[str]:
        """Write the files of a volume's directory; yields each, and stops where they are too many."""
        waiting: list[tuple[str, str | None]] = [("", None)]
        count = size = directories = 0
        while waiting:
            below, token = waiting.pop()
            listing = self._files.list_directory(principal, path + below, page_token=token)
            waiting += [(below, listing.next_token)] if listing.next_token else []
            for entry in listing.entries:
                name = f"{below}/{entry.name}"
                if entry.is_directory:
                    directories += 1
                    if directories > _MOST_FILES:
                        raise InvalidArgument(f"The project at {path[:200]} has more than {_MOST_FILES:,} directories.")
                    (root / name[1:]).mkdir(parents=True, exist_ok=True)
                    waiting.append((name, None))
                    continue
                length = entry.size_bytes or 0
                count, size = count + 1, size + length
                if count > _MOST_FILES or size > _MOST_BYTES:
                    raise InvalidArgument(
                        f"The project at {path[:200]} has more than {_MOST_FILES:,} files or {_MOST_BYTES >> 20} MiB."
                    )
                with (root / name[1:]).open("wb") as stream:
                    for part in self._files.read(principal, path + name, start=0, length=length):
                        stream.write(part)
                yield name


def _within(repository: Path, path: str) -> Path:
    """A directory of a repository; `.git` is removed, as dbt and MLflow would ask git about it. Raises NotFound."""
    place = (repository / path).resolve()
    shutil.rmtree(repository / ".git", ignore_errors=True)
    if not place.is_relative_to(repository.resolve()) or not place.is_dir():
        raise NotFound(f"'{path[:200]}' is no directory of the repository at this commit.")
    return place


def _require(place: Path, path: str) -> None:
    if not place.is_file() or place.is_symlink():
        raise NotFound(f"'{path[:200]}' has no {place.name}, so it is not the directory of a project.")


def _packages_of_mlflow(root: Path) -> Sequence[str]:
    """The packages that a project's environment asks for, with MLflow; none where it leaves that to the server."""
    project = _read(root / "MLproject")
    for name in ("conda_env", "docker_env"):
        if project.get(name):
            raise NotImplementedHere(f"The MLproject has {name}; give python_env, or environment_key of the task.")
    if not (named := project.get("python_env")):
        return ()
    if not isinstance(named, str):
        raise InvalidArgument("python_env of the MLproject is no name of a file.")
    place = (root / named).resolve()
    if not place.is_relative_to(root.resolve()):
        raise InvalidArgument(f"python_env of the MLproject, '{named[:80]}', is not in the project.")
    _require(place, named)
    environment = _read(place)
    ours = "{}.{}".format(*sys.version_info)
    if (asked := environment.get("python")) and ".".join(str(asked).split(".")[:2]) != ours:
        raise NotImplementedHere(f"{named[:80]} asks for Python {str(asked)[:20]}; tasks run in {ours} here.")
    dependencies = environment.get("dependencies") or []
    if not isinstance(dependencies, list) or not all(isinstance(line, str) for line in dependencies):
        raise InvalidArgument(f"dependencies of {named[:80]} are no list of packages.")
    lines = [*clean_requirements(line for line in dependencies if line != "pip")]
    has_mlflow = any(re.match(r"mlflow(-skinny)?$", Requirement(line).name) for line in lines)
    return lines if has_mlflow else [*lines, f"mlflow-skinny=={version('mlflow')}"]


def _read(place: Path) -> Mapping[str, Any]:
    """A file of YAML with an object. Aliases are refused: a few lines of them stand for more than memory holds.

    Raises InvalidArgument.
    """
    import yaml  # type: ignore[import-untyped]  # ships no types; here, as few tasks need it

    try:
        if place.stat().st_size > _MOST_TEXT:
            raise InvalidArgument(f"{place.name} has more than {_MOST_TEXT:,} bytes.")
        text = place.read_text()
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.CSafeLoader)):
            raise InvalidArgument(f"{place.name} has aliases of YAML (*name), which are not read; write them out.")
        found = yaml.load(text, yaml.CSafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"{place.name} is no YAML: {str(error)[:200]}") from error
    if not isinstance(found, dict):
        raise InvalidArgument(f"{place.name} holds no object of YAML.")
    return found
