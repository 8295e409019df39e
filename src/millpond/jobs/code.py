"""What tasks run, got with the rights of whom they run as, and where their processes find it."""

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from millpond.catalog.files import Files
from millpond.identity.domain import Principal
from millpond.jobs.domain import Kind, Run, TaskRun, TaskSpec
from millpond.jobs.fetching import VOLUMES, as_order, of_file
from millpond.jobs.git_sources import GitSources, inside
from millpond.jobs.ports import Updates
from millpond.jobs.projects import Projects
from millpond.kernel.environments import clean_requirements
from millpond.kernel.errors import InvalidArgument, MillpondError
from millpond.kernel.packages import needs_of_wheel, without
from millpond.workspace.domain import MOST_BYTES
from millpond.workspace.notebooks import Language, Notebook
from millpond.workspace.service import WorkspaceService

_LARGEST = 256 << 20
"""Of a wheel; what is larger is no code."""
LARGEST_TEXT = 1 << 20
"""Of SQL and of a list of packages; bytes. Whoever reads more of it keeps the server from all else meanwhile."""
_MOST_BESIDE = 20_000
"""Names in a volume's directory among which modules are looked for."""
_PIP = re.compile(r"^\s*%pip[ \t]+(install[ \t]+(.+))$", re.MULTILINE)
_QUIET = frozenset({"-U", "--upgrade", "-q", "--quiet", "--no-cache-dir"})
_RUNNABLE = (Language.PYTHON, Language.SQL)
_SCORE = "from millpond.sdk.scoring import main\n\nmain()\n"


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What a task runs."""

    order: dict[str, Any]
    """What its process is told."""
    own: Sequence[str]
    """The packages of its environment; none where it has the server's."""
    more: Sequence[str]
    """Packages that it needs besides."""


class Code:
    """Gets scripts and notebooks from volumes and the workspace."""

    def __init__(
        self, files: Files, workspace: WorkspaceService, git: GitSources, updates: Callable[[], Updates]
    ) -> None:
        self._files = files
        self._workspace = workspace
        self._git = git
        self._updates = updates
        self._projects = Projects(files, workspace, git)

    def get(self, principal: Principal, run: Run, spec: TaskSpec, task: TaskRun, directory: Path) -> Fetched:
        """The code, and what it needs. Raises MillpondError for what cannot be had."""
        order, more = self._order(principal, run, spec, task, directory)
        wheels = [
            self._wheel(principal, path, directory / f"wheel-{number}") for number, path in enumerate(spec.wheels)
        ]
        every = [need for path, data in wheels for need in needs_of_wheel(data, path.name)]
        needs = without(every, [path.name for path, _ in wheels])
        files = [self.text(principal, path) for path in spec.requirement_files]
        order |= {"parameters": order.get("parameters", {}), "wheels": [str(path) for path, _ in wheels]}
        own = [*spec.requirements, *files] or order.pop("requirements", ())
        return Fetched(order=order, own=clean_requirements(own), more=(*more, *needs))

    def _order(
        self, principal: Principal, run: Run, spec: TaskSpec, task: TaskRun, directory: Path
    ) -> tuple[dict[str, Any], Sequence[str]]:
        """What the process is told to run, and the packages that it asks for by itself."""
        if spec.kind in (Kind.DBT, Kind.MLFLOW):
            order, own = self._projects.order(principal, run, spec, task, directory)
            return {**order, "requirements": own}, ()
        if spec.from_git:
            return _from_repository(self._git.checkout(run, directory), run, spec, task.order)
        if spec.kind is Kind.NOTEBOOK:
            return self._notebook(principal, run, task.order, directory)
        if spec.kind is Kind.WHEEL:
            named = [f"--{key}={value}" for key, value in (task.order.get("named_parameters") or {}).items()]
            argv = [*(task.order.get("parameters") or ()), *named]
            return {"package": task.order["package_name"], "entry_point": task.order["entry_point"], "argv": argv}, ()
        if spec.kind is Kind.SCORING:
            return _scoring_order(task.order, directory), ()
        if spec.kind is Kind.UPDATE:
            return self._updates().code(principal, run, directory)
        script = self._script(principal, task.order["python_file"], directory)
        return {"script": str(script), "argv": list(task.order["parameters"]), "parameters": dict(run.parameters)}, ()

    def _notebook(
        self, principal: Principal, run: Run, body: Mapping[str, Any], directory: Path
    ) -> tuple[dict[str, Any], Sequence[str]]:
        path = _plain(body["notebook_path"])
        notebook = self._read_notebook(principal, path)
        return _notebook_order(notebook, path, self.modules(principal, path, directory / "script"), run, body)

    def _read_notebook(self, principal: Principal, path: str) -> Notebook:
        if not path.startswith(VOLUMES):
            return self._workspace.notebook(principal, path)
        return read_notebook(path, self._files.read_whole(principal, path, most_bytes=_LARGEST))

    def _script(self, principal: Principal, path: str, directory: Path) -> Path:
        path = _plain(path)
        data = self.data(principal, path)
        place = Path(self.modules(principal, path, directory / "script")) / Path(path).name
        place.write_bytes(data)
        return place

    def modules(self, principal: Principal, path: str, root: Path) -> str:
        """Put the Python files that lie beside some code into a new directory, where a process finds them; those of
        packages there only in the workspace."""
        root.mkdir()
        is_file = path.startswith(VOLUMES)
        beside = self._beside(principal, path) if is_file else self._workspace.modules(principal, path)
        for name, data in beside.items():
            place = root / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        return str(root)

    def _beside(self, principal: Principal, path: str) -> dict[str, bytes]:
        """The other Python files of a directory in a volume; whoever may write one may write all."""
        place, _, own = path.rpartition("/")
        sizes = self._modules_of(principal, place)
        sizes.pop(own, None)
        if sum(sizes.values()) > MOST_BYTES:
            raise InvalidArgument(f"The Python files in {place} have more than {MOST_BYTES >> 20} MiB.")
        return {name: self._files.read_whole(principal, f"{place}/{name}", most_bytes=_LARGEST) for name in sizes}

    def _modules_of(self, principal: Principal, place: str) -> dict[str, int]:
        """The Python files of a volume's directory, with their bytes."""
        sizes: dict[str, int] = {}
        token, is_first, count = None, True, 0
        while is_first or token:
            listing = self._files.list_directory(principal, place, page_token=token)
            token, is_first, count = listing.next_token, False, count + len(listing.entries)
            if count > _MOST_BESIDE:
                raise InvalidArgument(
                    f"{place} has more than {_MOST_BESIDE:,} names; give code a directory of its own."
                )
            found = [each for each in listing.entries if each.name.endswith(".py") and not each.is_directory]
            sizes |= {each.name: each.size_bytes or 0 for each in found}
        return sizes

    def sql(self, principal: Principal, run: Run, spec: TaskSpec, path: str, directory: Path) -> str:
        """A file of SQL. Raises MillpondError."""
        if not spec.from_git:
            return self.text(principal, path)
        place = inside(self._git.checkout(run, directory), path)
        _check_text(path, place.stat().st_size)
        return place.read_text(errors="replace")

    def text(self, principal: Principal, path: str) -> str:
        """A small file as text. Raises NotFound, PermissionDenied, InvalidArgument."""
        data = self.data(principal, path, LARGEST_TEXT)
        _check_text(path, len(data))
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise InvalidArgument(f"{path} is not UTF-8.") from error

    def _wheel(self, principal: Principal, path: str, directory: Path) -> tuple[Path, bytes]:
        """Put beside the code, where the process unpacks it."""
        data = self.data(principal, path)
        place = directory / Path(path).name
        place.parent.mkdir()
        place.write_bytes(data)
        return place, data

    def copy(self, principal: Principal, path: str, root: Path) -> None:
        """Put a directory of a volume or the workspace into an empty one. Raises NotFound, InvalidArgument."""
        self._projects.copy(principal, path, root)

    def data(self, principal: Principal, path: str, most_bytes: int = _LARGEST) -> bytes:
        """A file of a volume, or of the workspace, which has none that are large."""
        path = _plain(path)
        if path.startswith(VOLUMES):
            return self._files.read_whole(principal, path, most_bytes=most_bytes)
        return self._workspace.script(principal, path)


def _scoring_order(body: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """What runs is ours, in the task's process and with its rights."""
    script = directory / "script" / "score.py"  # alone, as modules beside a script hide those of Python's own
    script.parent.mkdir()
    script.write_text(_SCORE)
    asked = {
        "source": body["source_table"], "target": body["target_table"], "model": body["model"],
        "keys": body.get("keys"), "columns": body.get("columns") or (), "returns": body.get("return_type"),
        "on_new_version": body.get("on_new_version") or "continue",
    }  # fmt: skip
    return {"script": str(script), "argv": [json.dumps(asked)]}


def _from_repository(
    root: Path, run: Run, spec: TaskSpec, body: Mapping[str, Any]
) -> tuple[dict[str, Any], Sequence[str]]:
    """The same of code in a repository, whose root is where modules are found too."""
    if spec.kind is Kind.NOTEBOOK:
        place = inside(root, body["notebook_path"], notebook=True)
        notebook = read_notebook(str(place), place.read_bytes())
        order, more = _notebook_order(notebook, f"file:{place}", str(place.parent), run, body)
        return {**order, "beside": [str(root)]}, more
    script = inside(root, body["python_file"])
    argv, parameters = list(body["parameters"]), dict(run.parameters)
    return {"script": str(script), "argv": argv, "parameters": parameters, "beside": [str(root)]}, ()


def _notebook_order(
    notebook: Notebook, path: str, modules: str, run: Run, body: Mapping[str, Any]
) -> tuple[dict[str, Any], Sequence[str]]:
    if notebook.language not in _RUNNABLE:
        raise InvalidArgument(f"Notebook {path} is in {notebook.language.capitalize()}; Python and SQL run here.")
    lines = installs(notebook)
    order = {
        "notebook": as_order(notebook), "path": path, "depth": 0, "modules": modules, "installed": list(lines),
        "parameters": {**(body.get("base_parameters") or {}), **run.parameters},
    }  # fmt: skip
    return order, sorted({each for packages in lines.values() for each in packages})


def read_notebook(path: str, data: bytes) -> Notebook:
    """The notebook that a file is. Raises InvalidArgument."""
    if len(data) > MOST_BYTES:
        raise InvalidArgument(f"Notebook {path} has more than {MOST_BYTES >> 20} MiB.")
    try:
        return of_file(path, data)
    except ValueError as error:
        raise InvalidArgument(str(error)) from error


def installs(notebook: Notebook) -> dict[str, Sequence[str]]:
    """The `%pip install` lines of a notebook that can be done before it begins, with their packages."""
    found: dict[str, Sequence[str]] = {}
    for cell in notebook.cells:
        for line, given in () if cell.is_markdown else _PIP.findall(cell.source):
            if packages := _packages(given):
                found[line.strip()] = packages
    return found


def _packages(text: str) -> Sequence[str]:
    """The packages of one line; none where it asks for something else than packages of the index."""
    try:
        words = [word for word in shlex.split(text, comments=True) if word not in _QUIET]
        names = [str(Requirement(word)) for word in words]
        return clean_requirements(names)
    except (ValueError, InvalidRequirement, MillpondError):
        return ()


def _check_text(path: str, size_bytes: int) -> None:
    if size_bytes > LARGEST_TEXT:
        raise InvalidArgument(f"{path} has {size_bytes:,} bytes, more than {LARGEST_TEXT:,}; divide it among files.")


def _plain(path: str) -> str:
    return "/" + path.removeprefix("dbfs:").lstrip("/")
