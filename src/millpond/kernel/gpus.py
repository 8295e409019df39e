"""Which GPUs there are, and which processes compute on them, as NVIDIA's own tool tells."""

import shutil
import subprocess
from collections import defaultdict
from collections.abc import Mapping

_TOOL = "nvidia-smi"
_LISTED_WITHIN_S = 30.0
"""The tool is slow where it has to start the driver first."""
_USE_WITHIN_S = 5.0


def all_gpus() -> tuple[str, ...]:
    """The UUIDs of this machine's GPUs; none where there is no GPU, or the tool does not answer. Blocks."""
    return tuple(line for line in _told("--query-gpu=uuid", _LISTED_WITHIN_S) if line.startswith("GPU-"))


def gpus_in_use() -> Mapping[int, frozenset[str]]:
    """The GPUs of each process that computes on some; none where there is no GPU, or the tool does not answer."""
    found: dict[int, set[str]] = defaultdict(set)
    for line in _told("--query-compute-apps=pid,gpu_uuid", _USE_WITHIN_S):
        pid, _, gpu = (part.strip() for part in line.partition(","))
        if pid.isdecimal() and gpu:
            found[int(pid)].add(gpu)
    return {pid: frozenset(each) for pid, each in found.items()}


def _told(query: str, timeout_s: float) -> list[str]:
    tool = shutil.which(_TOOL)
    if tool is None:
        return []
    asked = [tool, query, "--format=csv,noheader"]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, timeout=timeout_s, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in told.splitlines()]
