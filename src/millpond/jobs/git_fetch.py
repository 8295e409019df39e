"""`python -m millpond.jobs.git_fetch ORDER`: fetch one commit of a repository; runs confined, as a child of ours.

Nothing of the repository runs: no hooks, no submodules, no filters, no links. It has no credentials to give away.
"""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from millpond.kernel.child import report_ready

_MAX_MESSAGE = 2000
_MOST_FILES = 50_000
_SAFE = ("core.hooksPath=/dev/null", "core.symlinks=false", "http.followRedirects=false")


def main() -> None:
    """Do what the order says; tell which commit it is."""
    order = json.loads(Path(sys.argv[1]).read_text())
    resource.setrlimit(resource.RLIMIT_FSIZE, (order["most_bytes"], order["most_bytes"]))
    try:
        report_ready({"ok": True, "commit": _fetched(order)})
    except subprocess.CalledProcessError as error:
        report_ready({"ok": False, "message": (error.stderr or str(error)).strip()[-_MAX_MESSAGE:]})
    except ValueError as error:
        report_ready({"ok": False, "message": str(error)})


def _fetched(order: Mapping[str, Any]) -> str:
    root = Path(order["root"])
    (root.parent / "gitconfig").write_text("[safe]\n\tdirectory = *\n")
    os.environ.update({
        "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": str(root.parent / "gitconfig"), "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "/bin/true", "GIT_ALLOW_PROTOCOL": "https:file", "GIT_ATTR_NOSYSTEM": "1",
    })  # fmt: skip
    _git(root.parent, "init", "--quiet", "--template=", str(root))
    _git(
        root, "fetch", "--quiet", "--depth=1", "--no-tags", "--no-recurse-submodules", "--", order["url"], order["ref"]
    )
    commit = _git(root, "rev-parse", "FETCH_HEAD^{commit}").strip()
    check_size(root, commit, order["most_bytes"])
    _git(root, "checkout", "--quiet", "--detach", commit)
    return commit


def check_size(root: Path, commit: str, most_bytes: int) -> None:
    """Look what a commit would be on disk, where a few objects may be millions of files. Raises ValueError."""
    found, size_bytes = 0, 0
    command = ["git", "ls-tree", "-r", "-l", commit]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE) as listing:
        assert listing.stdout is not None
        try:
            for line in listing.stdout:
                size = line.split()[3]
                found, size_bytes = found + 1, size_bytes + (int(size) if size != b"-" else 0)
                if found > _MOST_FILES or size_bytes > most_bytes:
                    raise ValueError(f"The repository has more than {_MOST_FILES:,} files or {most_bytes:,} bytes.")
            if listing.wait():
                raise ValueError("The files of the repository cannot be listed.")
        finally:
            listing.kill()


def _git(place: Path, *arguments: str) -> str:
    options = [word for option in _SAFE for word in ("-c", option)]
    done = subprocess.run(["git", *options, *arguments], cwd=place, capture_output=True, text=True, check=True)
    return done.stdout


if __name__ == "__main__":
    main()
