"""Python environments built from requirements by uv, kept under the hash of what was asked for.

Wheels from one index, and nothing that a requirement could point elsewhere with: no options, paths or addresses. No
package's code runs while an environment is built, so that the cache of downloads, which all share, holds what the
index gave; what has no wheel is built for a whole lock only (`complete`), with another cache. An environment is built
aside, confined, and appears by a rename. A lock on a file is held by whoever builds or uses it, in whatever process;
the system lets go of it when that is killed.
"""

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from millpond.kernel.errors import FailedPrecondition, InvalidArgument, Unavailable
from millpond.kernel.ids import new_id
from millpond.kernel.process import ChildSpec, spawn
from millpond.kernel.settings import EnvironmentSettings

_MODULE = "millpond.kernel.environment_build"
_LAYOUT = "1"
"""Changes when environments of older releases are to be built again."""
_FACTS = "millpond.json"
_MAX_LINES = 5000
_MOST_BYTES, _MOST_ABOUT_BYTES = 1 << 20, 16 << 10
"""Of a requirements.txt, and of a python_env.yaml, which is parsed in Python."""
_OLDEST_MINOR = 11
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@dataclass(frozen=True, kw_only=True)
class BuiltEnvironment:
    """An environment that can be used."""

    key: str
    root: Path
    installed: tuple[str, ...]
    """`name==version` of each distribution in it."""

    @property
    def python(self) -> Path:
        """Its interpreter; run it as `ChildSpec.python`, so that it begins within the confinement."""
        return self.root / "bin" / "python"

    @property
    def packages(self) -> Path:
        """Where its packages are, for another interpreter of the same version."""
        return next(self.root.glob("lib/python*/site-packages"))

    @property
    def readable(self) -> tuple[Path, ...]:
        """What a confined process must be able to read to use it: itself, and the interpreter that it stands on."""
        home = re.search(r"^home = (.+)$", (self.root / "pyvenv.cfg").read_text(), re.MULTILINE)
        return (self.root, Path(home[1]).resolve().parent) if home else (self.root,)


class Environments:
    """The environments below a directory. Several processes may share it."""

    def __init__(self, root: Path, settings: EnvironmentSettings | None = None) -> None:
        self._root = root
        self._settings = settings or EnvironmentSettings()

    def ready(self, requirements: Iterable[str], python: str | None = None) -> BuiltEnvironment:
        """The environment with these requirements (lines of a requirements file, of a lock with hashes too), built
        where it is not there. Blocks. `python` is a version such as 3.12; ours without it.

        Raises InvalidArgument for requirements that are none, FailedPrecondition with the installer's words where they
        cannot be met, Unavailable where the index does not answer.
        """
        with self.held(requirements, python) as environment:
            return environment

    @contextmanager
    def held(
        self,
        requirements: Iterable[str],
        python: str | None = None,
        *,
        complete: bool = False,
        constraints: Iterable[str] = (),
    ) -> Iterator[BuiltEnvironment]:
        """As `ready`; nobody removes the environment while the block runs.

        `complete` requirements are all that was installed somewhere: no other package is added, they need not agree
        with each other, and those without a wheel are built from source, confined, with a cache of their own.
        `constraints` are versions of what may come along, such as numpy==2.1.
        """
        lines, version, within = clean_requirements(requirements), _version(python), clean_requirements(constraints)
        key = _key(lines, version, within, complete=complete)
        place = self._root / key
        with self._locked(key) as lock:
            while not _is_whole(place):
                fcntl.flock(lock, fcntl.LOCK_EX)
                if not _is_whole(place):
                    self._build(place, lines, version, within, complete=complete)
                    self._prune()
                fcntl.flock(lock, fcntl.LOCK_SH)
            os.utime(place)
            installed = json.loads((place / _FACTS).read_text())["installed"]
            yield BuiltEnvironment(key=key, root=place, installed=tuple(installed))

    def _build(
        self, place: Path, requirements: Sequence[str], version: str, constraints: Sequence[str], *, complete: bool
    ) -> None:
        aside, cache = self._aside(place.name), self._root / "cache"
        for directory in (aside, cache):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        order = {"requirements": list(requirements), "python": version, "complete": complete}
        order |= {"index_url": self._settings.index_url, "extra_index_urls": list(self._settings.extra_index_urls)}
        order |= {"constraints": list(constraints)}
        (aside / "order.json").write_text(json.dumps({**order, "root": str(aside / "root"), "cache": str(cache)}))
        try:
            with self._locked("cache"):
                self._run(aside, cache)
            shutil.rmtree(place, ignore_errors=True)
            (aside / "root").rename(place)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _run(self, aside: Path, cache: Path) -> None:
        names = {name for known in _PROXIES for name in (known, known.lower()) if name in os.environ}
        env = {name: os.environ[name] for name in names} | {
            "HOME": str(aside), "TMPDIR": str(aside), "PATH": "/usr/local/bin:/usr/bin:/bin",
        }  # fmt: skip
        child = spawn(
            ChildSpec(
                module=_MODULE, args=(str(aside / "order.json"),), env=env, log_path=aside / "log", sandbox=True,
                writable=(aside, cache), links=True, cwd=aside, nice=5,
            )
        )  # fmt: skip
        try:
            said = child.wait_ready(self._settings.timeout_s)
        finally:
            child.kill()
        if said["ok"]:
            return
        told = said["message"]
        for url in (self._settings.index_url, *self._settings.extra_index_urls):
            told = told.replace(url, "the index")
        if said["may_work_later"]:
            raise Unavailable(f"The environment could not be built: {told}")
        raise FailedPrecondition(f"The environment cannot be built from these requirements: {told}")

    def _aside(self, key: str) -> Path:
        """A new place to build in: what a killed one began may still be written to for a moment."""
        aside = self._root / "building" / f"{key}.{new_id()}"
        aside.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return aside

    @contextmanager
    def _locked(self, name: str, how: int = fcntl.LOCK_SH) -> Iterator[int]:
        directory = self._root / "locks"
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(directory / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, how)
            yield lock
        finally:
            os.close(lock)

    def _prune(self) -> None:
        """Keep within the limit: the cache of downloads goes first, then what was unused for longest.

        What was begun by somebody who was killed goes in any case.
        """
        for left in (self._root / "building").iterdir():
            with suppress(BlockingIOError), self._locked(left.name.partition(".")[0], fcntl.LOCK_EX | fcntl.LOCK_NB):
                shutil.rmtree(left, ignore_errors=True)
        places = sorted(filter(_is_whole, self._root.iterdir()), key=lambda place: place.stat().st_mtime)
        for place in (self._root / "cache", *places):
            if _disk_bytes(self._root) <= self._settings.limit_bytes:
                return
            self._remove(place)

    def _remove(self, place: Path) -> None:
        """Unless somebody uses it. It goes by a rename, so that nobody sees a part of it."""
        with suppress(BlockingIOError, FileNotFoundError), self._locked(place.name, fcntl.LOCK_EX | fcntl.LOCK_NB):
            gone = self._aside(place.name)
            place.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)


def required_by(model_dir: Path) -> tuple[list[str], str | None]:
    """The requirements of a model of MLflow's, and the version of Python it was made with. Raises FailedPrecondition.

    Source: MLflow, `utils/environment.py` (requirements.txt and python_env.yaml).
    """
    import yaml  # type: ignore[import-untyped]  # ships no types; mlflow brings it

    requirements, about = model_dir / "requirements.txt", model_dir / "python_env.yaml"
    if not requirements.is_file():
        raise FailedPrecondition("The version has no requirements.txt, so no environment can be built for it.")
    try:
        said = yaml.safe_load(_text_of(about, _MOST_ABOUT_BYTES)) if about.is_file() else {}
        lines = _text_of(requirements, _MOST_BYTES).splitlines()
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise FailedPrecondition(f"The version's requirements cannot be read: {str(error)[:500]}.") from error
    if len(lines) > _MAX_LINES:
        raise FailedPrecondition(f"The version's requirements.txt has {len(lines)} lines; at most {_MAX_LINES}.")
    python = said.get("python") if isinstance(said, dict) else None
    return lines, str(python) if isinstance(python, str | int | float) and python else None


def _text_of(path: Path, most_bytes: int) -> str:
    with path.open("rb") as stream:
        data = stream.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise FailedPrecondition(f"The version's {path.name} has more than {most_bytes >> 10} KiB.")
    return data.decode()


def clean_requirements(lines: Iterable[str]) -> tuple[str, ...]:
    """Requirements as `name[extras]<specifier>; marker`, with hashes where they have some, each once and in order.

    Raises InvalidArgument for what is no requirement, and for what would be fetched from elsewhere than the index.
    """
    whole = "\n".join(lines).replace("\\\n", " ").splitlines()
    found = {_clean(text) for line in whole if (text := re.sub(r"(^|\s)#.*$", "", line).strip())}
    if len(found) > _MAX_LINES:
        raise InvalidArgument(f"There are {len(found)} requirements; at most {_MAX_LINES}.")
    return tuple(sorted(found))


def _clean(text: str) -> str:
    name, *hashes = re.split(r"\s+--hash[= ]", text)
    try:
        requirement = Requirement(name)
    except InvalidRequirement as error:
        raise InvalidArgument(
            f"'{text[:200]}' is no requirement such as numpy==2.1; options, paths and files are not taken."
        ) from error
    if requirement.url:
        raise InvalidArgument(f"'{requirement.name[:100]}' is at an address; packages are taken from the index alone.")
    if not all(re.fullmatch(r"sha(256|384|512):[0-9a-f]{64,128}", each.strip()) for each in hashes):
        raise InvalidArgument(f"'{requirement.name[:100]}' has a hash that is none, such as sha256:...")
    requirement.name = canonicalize_name(requirement.name)
    return " ".join([str(requirement), *(f"--hash={each.strip()}" for each in sorted(hashes))])


def _version(python: str | None) -> str:
    """As `3.12`; environments of the same minor version are the same. Raises InvalidArgument."""
    if python is None:
        return f"{sys.version_info.major}.{sys.version_info.minor}"
    found = re.fullmatch(r"3\.(\d{1,2})(\.\d+)?", python)
    if found is None or int(found[1]) < _OLDEST_MINOR:
        raise InvalidArgument(f"Python '{python[:40]}' is not one that is taken: 3.{_OLDEST_MINOR} or newer is.")
    return f"3.{found[1]}"


def _key(requirements: Sequence[str], version: str, constraints: Sequence[str], *, complete: bool) -> str:
    kind: list[object] = [*(["complete"] if complete else []), *([list(constraints)] if constraints else [])]
    asked = json.dumps([_LAYOUT, *kind, version, sys.platform, platform.machine(), *requirements])
    return hashlib.sha256(asked.encode()).hexdigest()[:32]


def _is_whole(place: Path) -> bool:
    """Whether it can be used: also not when its interpreter went with an upgrade of the system."""
    return (place / _FACTS).exists() and (place / "bin" / "python").exists()


def _disk_bytes(root: Path) -> int:
    """What files take; those that several environments share count once."""
    found = {}
    for directory, _, names in os.walk(root):
        for name in names:
            with suppress(FileNotFoundError):
                status = os.lstat(os.path.join(directory, name))
                found[status.st_ino] = status.st_blocks * 512
    return sum(found.values())
