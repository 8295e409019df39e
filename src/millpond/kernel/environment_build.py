"""`python -m millpond.kernel.environment_build ORDER`: build one environment; runs confined, as a child of ours.

No code of a package runs here: wheels only, and what compiles them leaves their start-up hooks (`.pth` files) alone.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from millpond.kernel.child import report_ready

_CANNOT_BE_MET = 1
"""uv's code for requirements without a solution; what a network or index does wrong is 2."""
_MAX_MESSAGE = 3000
_NOT_COMPILED = r"[/\\]tests?[/\\]"


def main() -> None:
    """Do what the order says; tell how it went."""
    order = json.loads(Path(sys.argv[1]).read_text())
    try:
        _build(order)
    except subprocess.CalledProcessError as error:
        message = (error.stderr or "").strip()[-_MAX_MESSAGE:] or str(error)
        later = "install" in error.cmd and error.returncode != _CANNOT_BE_MET
        report_ready({"ok": False, "message": message, "may_work_later": later})
    else:
        report_ready({"ok": True})


def _build(order: Mapping[str, Any]) -> None:
    root = Path(order["root"])
    python = str(root / "bin" / "python")
    _uv(order, "venv", "--no-project", "--relocatable", "--no-python-downloads", "--python", _interpreter(order), root)
    if order["requirements"]:
        requirements = root.parent / "requirements.txt"
        requirements.write_text("\n".join(order["requirements"]) + "\n")
        os.environ["UV_DEFAULT_INDEX"] = order["index_url"]  # it may hold a password: not for the list of processes
        _uv(order, "pip", "install", "--no-build", "--python", python, "-r", requirements)
    packages = next(root.glob("lib/python3*/site-packages"))
    installed = sorted(f"{each.name}=={each.version}" for each in distributions(path=[str(packages)]))
    _run(python, "-I", "-S", "-m", "compileall", "-q", "-j", "0", "-x", _NOT_COMPILED, packages, check=False)
    (root / "millpond.json").write_text(json.dumps({"installed": installed}))


def _interpreter(order: Mapping[str, Any]) -> str:
    """Ours, where it is of the version that is asked for."""
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    return sys.executable if order["python"] == own else order["python"]


def _uv(order: Mapping[str, Any], *arguments: object) -> None:
    from uv import find_uv_bin

    _run(find_uv_bin(), *arguments, "--no-config", "--no-progress", "--color", "never", "--cache-dir", order["cache"])


def _run(*arguments: object, check: bool = True) -> None:
    subprocess.run(list(map(str, arguments)), check=check, stderr=subprocess.PIPE, text=True)


if __name__ == "__main__":
    main()
