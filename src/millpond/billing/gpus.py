"""Which processes compute on which GPUs, as NVIDIA's own tool tells."""

import shutil
import subprocess
from collections import defaultdict
from collections.abc import Mapping

_TOOL = "nvidia-smi"
_TIMEOUT_S = 5.0


def gpus_in_use() -> Mapping[int, frozenset[str]]:
    """The GPUs of each process that computes on some; none where there is no GPU, or the tool does not answer."""
    tool = shutil.which(_TOOL)
    if tool is None:
        return {}
    asked = [tool, "--query-compute-apps=pid,gpu_uuid", "--format=csv,noheader"]
    try:
        told = subprocess.run(asked, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    found: dict[int, set[str]] = defaultdict(set)
    for line in told.splitlines():
        pid, _, gpu = (part.strip() for part in line.partition(","))
        if pid.isdecimal() and gpu:
            found[int(pid)].add(gpu)
    return {pid: frozenset(each) for pid, each in found.items()}
