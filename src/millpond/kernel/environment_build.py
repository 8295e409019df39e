"""`python -m millpond.kernel.environment_build ORDER`: build one environment; runs confined, as a child of ours.

No code of a package runs here: wheels only, and what compiles them leaves their start-up hooks (`.pth` files) alone.
Of a complete lock, packages without a wheel are built; their code runs last, and leaves nothing in the shared cache.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from millpond.kernel.child import report_ready

_CANNOT_BE_MET = 1
"""uv's code for requirements without a solution; what a network or index does wrong is 2."""
_MAX_MESSAGE = 3000
_CERTIFICATES = ("/etc/ssl/certs", "/etc/pki/tls/certs")
"""Where systems keep the authorities that they trust; those of a company are there, and not among uv's own."""
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
        # they may hold passwords: not for the list of processes
        os.environ |= {"UV_DEFAULT_INDEX": order["index_url"], "UV_INDEX": " ".join(order["extra_index_urls"])}
        _install(order, python, root.parent)
    packages = next(root.glob("lib/python3*/site-packages"))
    installed = sorted(f"{each.name}=={each.version}" for each in distributions(path=[str(packages)]))
    _run(python, "-I", "-S", "-m", "compileall", "-q", "-j", "0", "-x", _NOT_COMPILED, packages, check=False)
    (root / "millpond.json").write_text(json.dumps({"installed": installed}))


def _install(order: Mapping[str, Any], python: str, aside: Path) -> None:
    wheels, sources = list(order["requirements"]), list[str]()
    within = ["-c", _file(aside, order["constraints"], "constraints.txt")] if order["constraints"] else []
    while wheels:
        try:
            _uv(
                order,
                "pip",
                "install",
                "--no-build",
                *_how(order),
                *within,
                "--python",
                python,
                "-r",
                _file(aside, wheels),
            )
            break
        except subprocess.CalledProcessError as error:
            found = _without_wheel(error.stderr or "", wheels) if order["complete"] else []
            if not found:
                raise
            sources += found
            wheels = [line for line in wheels if line not in found]
    if sources:
        own = {**order, "cache": str(aside / "cache")}
        _uv(own, "pip", "install", *_how(order), "--python", python, "-r", _file(aside, sources))


def _how(order: Mapping[str, Any]) -> list[str]:
    return ["--no-deps"] if order["complete"] else []


def _file(aside: Path, lines: Sequence[str], name: str = "requirements.txt") -> Path:
    path = aside / name
    path.write_text("\n".join(lines) + "\n")
    return path


def _without_wheel(said: str, lines: Sequence[str]) -> list[str]:
    """The requirements of which the installer says that they have no wheel."""
    names = set(re.findall(r"([\w.-]+)==\S+ has no (?:usable )?wheels", said))
    return [line for line in lines if line.partition("==")[0] in names]


def _interpreter(order: Mapping[str, Any]) -> str:
    """Ours, where it is of the version that is asked for."""
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    return sys.executable if order["python"] == own else order["python"]


def _uv(order: Mapping[str, Any], *arguments: object) -> None:
    from uv import find_uv_bin

    options = ("--no-config", "--no-progress", "--color", "never", "--cache-dir", order["cache"])
    trust = ("--system-certs",) if any(any(Path(place).glob("*")) for place in _CERTIFICATES) else ()
    _run(find_uv_bin(), *arguments, *options, *trust)


def _run(*arguments: object, check: bool = True) -> None:
    subprocess.run(list(map(str, arguments)), check=check, stderr=subprocess.PIPE, text=True)


if __name__ == "__main__":
    main()
