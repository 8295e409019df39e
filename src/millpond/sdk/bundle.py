"""A capture as a zip file: `capture.json`, `code/`, `code.diff`, `requirements.lock`."""

import io
import json
import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from millpond.sdk import environment
from millpond.sdk.code import Code, file_sha256, find_code, late_files, taken

FORMAT = 1
_MOST_HASHED_BYTES = 4 << 30
"""As much of the files that a program opens is read to tell their digests."""


def start_bundle(seen: Mapping[str, Any], opened: Sequence[str]) -> bytes:
    """What is known when a run starts. `seen` is what had to be looked at in the run's own thread."""
    code = find_code()
    installed = environment.packages()
    read = inputs(opened, code)
    told = {
        "format": FORMAT,
        **seen,
        **_told_of(code),
        **environment.describe(),
        "packages": installed,
        "inputs": read,
    }
    texts = {"requirements.lock": environment.lock(installed).encode(), "code.diff": code.diff}
    if code.kind == "command":
        texts["command.py"] = code.text.encode()
    return _zipped(told, texts, code.files | copied_inputs(read, code))


def end_bundle(opened: Sequence[str], began_ms: int) -> bytes:
    """What is known when the process ends: modules that were imported and files that were opened since."""
    code = find_code()
    late = late_files(code.root) if code.git is None else {}
    read = inputs(opened, code)
    told = {"format": FORMAT, "inputs": read, **environment.describe()}
    changed = [name for name, path in late.items() if path.stat().st_mtime_ns // 1_000_000 > began_ms]
    return _zipped({**told, "changed_meanwhile": changed}, {}, late | copied_inputs(read, code))


def _told_of(code: Code) -> dict[str, Any]:
    return {
        "code": {
            "kind": code.kind,
            "entry": code.entry,
            "argv": list(code.argv),
            "cwd": code.cwd,
            "root": str(code.root),
            "git": code.git,
            "skipped": code.skipped,
        }
    }


def inputs(opened: Iterable[str], code: Code) -> list[dict[str, Any]]:
    """Files that were read and are not among the code: where they are, their size and digest."""
    copied = {os.path.realpath(path) for path in code.files.values()}
    found, left = [], _MOST_HASHED_BYTES
    for name in dict.fromkeys(map(os.path.realpath, opened)):
        path = Path(name)
        if name in copied or not path.is_file():
            continue
        stat = path.stat()
        left -= stat.st_size
        told = {"path": name, "size": stat.st_size, "changed_ms": stat.st_mtime_ns // 1_000_000}
        found.append({**told, "sha256": file_sha256(path) if left > 0 else None})
    return found


def copied_inputs(read: Sequence[Mapping[str, Any]], code: Code) -> dict[str, Path]:
    """Those of the files that are small and lie beside the code, to be copied with it."""
    root = os.path.realpath(code.root)
    beside = [Path(each["path"]) for each in read if each["path"].startswith(root + os.sep)]
    return taken(Path(root), [str(path) for path in beside])[0]


def _zipped(told: Mapping[str, Any], texts: Mapping[str, bytes], files: Mapping[str, Path]) -> bytes:
    target = io.BytesIO()
    digests: dict[str, str] = {}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=3, strict_timestamps=False) as archive:
        for name, path in files.items():
            if not os.path.isabs(name):
                archive.write(path, f"code/{name}")
                digests[name] = file_sha256(path)
        for name, data in texts.items():
            if data:
                archive.writestr(name, data)
        archive.writestr("capture.json", json.dumps({**told, "files": digests}))
    return target.getvalue()
