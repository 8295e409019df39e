"""Runtime versions: the packages that code on a cluster finds, pinned in lock files of this project.

The names have the form that `w.clusters.select_spark_version` looks for.
"""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from millpond.kernel.errors import InvalidArgument


@dataclass(frozen=True, kw_only=True)
class Version:
    """A runtime."""

    key: str
    name: str
    lock: str = ""
    """The file that says which packages it has; empty for the server's own."""

    @property
    def requirements(self) -> tuple[str, ...]:
        """Its packages with their hashes; none for the server's own."""
        return _lines(self.lock) if self.lock else ()


VERSIONS = {
    each.key: each
    for each in (
        Version(key="1.0.x-scala2.12", name="1.0 LTS (Millpond's own packages, Spark Connect 4.1)"),
        Version(key="1.0.x-cpu-ml-scala2.12", name="1.0 LTS ML (scikit-learn, XGBoost, LightGBM)", lock="ml-1.0.lock"),
    )
}
_BASE, _ML = VERSIONS
_LATEST = {"auto:latest": _BASE, "auto:latest-lts": _BASE, "auto:latest-ml": _ML, "auto:latest-lts-ml": _ML}


def resolved(key: str, *, ml: bool = False) -> str:
    """The version that a name stands for; `ml` makes it the one with the packages for it. Raises InvalidArgument."""
    found = _LATEST.get(key, key)
    if found not in VERSIONS:
        raise InvalidArgument(f"Runtime version '{key[:80]}' is none; there are {', '.join((*VERSIONS, *_LATEST))}.")
    return _ML if ml else found


@cache
def _lines(lock: str) -> tuple[str, ...]:
    return tuple(files("millpond.compute").joinpath("runtimes", lock).read_text().splitlines())
