"""Code of git repositories: fetched for each task, at the one commit that its run has."""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from millpond.jobs.domain import Run
from millpond.kernel.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from millpond.kernel.process import ChildSpec, spawn
from millpond.workspace.notebooks import EXTENSIONS

_MODULE = "millpond.jobs.git_fetch"
_MOST_BYTES = 512 << 20
_TIMEOUT_S = 300.0
_MEMORY_BYTES = 1 << 30
_PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "NO_PROXY", "no_proxy")
_URL = re.compile(r"(https|file)://[\w./~+%:-]+")
_REF = re.compile(r"[\w][\w./+-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")
Pin = Callable[[int, str], str]


def checked_source(source: Mapping[str, Any]) -> None:
    """Raises InvalidArgument for what is no repository with one of branch, tag and commit."""
    url = str(source["git_url"])
    if not _URL.fullmatch(url) or _climbs(url):
        raise InvalidArgument(f"git_url '{url[:80]}' is no https:// or file:// address without credentials.")
    refs = [value for name in ("git_branch", "git_tag", "git_commit") if (value := source.get(name))]
    if len(refs) != 1 or not _REF.fullmatch(refs[0]) or ".." in refs[0]:
        raise InvalidArgument("git_source has one of git_branch, git_tag and git_commit.")
    if source.get("git_commit") and not _COMMIT.fullmatch(refs[0]):
        raise InvalidArgument(f"git_commit '{refs[0][:60]}' is not a whole commit: 40 digits.")


def _climbs(url: str) -> bool:
    """Whether it may lead above where it begins, also for who reads it twice."""
    plain = unquote(url)
    return "%" in plain or ".." in re.split(r"[/\\]", plain)


class GitSources:
    """Fetches what operators allow."""

    def __init__(self, allowed: Sequence[str], pin: Pin) -> None:
        """`pin` says which commit a run has: the one that is given, where it has none yet."""
        self._allowed = [prefix.rstrip("/") + "/" for prefix in allowed]
        self._pin = pin

    def checkout(self, run: Run, directory: Path) -> Path:
        """The files of the run's commit, below a directory. Blocks.

        Raises PermissionDenied for what the operator does not allow, FailedPrecondition with git's words.
        """
        source = run.settings["git_source"]
        url = source["git_url"]
        if _climbs(url) or not any(url.startswith(prefix) for prefix in self._allowed):
            raise PermissionDenied(
                f"Repositories at {url[:80]} are not allowed here; jobs.git_sources of the server says which are."
            )
        known = (source.get("git_snapshot") or {}).get("used_commit")
        commit = self._fetch(url, known or _ref(source), directory)
        pinned = self._pin(run.id, commit)
        if pinned != commit:  # another task of the run was first
            self._fetch(url, pinned, directory)
        return directory / "repository"

    def _fetch(self, url: str, ref: str, directory: Path) -> str:
        root = directory / "repository"
        order = {"url": url, "ref": ref, "root": str(root), "most_bytes": _MOST_BYTES}
        place = directory / "git.json"
        place.write_text(json.dumps(order))
        local = (Path(url.removeprefix("file://")),) if url.startswith("file://") else ()
        child = spawn(
            ChildSpec(
                module=_MODULE, args=(str(place),), sandbox=True, readable=local, writable=(directory,),
                cwd=directory, nice=5, memory_bytes=_MEMORY_BYTES,
                env={"HOME": str(directory), **{name: os.environ[name] for name in _PROXIES if name in os.environ}},
            )
        )  # fmt: skip
        try:
            told = child.wait_ready(_TIMEOUT_S)
        finally:
            child.kill()
        if not told["ok"]:
            raise FailedPrecondition(f"'{ref}' of {url} cannot be fetched: {told['message']}")
        return str(told["commit"])


def _ref(source: Mapping[str, Any]) -> str:
    if branch := source.get("git_branch"):
        return f"refs/heads/{branch}"
    return f"refs/tags/{source['git_tag']}" if source.get("git_tag") else str(source["git_commit"])


def inside(root: Path, path: str, *, notebook: bool = False) -> Path:
    """A file of a repository by its path in it; a notebook without its extension too. Raises NotFound."""
    parts = PurePosixPath(path).parts
    ends = ("", ".ipynb", *EXTENSIONS) if notebook else ("",)
    if not path.startswith("/") and ".." not in parts and ".git" not in parts[:1]:
        for place in (root / (path + end) for end in ends):
            if place.is_file() and not place.is_symlink():
                return place
    raise NotFound(f"'{path[:200]}' is not in the repository at this commit.")
