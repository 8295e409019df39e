"""Projects as they are read in the server, before anything of them runs."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from millpond.jobs.code import Code
from millpond.jobs.domain import Kind, TaskSpec
from millpond.jobs.projects import Projects
from millpond.kernel.errors import InvalidArgument, NotImplementedHere

NOTHING: Any = None
NAMED = "name: p\npython_env: env.yaml\n"
GROWING = "x0: &x0 [a, b]\n" + "".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]\n" for n in range(1, 12))
MERGING = "m0: &m0 {a: 1}\n" + "".join(
    f"m{n}: &m{n} {{<<: [{', '.join([f'*m{n - 1}'] * 10)}]}}\n" for n in range(1, 12)
)


class Repository:
    """A checkout that is there already."""

    def checkout(self, run: object, directory: Path) -> Path:
        return directory


def asked_of(root: Path, **files: str) -> Any:
    """What a project of MLflow in a repository is run with."""
    for name, text in files.items():
        (root / name.replace("_yaml", ".yaml")).write_text(text)
    spec = TaskSpec(key="a", kind=Kind.MLFLOW, from_git=True)
    task: Any = SimpleNamespace(order={"uri": "."})
    return Projects(NOTHING, NOTHING, Repository()).order(NOTHING, NOTHING, spec, task, root)  # type: ignore[arg-type]


def test_the_packages_of_a_projects_environment_are_told(tmp_path: Path) -> None:
    environment = "python: 3.11\ndependencies: [pip, 'six>=1', mlflow==3.0]\n"
    assert asked_of(tmp_path, MLproject=NAMED, env_yaml=environment)[1] == ["mlflow==3.0", "six>=1"]


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"MLproject": GROWING + "python_env: *x11\n"}, "MLproject has aliases"),
        ({"MLproject": MERGING}, "MLproject has aliases"),
        ({"MLproject": NAMED, "env_yaml": GROWING + "dependencies: *x11\n"}, r"env\.yaml has aliases"),
        ({"MLproject": "[" * 30_000}, "MLproject is no YAML"),
        ({"MLproject": "a: " + "x" * 70_000}, "more than 65,536 bytes"),
        ({"MLproject": "python_env: [env.yaml]\n"}, "is no name of a file"),
        ({"MLproject": NAMED, "env_yaml": "dependencies: [{pip: [six]}]\n"}, "no list of packages"),
        ({"MLproject": NAMED, "env_yaml": "dependencies: six\n"}, "no list of packages"),
        ({"MLproject": NAMED, "env_yaml": "python: 2.7\n"}, r"asks for Python 2\.7"),
    ],
)
def test_a_project_that_would_take_the_servers_memory_or_means_nothing_is_refused(
    tmp_path: Path, files: dict[str, str], why: str
) -> None:
    with pytest.raises((InvalidArgument, NotImplementedHere), match=why):
        asked_of(tmp_path, **files)


def test_modules_are_found_beside_a_script_among_many_names_and_not_among_too_many(tmp_path: Path) -> None:
    class Volume:
        """Pages of 1,000 names, of which the last has a module."""

        def __init__(self, pages: int) -> None:
            self.pages = pages

        def list_directory(self, principal: object, path: str, *, page_token: str | None) -> Any:
            page = int(page_token or 1)
            names = [f"{number}.csv" for number in range(999)] + ["s.py" if page == 1 else f"m{page}.py"]
            entries = [SimpleNamespace(name=name, is_directory=False, size_bytes=1) for name in names]
            return SimpleNamespace(entries=entries, next_token=str(page + 1) if page < self.pages else None)

        def read_whole(self, principal: object, path: str, *, most_bytes: int) -> bytes:
            return b"1"

    def order(pages: int, place: Path) -> Any:
        place.mkdir()
        task: Any = SimpleNamespace(order={"python_file": "/Volumes/a/b/c/s.py", "parameters": []})
        run: Any = SimpleNamespace(parameters={})
        code = Code(Volume(pages), NOTHING, NOTHING, NOTHING)  # type: ignore[arg-type]
        return code.get(NOTHING, run, TaskSpec(key="a", kind=Kind.PYTHON), task, place).order

    found = Path(order(3, tmp_path / "few")["script"]).parent
    assert {each.name for each in found.iterdir()} == {"s.py", "m2.py", "m3.py"}
    with pytest.raises(InvalidArgument, match="more than 20,000 names"):
        order(21, tmp_path / "many")
