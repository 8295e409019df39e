"""What a capture says, what of it is missing, and what a verdict is."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from millpond.kernel.errors import InvalidArgument

TOLERANCE = 1e-6
"""Relative; what is as near as that is called equal within tolerance."""
PARTS = ("start", "end")
_ID = re.compile(r"[0-9a-f]{32}-[0-9]{1,9}")
OWN = "millpond"
HIDDEN = "***"


class Outcome(StrEnum):
    """How a thing of the second run compares to that of the first."""

    IDENTICAL = "bit-identical"
    WITHIN = "within tolerance"
    DIFFERENT = "different"
    MISSING = "missing"
    """Only one of the two runs has it."""
    FAILED = "failed"
    """The code ended with an error."""
    IMPOSSIBLE = "not reproducible"
    """What is needed was not captured, or is not to be had here."""


_WORST_FIRST = (
    Outcome.IMPOSSIBLE, Outcome.FAILED, Outcome.DIFFERENT, Outcome.MISSING, Outcome.WITHIN, Outcome.IDENTICAL,
)  # fmt: skip


class State(StrEnum):
    """Where a reproduction stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One metric, param, artifact or input compared."""

    name: str
    outcome: Outcome
    message: str = ""
    step: int | None = None
    """Of a metric: the first step that differs."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What came of a reproduction."""

    outcome: Outcome
    new_run_id: str = ""
    tolerance: float = TOLERANCE
    metrics: tuple[Finding, ...] = ()
    params: tuple[Finding, ...] = ()
    artifacts: tuple[Finding, ...] = ()
    inputs: tuple[Finding, ...] = ()
    missing: tuple[str, ...] = ()
    """What was not captured, or could not be restored."""
    notes: tuple[str, ...] = ()
    """What is otherwise than it was."""
    log: str = ""
    """The end of what the code printed, where it failed."""


def worst(findings: Iterable[Finding]) -> Outcome:
    """The outcome of a whole: that of its worst part; a part that only one run has makes a difference."""
    found = {finding.outcome for finding in findings}
    outcome = next((each for each in _WORST_FIRST if each in found), Outcome.IDENTICAL)
    return Outcome.DIFFERENT if outcome is Outcome.MISSING else outcome


@dataclass(frozen=True, kw_only=True)
class Capture:
    """What was captured of the process that made a run."""

    id: str
    start: Mapping[str, Any] = field(repr=False)
    end: Mapping[str, Any] | None = field(default=None, repr=False)
    """None where the process was killed, or still runs."""

    @property
    def process(self) -> str:
        """The process that sent it."""
        return self.id.partition("-")[0]

    @property
    def code(self) -> Mapping[str, Any]:
        """What was run."""
        found: Mapping[str, Any] = self.start["code"]
        return found

    @property
    def python(self) -> str:
        """The interpreter's version."""
        return str(self.start["python"]["version"])

    @property
    def inputs(self) -> dict[str, Mapping[str, Any]]:
        """Files that were read, by path; as they were when the run began, where they were read by then."""
        late = self.end["inputs"] if self.end else ()
        return {each["path"]: each for each in (*late, *self.start["inputs"])}


def check_capture_id(text: str) -> str:
    """The name of a capture. Raises InvalidArgument."""
    if not _ID.fullmatch(text):
        raise InvalidArgument(f"'{text[:80]}' is not the name of a capture.")
    return text


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """The packages to install again."""

    lines: tuple[str, ...]
    beside_code: tuple[str, ...] = ()
    """Directories below the code's root that were installed as they are, in place."""
    missing: tuple[str, ...] = ()


def requirements_of(capture: Capture) -> Requirements:
    """All packages at their versions; those that are from no index by where they came from."""
    lines, beside, missing = [], [], []
    root = str(capture.code["root"])
    for each in capture.start["packages"]:
        origin = each.get("origin")
        if each["name"] == OWN:
            continue
        if not origin:
            lines.append(f"{each['name']}=={each['version']}")
        elif origin.get("commit"):
            lines.append(f"{each['name']} @ git+{origin['url']}@{origin['commit']}")
        elif not origin.get("editable"):
            lines.append(f"{each['name']} @ {origin['url']}")
        elif (path := origin["url"].removeprefix("file://")) == root or path.startswith(root + "/"):
            beside.append(path.removeprefix(root).strip("/"))
        else:
            missing.append(f"package {each['name']}: it was installed in place from {path}, whose code is not captured")
    return Requirements(lines=tuple(lines), beside_code=tuple(beside), missing=tuple(missing))


def blocking(capture: Capture) -> list[str]:
    """What is missing so that the run cannot be made again at all."""
    code = capture.code
    found = []
    if code["kind"] == "unknown":
        found.append("code: it came from standard input or a shell, not from a file")
    if code["kind"] == "script" and code["entry"] not in {*capture.start["files"], *_late(capture)}:
        reason = code["skipped"].get(code["entry"], "it is not among the captured files")
        found.append(f"code: {code['entry']}: {reason}")
    if any(HIDDEN in word for word in code["argv"]):
        found.append("arguments: a secret among them was not captured")
    return found


def doubtful(capture: Capture) -> list[str]:
    """What is missing although the run can be made again; it may come out otherwise for it."""
    found = [f"code: {name}: {why}" for name, why in sorted(capture.code["skipped"].items())]
    if capture.end is None:
        found.append("end of the process: files and modules that it read late were not told")
    else:
        found += [f"code: {name} was changed while the process ran" for name in capture.end["changed_meanwhile"]]
    if capture.start["variables"].get("PYTHONPATH"):
        found.append("PYTHONPATH: what it led to outside of the code is not captured")
    if not capture.start["variables"].get("PYTHONHASHSEED"):
        found.append("hash seed: PYTHONHASHSEED was not set, so the order of sets of strings was random")
    return found


def _late(capture: Capture) -> Sequence[str]:
    return tuple(capture.end["files"]) if capture.end else ()
