"""Does this environment have what the model was logged with? Compared before loading, told when loading fails."""

import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

_MOST_BYTES = 1 << 20
_MOST_LINES = 2000
"""Of a file's beginning so much is looked at: whoever logged the model wrote it, and the server reads it too."""
_MOST_TOLD, _LONGEST_TOLD = 20, 100


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What the model asks for and this environment does not have."""

    missing: tuple[str, ...]
    conflicting: tuple[str, ...]
    checked: int
    python_wanted: str | None
    """The other Python version that the model was logged with; None when it is this one or unknown."""

    @property
    def notes(self) -> str:
        """One sentence for the deployment's state; empty when all is as the model asks."""
        parts = []
        if self.missing:
            parts.append(f"not installed here: {_few(self.missing)}")
        if self.conflicting:
            parts.append(f"installed in another version: {_few(self.conflicting)}")
        if self.python_wanted:
            parts.append(f"logged with Python {self.python_wanted}, this is {platform.python_version()}")
        return f"The model's requirements are not all met ({'; '.join(parts)})." if parts else ""

    @property
    def build_log(self) -> str:
        """The check in full."""
        lines = [f"Python {platform.python_version()}; {self.checked} requirements checked."]
        lines += [f"missing: {item}" for item in self.missing]
        lines += [f"conflict: {item}" for item in self.conflicting]
        if self.python_wanted:
            lines.append(f"conflict: the model was logged with Python {self.python_wanted}")
        return "\n".join(lines) + "\n"

    def explain(self, error: BaseException) -> str:
        """The beginning of a load failure's message: which packages may be its cause, and what to do."""
        said = f"{self.notes}\n" if self.notes else ""
        if isinstance(error, ModuleNotFoundError):
            said = (
                f"The model needs the Python package '{error.name}', which is not installed where Millpond serves "
                f"models; install it there.\n{said}"
            )
        return said


def check_environment(model_dir: Path) -> Environment:
    """Compare the model's `requirements.txt` and Python version with what is installed here."""
    missing, conflicting, checked = [], [], 0
    for requirement in _requirements(model_dir / "requirements.txt"):
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        checked += 1
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            missing.append(_short(requirement))
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            conflicting.append(f"{_short(requirement)} (here {found})")
    return Environment(
        missing=tuple(missing),
        conflicting=tuple(conflicting),
        checked=checked,
        python_wanted=_other_python(model_dir / "MLmodel"),
    )


def _requirements(path: Path) -> list[Requirement]:
    found = []
    for line in islice(_beginning(path).splitlines(), _MOST_LINES):
        text = line.split(" #", 1)[0].strip()
        if not text or text.startswith(("#", "-")):
            continue
        try:
            found.append(Requirement(text))
        except InvalidRequirement:
            continue  # a path or an address of pip's own syntax: nothing to compare
    return found


def _short(requirement: Requirement) -> str:
    return f"{requirement.name}{requirement.specifier}"[:_LONGEST_TOLD]


def _few(told: Sequence[str]) -> str:
    more = f" and {len(told) - _MOST_TOLD} more" if len(told) > _MOST_TOLD else ""
    return ", ".join(told[:_MOST_TOLD]) + more


def _beginning(path: Path) -> str:
    if not path.exists():
        return ""
    with path.open(errors="replace") as stream:
        return stream.read(_MOST_BYTES)


def _other_python(mlmodel: Path) -> str | None:
    text = _beginning(mlmodel)
    wanted = re.search(r"^ +python_version: ['\"]?(\d{1,3})\.(\d{1,3})[\d.]{0,9}", text, re.MULTILINE)
    if wanted is None or wanted.groups() == tuple(platform.python_version_tuple()[:2]):
        return None
    return wanted.group(0).split(":")[1].strip(" '\"")
