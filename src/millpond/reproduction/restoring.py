"""Code as it was captured, on disk again; and the plugin that tells the second run from others."""

import json
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import millpond
from millpond.kernel.errors import FailedPrecondition
from millpond.reproduction.domain import Capture, Finding, Outcome
from millpond.sdk.code import file_sha256

_MOST_BYTES = 256 << 20
_MOST_FILES = 20_000
_ENTRY_POINTS = """
[mlflow.run_context_provider]
millpond = millpond.sdk.plugin:RunCapture

[mlflow.model_registry_store]
millpond-reproduction = millpond.sdk.registry:QuietRegistry
"""
_PACKAGE = Path(millpond.__file__).parent


def restore_code(bundles: Sequence[Path], root: Path) -> None:
    """Unpack `code/` of a capture's parts below a directory; what the process began with counts first.

    Raises FailedPrecondition for a bundle that is no such thing: a client has made it.
    """
    left = _MOST_BYTES
    for bundle in bundles:
        with zipfile.ZipFile(bundle) as archive:
            members = [member for member in archive.infolist() if member.filename.startswith("code/")]
            if len(members) > _MOST_FILES:
                raise FailedPrecondition(f"The captured code has {len(members)} files; at most {_MOST_FILES}.")
            for member in members:
                left -= member.file_size
                target = _place(root, member.filename.removeprefix("code/"))
                if left < 0:
                    raise FailedPrecondition(f"The captured code has more than {_MOST_BYTES >> 20} MiB.")
                if not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(member) as source, target.open("wb") as stream:
                        shutil.copyfileobj(source, stream)


def _place(root: Path, name: str) -> Path:
    if not name or name.startswith("/") or ".." in Path(name).parts or "\\" in name:
        raise FailedPrecondition(f"The captured code has a file '{name[:200]}', which lies outside of it.")
    return root / name


def text_of(bundle: Path, name: str) -> str:
    """A text in a bundle; empty where it has none."""
    with zipfile.ZipFile(bundle) as archive:
        return archive.read(name).decode(errors="replace") if name in archive.namelist() else ""


def restore_inputs(capture: Capture, root: Path, *, may_look: bool) -> list[Finding]:
    """Which files that were read are there again. `may_look` lets them be taken from where they were read.

    Those below the code's root that were not captured are copied from there; others are read where they are.
    """
    return [_input(root, Path(capture.code["root"]), path, each, may_look) for path, each in capture.inputs.items()]


def _input(root: Path, old_root: Path, path: str, told: Mapping[str, Any], may_look: bool) -> Finding:
    place = Path(path)
    below = place.relative_to(old_root) if place.is_relative_to(old_root) and ".." not in place.parts else None
    name, wanted = str(below or path), told["sha256"]
    if wanted is None:
        return Finding(name=name, outcome=Outcome.MISSING, message="the file was too large to be hashed")
    if below is not None and (root / below).is_file():
        return _compared(name, root / below, wanted)
    if not may_look:
        return Finding(name=name, outcome=Outcome.MISSING, message="the file was not captured and is not at hand here")
    if not place.is_file():
        return Finding(name=name, outcome=Outcome.MISSING, message="the file is not there any more")
    found = _compared(name, place, wanted)
    if below is not None:
        (root / below).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(place, root / below)
    return found


def _compared(name: str, place: Path, wanted: str) -> Finding:
    if file_sha256(place) == wanted:
        return Finding(name=name, outcome=Outcome.IDENTICAL)
    return Finding(name=name, outcome=Outcome.DIFFERENT, message="the file's content is another than the run read")


def lay_plugin(directory: Path) -> Path:
    """A directory for `PYTHONPATH` that has our plugin of MLflow's client, for an environment without Millpond."""
    (directory / "millpond").mkdir(parents=True)
    shutil.copyfile(_PACKAGE / "__init__.py", directory / "millpond" / "__init__.py")
    shutil.copytree(_PACKAGE / "sdk", directory / "millpond" / "sdk", ignore=shutil.ignore_patterns("__pycache__"))
    info = directory / f"millpond-{millpond.__version__}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: millpond\nVersion: {millpond.__version__}\n")
    (info / "entry_points.txt").write_text(_ENTRY_POINTS)
    return directory


def write_order(directory: Path, capture: Capture, code: Path, command: str) -> Path:
    """What the driver is told."""
    told = capture.code
    cwd = code if told["cwd"] in ("", ".") or Path(told["cwd"]).is_absolute() else _place(code, told["cwd"])
    cwd.mkdir(parents=True, exist_ok=True)
    entry = str(code / told["entry"]) if told["kind"] == "script" else told["entry"]
    order = {
        "kind": told["kind"], "entry": entry, "argv": told["argv"], "cwd": str(cwd), "text": command,
        "cells": capture.start.get("cells") or [],
    }  # fmt: skip
    path = directory / "order.json"
    path.write_text(json.dumps(order))
    states = {**capture.start["random"], "torch_seed": capture.start["seeds"].get("torch")}
    (directory / "random.json").write_text(json.dumps(states))
    return path
