"""Environments from requirements: built once, whole or not there, bounded, and with no code of packages unconfined."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from millpond.kernel.environment_build import _without_wheel
from millpond.kernel.environments import BuiltEnvironment, Environments, clean_requirements
from millpond.kernel.errors import FailedPrecondition, InvalidArgument, Unavailable
from millpond.kernel.process import ChildSpec, spawn
from millpond.kernel.sandbox import landlock_abi
from millpond.kernel.settings import EnvironmentSettings
from tests.servers import wait_until
from tests.wheels import Index, package_index


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """An index with two packages."""
    with package_index(tmp_path / "index") as index:
        index.add("pond")
        index.add("mill", "2.0")
        yield index


def environments(tmp_path: Path, index: Index, **options: int) -> Environments:
    return Environments(tmp_path / "environments", EnvironmentSettings(index_url=index.url, **options))


def told(tmp_path: Path, environment: BuiltEnvironment, code: str) -> dict[str, object]:
    """What a confined child with the environment's interpreter reports."""
    (tmp_path / "code").mkdir(exist_ok=True)
    (tmp_path / "code" / "told.py").write_text("from millpond.kernel.child import report_ready\n" + code)
    child = spawn(
        ChildSpec(
            module="told", env={"PYTHONPATH": str(tmp_path / "code")}, python=environment.python, sandbox=True,
            readable=(*environment.readable, tmp_path / "code"), log_path=tmp_path / "log", own_network=True,
        )
    )  # fmt: skip
    try:
        return child.wait_ready(60)
    finally:
        child.kill()


def test_it_has_what_was_asked_for_and_nothing_of_ours(tmp_path: Path, index: Index) -> None:
    """The packages can be imported there; the server's cannot."""
    environment = environments(tmp_path, index).ready(["pond == 1.0"])
    assert environment.installed == ("pond==1.0",)
    code = """
import importlib.util, pond, sys
report_ready({"pond": pond.VERSION, "ours": importlib.util.find_spec("sqlalchemy") is not None, "prefix": sys.prefix})
"""
    assert told(tmp_path, environment, code) == {"pond": "1.0", "ours": False, "prefix": str(environment.root)}


def test_what_another_index_has_is_taken_from_there(tmp_path: Path, index: Index) -> None:
    """As PyTorch without CUDA, whatever newer version the first index has; no error shows either's address."""
    with package_index(tmp_path / "another") as another:
        another.add("mill", "1.5+cpu")
        settings = EnvironmentSettings(index_url=index.url, extra_index_urls=(another.url,))
        made = Environments(tmp_path / "environments", settings)
        assert made.ready(["pond", "mill"]).installed == ("mill==1.5+cpu", "pond==1.0")
        with pytest.raises(FailedPrecondition) as refused:
            made.ready(["mill==2.0"])
    assert index.url not in str(refused.value)
    assert another.url not in str(refused.value)


def test_the_same_requirements_are_one_environment(tmp_path: Path, index: Index) -> None:
    """Spelled differently, in another order, by another object; the index is not asked again."""
    first = environments(tmp_path, index).ready(["pond==1.0", "mill"])
    asked = len(index.asked)
    again = environments(tmp_path, index).ready(["# what we need", "MILL", "Pond == 1.0  # pinned"])
    assert (again, len(index.asked)) == (first, asked)


def test_many_who_want_it_at_once_build_it_once(tmp_path: Path, index: Index) -> None:
    """Whoever comes while it is built waits."""
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: environments(tmp_path, index).ready(["pond"]), range(4)))
    assert len(set(made)) == 1
    assert index.asked.count("/simple/pond/") == 1


def test_whoever_is_killed_while_building_leaves_nothing_that_hinders(tmp_path: Path, index: Index) -> None:
    """The next one builds it whole, and whoever builds next clears away what was begun."""
    index.held.clear()
    code = f"""
from pathlib import Path
from millpond.kernel.environments import Environments
from millpond.kernel.settings import EnvironmentSettings
Environments(Path({str(tmp_path / "environments")!r}), EnvironmentSettings(index_url={index.url!r})).ready(["pond"])
"""
    builder = subprocess.Popen([sys.executable, "-c", code])
    wait_until(lambda: any(path.endswith(".whl") for path in index.asked))
    os.kill(builder.pid, signal.SIGKILL)
    builder.wait()
    index.held.set()
    left = tmp_path / "environments" / "building"
    assert list(left.iterdir()) != []
    environments(tmp_path, index).ready(["mill"])
    assert list(left.iterdir()) == []
    assert environments(tmp_path, index).ready(["pond"]).installed == ("pond==1.0",)


@pytest.mark.parametrize(
    "line",
    ["-r /etc/passwd", "--index-url http://elsewhere/", "-e .", "./pond.whl", "/etc/passwd", "pond @ file:///etc/passwd",
     "pond @ https://elsewhere/pond-1.0-py3-none-any.whl", "git+https://elsewhere/pond", "pond==1.0 --hash=md5:1",
     "pond; import os"],
)  # fmt: skip
def test_what_leads_elsewhere_is_refused(tmp_path: Path, index: Index, line: str) -> None:
    """Before anything is asked or run."""
    with pytest.raises(InvalidArgument, match=r"pond|requirement"):
        environments(tmp_path, index).ready([line])
    assert index.asked == []


def test_hashes_of_a_lock_count(tmp_path: Path, index: Index) -> None:
    """The right one installs, over several lines as locks write it; another does not."""
    digest = hashlib.sha256((index.directory / "pond-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    lock = f"pond==1.0 \\\n    --hash=sha256:{digest}"
    assert clean_requirements(lock.splitlines()) == (f"pond==1.0 --hash=sha256:{digest}",)
    assert environments(tmp_path, index).ready(lock.splitlines()).installed == ("pond==1.0",)
    with pytest.raises((FailedPrecondition, Unavailable), match=r"(?i)hash"):
        environments(tmp_path, index).ready([f"pond==1.0 --hash=sha256:{'0' * 64}"])


def test_what_cannot_be_built_says_why(tmp_path: Path, index: Index) -> None:
    """Requirements without a solution are the author's matter, an index that fails is not; neither leaves a trace."""
    with pytest.raises(FailedPrecondition, match=r"no version of pond==9"):
        environments(tmp_path, index).ready(["pond==9"])
    with pytest.raises(FailedPrecondition, match=r"3\.99"):
        environments(tmp_path, index).ready(["pond"], "3.99")
    index.broken = True
    with pytest.raises(Unavailable):
        environments(tmp_path, index).ready(["mill"])
    index.broken = False
    assert environments(tmp_path, index).ready(["mill"]).installed == ("mill==2.0",)


def test_python_of_another_major_version_is_refused(tmp_path: Path, index: Index) -> None:
    """As is one that is too old for what runs in it, or none."""
    for python in ("2.7", "3.8.1", "/usr/bin/python3", "4.0"):
        with pytest.raises(InvalidArgument, match="Python"):
            environments(tmp_path, index).ready(["pond"], python)


def test_disk_is_bounded(tmp_path: Path, index: Index) -> None:
    """What was unused for longest goes, what is held stays."""
    mine = environments(tmp_path, index, limit_bytes=1)
    with mine.held(["pond"]) as held:
        other = mine.ready(["mill"])
        third = mine.ready(["mill", "pond"])
        assert held.python.exists()
        assert third.python.exists()
        assert not other.root.exists()
    again = mine.ready(["mill"])
    assert again.python.exists()
    assert not held.root.exists()


@pytest.mark.skipif(landlock_abi() == 0, reason="this kernel has no Landlock; `doctor` says so to users")
def test_code_of_a_package_never_runs_unconfined(tmp_path: Path, index: Index) -> None:
    """A start-up hook runs at no time but when the environment is used, and then it is confined."""
    mark = tmp_path / "mark"
    index.add("evil", files={"evil.pth": "import evil_start\n", "evil_start.py": f"""
try:
    open({str(mark)!r}, "w").close()
    found = "wrote"
except OSError as error:
    found = type(error).__name__
"""})  # fmt: skip
    environment = environments(tmp_path, index).ready(["evil"])
    assert not mark.exists()
    said = told(tmp_path, environment, "import evil_start\nreport_ready({'found': evil_start.found})")
    assert said == {"found": "PermissionError"}
    assert not mark.exists()


def test_who_waits_for_a_builder_that_fails_tries_itself(tmp_path: Path, index: Index) -> None:
    """The failure of one is not that of the next."""
    index.held.clear()
    failed = threading.Event()

    def first() -> None:
        with pytest.raises(Unavailable):
            environments(tmp_path, index, timeout_s=3).ready(["pond"])
        failed.set()

    thread = threading.Thread(target=first)
    thread.start()
    wait_until(failed.is_set)
    thread.join()
    index.held.set()
    assert environments(tmp_path, index).ready(["pond"]).installed == ("pond==1.0",)


def test_packages_without_a_wheel_are_told_from_what_the_installer_says() -> None:
    said = "Because pyspark-client==4.2.0 has no usable wheels and you require pyspark-client==4.2.0, we can conclude"
    assert _without_wheel(said, ["pandas==2.3.0", "pyspark-client==4.2.0"]) == ["pyspark-client==4.2.0"]
    assert _without_wheel("error: something else", ["pandas==2.3.0"]) == []
