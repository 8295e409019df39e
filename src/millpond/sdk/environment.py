"""The environment of a program: packages as installed, interpreter, machine, threads, variables that matter."""

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import sys
from typing import Any

_VARIABLES = re.compile(
    r"^(PYTHONHASHSEED|PYTHONPATH|TZ|LANG|LC_ALL|(OMP|MKL|OPENBLAS|BLIS|NUMEXPR|VECLIB|KMP|GOMP)_\w+|CUBLAS_\w+"
    r"|CUDA_VISIBLE_DEVICES|TF_(DETERMINISTIC|CUDNN|ENABLE|NUM)_\w+|XLA_FLAGS|TORCH_\w+|MLFLOW_EXPERIMENT_(NAME|ID)|MLFLOW_RUN_NAME)$"
)


def describe() -> dict[str, Any]:
    """All but the packages."""
    return {
        "python": {
            "version": platform.python_version(),
            "implementation": platform.python_implementation(),
            "executable": sys.executable,
        },
        "platform": {
            "system": platform.system(),
            "release": platform.release(),
            "machine": platform.machine(),
            "libc": " ".join(platform.libc_ver()).strip(),
            "processor": _processor(),
            "cpus": os.cpu_count(),
        },
        "threads": {"usable_cpus": _usable_cpus(), **_library_threads()},
        "variables": {name: value for name, value in sorted(os.environ.items()) if _VARIABLES.match(name)},
    }


def packages() -> list[dict[str, Any]]:
    """Installed distributions by name; the digest is the same for the same files, whoever installed them."""
    found: dict[str, dict[str, Any]] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        key = re.sub(r"[-_.]+", "-", name or "").lower()
        if key and key not in found:  # the first on the path is the one that is imported
            found[key] = _described(key, distribution)
    return [found[key] for key in sorted(found)]


def _described(name: str, distribution: importlib.metadata.Distribution) -> dict[str, Any]:
    told: dict[str, Any] = {"name": name, "version": distribution.version}
    record = distribution.read_text("RECORD")
    if record:
        told["digest"] = _record_digest(record)
    origin = distribution.read_text("direct_url.json")
    if origin:
        told["origin"] = _origin(json.loads(origin))
    return told


def _record_digest(record: str) -> str:
    """Of the files that came in the wheel: not of what installers add to them."""
    lines = [line for line in record.splitlines() if ".dist-info/" not in line and "__pycache__" not in line]
    kept = sorted(line for line in lines if ",sha256=" in line and not line.startswith(".."))
    return hashlib.sha256("\n".join(kept).encode()).hexdigest()[:32]


def _origin(told: dict[str, Any]) -> dict[str, Any]:
    """Where a distribution that is from no index came from."""
    info = told.get("vcs_info") or {}
    editable = bool((told.get("dir_info") or {}).get("editable"))
    url = re.sub(r"//[^/@]*@", "//", str(told.get("url", "")))
    return {"url": url, "commit": info.get("commit_id"), "editable": editable}


def lock(found: list[dict[str, Any]]) -> str:
    """The packages as a requirements file."""
    lines = []
    for each in found:
        origin = each.get("origin")
        note = f"  # {origin['url']}{'@' + origin['commit'] if origin.get('commit') else ''}" if origin else ""
        lines.append(f"{each['name']}=={each['version']}{note}")
    return "\n".join(lines) + "\n"


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _library_threads() -> dict[str, int]:
    torch = sys.modules.get("torch")
    return {"torch": torch.get_num_threads()} if torch is not None and hasattr(torch, "get_num_threads") else {}


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as stream:
            return next((line.split(":", 1)[1].strip() for line in stream if line.startswith("model name")), "")
    except OSError:
        return platform.processor()
