"""The code of a program: what was run and how, its repository, and a copy of its files as they are."""

import builtins
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_MOST_FILE_BYTES = 5 << 20
_MOST_BYTES = 32 << 20
_MOST_FILES = 5_000
_GIT_S = 20
_SECRET_FILE = re.compile(
    r"(^|/)(\.env(\..*)?|\.netrc|\.pypirc|\.databrickscfg|id_(rsa|dsa|ecdsa|ed25519).*|.*\.(pem|key|p12|pfx|jks)"
    r"|.*(secret|credential)s?(\.(json|ya?ml|toml|ini|cfg|conf|txt))?)$",
    re.IGNORECASE,
)
_SECRET_NAME = re.compile(r"token|passw|secret|credential|api.?key", re.IGNORECASE)
HIDDEN = "***"


@dataclass(frozen=True, kw_only=True)
class Code:
    """What was run."""

    kind: str
    """script, module, command, notebook; or unknown."""
    entry: str
    """The script's path below the root, the module's name; empty for a command and a notebook."""
    argv: tuple[str, ...]
    cwd: str
    """Below the root; or absolute."""
    root: Path
    git: dict[str, Any] | None
    files: dict[str, Path] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    """Files that are not copied, and why."""
    text: str = ""
    """The code itself of a command."""
    diff: bytes = b""


def cells() -> list[str] | None:
    """The cells of a notebook (or of IPython) that were run so far, this one too; None elsewhere."""
    shell = getattr(builtins, "get_ipython", lambda: None)()
    return None if shell is None else [str(cell) for cell in shell.user_ns.get("In", [])]


def find_code() -> Code:
    """What this process runs."""
    kind, entry, text = _entry()
    start = Path(entry).parent if kind == "script" else Path.cwd()
    top = _git(start, "rev-parse", "--show-toplevel")
    git = _git_state(Path(top)) if top else None
    root = Path(top) if git else _plain_root(start)
    listed = _git_files(root) if git else (*_modules_below(root), *([entry] if kind == "script" else []))
    files, skipped = taken(root, listed)
    diff = _diff(root) if git else b""
    return Code(
        kind=kind,
        entry=_below(root, entry) if kind == "script" else entry,
        argv=_without_secrets(sys.argv[1:]),
        cwd=_below(root, os.getcwd()),
        root=root,
        git=git,
        files=files,
        skipped=skipped,
        text=text,
        diff=diff,
    )


def late_files(root: Path) -> dict[str, Path]:
    """Modules below a root without a repository, now that the program has imported all of them."""
    return taken(root, _modules_below(root))[0]


def _entry() -> tuple[str, str, str]:
    if cells() is not None:
        return "notebook", "", ""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return "module", str(spec.name).removesuffix(".__main__"), ""
    path = getattr(main, "__file__", None)
    if path and os.path.isfile(path):
        return "script", os.path.abspath(path), ""
    words = sys.orig_argv
    if "-c" in words[1:-1]:
        return "command", "", words[words.index("-c") + 1]
    return "unknown", "", ""


def _without_secrets(words: Sequence[str]) -> tuple[str, ...]:
    """Arguments, without the values of those that are called like secrets."""
    shown, hide = [], False
    for word in words:
        name, equals, _ = word.partition("=")
        is_option = word.startswith("-")
        if hide and not is_option:
            shown.append(HIDDEN)
        elif equals and _SECRET_NAME.search(name):
            shown.append(f"{name}={HIDDEN}")
        else:
            shown.append(word)
        hide = is_option and not equals and bool(_SECRET_NAME.search(name))
    return tuple(shown)


# -- the repository -----------------------------------------------------------------------------------------------


def _git(where: Path, *words: str) -> str:
    """What git says; empty where it fails or is not there."""
    return _git_bytes(where, *words).decode(errors="replace").strip()


def _git_bytes(where: Path, *words: str) -> bytes:
    try:
        command = ["git", "-C", str(where), "-c", "core.fsmonitor=false", *words]
        env = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}  # never in the way of the user's own git
        done = subprocess.run(command, capture_output=True, timeout=_GIT_S, check=False, env=env)
    except (OSError, subprocess.TimeoutExpired):
        return b""
    return done.stdout if done.returncode == 0 else b""


def _git_state(top: Path) -> dict[str, Any] | None:
    commit = _git(top, "rev-parse", "HEAD")
    if not commit:
        return None
    remote = _git(top, "remote", "get-url", "origin")
    return {
        "commit": commit,
        "branch": _git(top, "rev-parse", "--abbrev-ref", "HEAD"),
        "remote": re.sub(r"//[^/@]*@", "//", remote),
        "top": str(top),
        "changed": _git(top, "status", "--porcelain", "--untracked-files=all").splitlines()[:500],
    }


def _git_files(root: Path) -> list[str]:
    """Tracked files and those that are not ignored, changed ones first."""
    tracked = _names(_git_bytes(root, "ls-files", "-z"))
    untracked = _names(_git_bytes(root, "ls-files", "-z", "--others", "--exclude-standard"))
    changed = _names(_git_bytes(root, "diff", "--name-only", "-z", "HEAD"))
    return list(dict.fromkeys([*changed, *untracked, *sorted(tracked, key=lambda name: not name.endswith(".py"))]))


def _names(data: bytes) -> list[str]:
    return [name for name in data.decode(errors="surrogateescape").split("\0") if name]


def _diff(root: Path) -> bytes:
    """The difference to the commit, without files that may hold secrets."""
    names = _names(_git_bytes(root, "diff", "--name-only", "-z", "HEAD"))
    safe = [name for name in names if not _SECRET_FILE.search(name)]
    return (
        _git_bytes(root, "diff", "--no-ext-diff", "--no-textconv", "HEAD", "--", *safe)[:_MOST_FILE_BYTES]
        if safe
        else b""
    )


# -- files --------------------------------------------------------------------------------------------------------


def _plain_root(start: Path) -> Path:
    """Without a repository: where the script is; the working directory, where the script lies below it."""
    here = Path.cwd()
    return here if start.resolve().is_relative_to(here.resolve()) and here != Path(here.anchor) else start.resolve()


def _modules_below(root: Path) -> Iterator[str]:
    libraries = tuple(path for path in {sys.prefix, sys.base_prefix} if path)
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if path and path.endswith(".py") and Path(path).is_relative_to(root) and not path.startswith(libraries):
            yield path


def taken(root: Path, listed: Iterable[str]) -> tuple[dict[str, Path], dict[str, str]]:
    """Those of some files (below the root, or absolute) that are copied, and why others are not."""
    copied: dict[str, Path] = {}
    skipped: dict[str, str] = {}
    total = 0
    for name in listed:
        path = root / name
        shown = _below(root, str(path))
        reason = _refused(root, path, shown, total, len(copied))
        if reason is None:
            copied[shown] = path
            total += path.stat().st_size
        elif reason:
            skipped[shown] = reason
    return copied, skipped


def _refused(root: Path, path: Path, shown: str, total: int, count: int) -> str | None:
    """Why a file is not copied; empty for what is no file, None for one that is."""
    if not path.is_file() or path.suffix == ".pyc":
        return ""
    if _SECRET_FILE.search(shown):
        return "it may hold secrets"
    if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
        return "it is a link that leaves the directory"
    size = path.stat().st_size
    if size > _MOST_FILE_BYTES:
        return f"it has {size} bytes, more than {_MOST_FILE_BYTES}"
    if total + size > _MOST_BYTES or count >= _MOST_FILES:
        return f"the code has more than {_MOST_BYTES >> 20} MiB or {_MOST_FILES} files"
    return None


def _below(root: Path, path: str) -> str:
    """A path as seen from the root; absolute where it lies elsewhere."""
    try:
        return Path(path).relative_to(root).as_posix()
    except ValueError:
        pass
    try:
        return Path(path).resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        return path


def file_sha256(path: Path) -> str:
    """The digest of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
