"""Which packages a process of users' code has: an environment of its own, or some before the server's."""

import io
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.parser import Parser
from importlib.metadata import distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from millpond.kernel.environments import Environments
from millpond.kernel.errors import InvalidArgument

_MOST_METADATA = 1 << 20
_NO_WHEEL = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError)


@dataclass(frozen=True, kw_only=True)
class Packages:
    """Where a process finds what it has."""

    python: Path | None = None
    """Another interpreter than ours."""
    readable: tuple[Path, ...] = ()
    paths: tuple[str, ...] = ()
    """What comes before the interpreter's own packages."""


@contextmanager
def held(environments: Environments, *, own: Sequence[str], more: Sequence[str], notebook: bool) -> Iterator[Packages]:
    """The packages while the block runs: all in an environment, where there are `own` ones (with IPython for a
    `notebook`); else those of `more` that the server has not, with what they need, at versions that go with its own.
    """
    if own:
        also = ["ipython"] if notebook and "ipython" not in map(name_of, own) else []
        with environments.held([*own, *more, *also]) as built:
            yield Packages(python=built.python, readable=built.readable)
        return
    here = {each.name: each.version for each in distributions()} if more else {}
    with _beside(environments, here, more) as packages:
        yield packages


@contextmanager
def held_on(environments: Environments, lock: Sequence[str], more: Sequence[str]) -> Iterator[Packages]:
    """The packages of a whole lock in an environment, and beside them those of `more` that it has not, with what they
    need, at versions that go with it. Without a lock, beside the server's own."""
    if not lock:
        with held(environments, own=(), more=more, notebook=True) as packages:
            yield packages
        return
    with environments.held(lock, complete=True) as built:
        here = dict(each.split("==", 1) for each in built.installed)
        with _beside(environments, here, more) as packages:
            readable = (*built.readable, *packages.readable)
            yield Packages(python=built.python, readable=readable, paths=packages.paths)


@contextmanager
def _beside(environments: Environments, here: Mapping[str, str], more: Sequence[str]) -> Iterator[Packages]:
    """What is not `here`, by name and version, in a directory of its own."""
    here = {canonicalize_name(name): version for name, version in here.items()}
    missing = [line for line in more if not _is_met(line, here)]
    if not missing:
        yield Packages()
        return
    named = {name_of(line) for line in missing}
    keep = [f"{name}=={Version(version).public}" for name, version in here.items() if name not in named]
    with environments.held(missing, constraints=keep) as built:
        yield Packages(readable=built.readable, paths=(str(built.packages),))


def needs_of_wheel(data: bytes, path: str) -> tuple[str, ...]:
    """The packages that a wheel says it needs. Raises InvalidArgument for what is no wheel."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as wheel:
            [name] = [
                each for each in wheel.namelist() if each.count("/") == 1 and each.endswith(".dist-info/METADATA")
            ]
            if wheel.getinfo(name).file_size > _MOST_METADATA:
                raise InvalidArgument(f"The metadata of wheel {path} is too large.")
            told = Parser().parsestr(wheel.read(name).decode())
        lines = [Requirement(each) for each in told.get_all("Requires-Dist") or ()]
        return tuple(_bare(each) for each in lines if each.marker is None or each.marker.evaluate({"extra": ""}))
    except _NO_WHEEL as error:
        raise InvalidArgument(f"{path} is no wheel: {str(error)[:80]}.") from error


def without(needs: Sequence[str], wheels: Sequence[str]) -> list[str]:
    """The needs that wheels with some names do not meet; those that are given are the ones that are meant."""
    given = {canonicalize_name(name.split("-", 1)[0]) for name in wheels}
    return [need for need in needs if name_of(need) not in given]


def name_of(line: str) -> str:
    """The name of the package that a requirement is of."""
    return canonicalize_name(Requirement(line.split(" --hash")[0]).name)


def _bare(requirement: Requirement) -> str:
    requirement.marker = None
    return str(requirement)


def _is_met(line: str, here: Mapping[str, str]) -> bool:
    requirement = Requirement(line.split(" --hash")[0])
    version = here.get(canonicalize_name(requirement.name))
    return version is not None and not requirement.extras and requirement.specifier.contains(version, prereleases=True)
