"""Does what was planned: files first, then each resource, with the state written before and after each step."""

import hashlib
import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from millpond.bundles.planning import Act, Deployed, Names, Step, Wanted, digest_of, plan, removals, wanted_in
from millpond.bundles.reading import Bundle
from millpond.bundles.resources import (
    ENDPOINTS,
    JOBS,
    KINDS,
    PIPELINES,
    Handler,
    Kind,
    Server,
    check_settings,
    grants_of,
    id_of,
    volumes_of,
)
from millpond.kernel.errors import (
    AlreadyExists,
    Conflict,
    FailedPrecondition,
    InvalidArgument,
    MillpondError,
    NotFound,
    Unavailable,
)

_MOST_FILES = 2000
_LARGEST_FILE = 64 << 20
_LEFT_OUT = frozenset({"__pycache__", "node_modules"})
_VOLUMES = "/api/2.1/unity-catalog/volumes"
_ME = "/api/2.0/preview/scim/v2/Me"
Tell = Callable[[str], None]


class Storage(Server, Protocol):
    """The server with its files."""

    def read_file(self, path: str) -> bytes:
        """Raises NotFound."""

    def write_file(self, path: str, content: bytes, *, overwrite: bool) -> None:
        """Write a file whose directory may not be there yet. Raises AlreadyExists."""

    def remove_file(self, path: str) -> None:
        """Raises NotFound."""


@dataclass(frozen=True, kw_only=True)
class State:
    """What was deployed, as `state/resources.json` holds it."""

    resources: Mapping[str, Deployed] = field(default_factory=dict)
    """By `kind.key`, in the order in which they were made."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Digests by path within the bundle."""
    by: str = ""
    at: str = ""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a deployment would do."""

    steps: Sequence[Step]
    uploads: Sequence[str]
    removed_files: Sequence[str]

    @property
    def changes(self) -> bool:
        """Whether it would do anything."""
        return bool(self.uploads or self.removed_files or any(step.act is not Act.KEEP for step in self.steps))


class Deployment:
    """A bundle and the server that it goes to."""

    def __init__(self, bundle: Bundle, server: Storage) -> None:
        self.server = server
        self.user = str(server.call("GET", _ME)["userName"])
        names = Names(bundle, self.user, ())
        root_path = str(names.resolved(bundle.root_path, {}))
        self.bundle = replace(bundle, root_path=root_path)
        self._state_path = f"{root_path}/state/resources.json"
        self._lock_path = f"{root_path}/state/deploy.lock"
        self.wanted: Sequence[Wanted] = self._read_wanted()
        self._names = Names(self.bundle, self.user, self.wanted)
        self._handler = Handler(server, self._state_path)
        self._files = bundle_files(bundle.root)
        for each in self.wanted:
            self._check(each)

    def _check(self, each: Wanted) -> None:
        """What can be known before the server is asked. Raises InvalidArgument, NotImplementedHere."""
        declared = self._names.resolved(each.declared, {name.name: "1" for name in self.wanted})
        grants_of(declared)
        if each.kind.has_own_id:
            check_settings(each.kind, each.name, declared)
        elif each.kind is not ENDPOINTS and self.bundle.root_path.startswith(volumes_of(each.kind, declared)):
            raise InvalidArgument(f"{each.name} holds workspace.root_path, which has to be there before the bundle.")

    def _read_wanted(self) -> list[Wanted]:
        wanted = wanted_in(self.bundle, self.user)
        names = Names(self.bundle, self.user, wanted)
        fixed = [
            replace(each, declared={**each.declared, **{name: names.resolved(each.declared[name], {})
                                                        for name in each.kind.fixed}})
            for each in wanted
        ]  # fmt: skip
        places = [(each.kind.name, id_of(each.kind, each.declared)) for each in fixed if not each.kind.has_own_id]
        if twice := [place for place in places if places.count(place) > 1]:
            raise InvalidArgument(f"Two {twice[0][0]} of the bundle are {twice[0][1]}.")
        return fixed

    # -- plans --------------------------------------------------------------------------------------------------------

    def plan(self) -> Plan:
        """What a deployment would do now."""
        return self._plan(self.state())

    def _plan(self, state: State) -> Plan:
        gone = frozenset(name for name, each in state.resources.items() if self._is_gone(name, each))
        return Plan(
            steps=plan(self.wanted, self._names, state.resources, gone),
            uploads=[path for path, digest in self._files.items() if state.files.get(path) != digest],
            removed_files=[path for path in state.files if path not in self._files],
        )

    def _is_gone(self, name: str, deployed: Deployed) -> bool:
        try:
            return bool(deployed.id) and not self._handler.exists(KINDS[name.partition(".")[0]], deployed.id)
        except NotFound:
            return True

    def state(self) -> State:
        """What was deployed; nothing yet where there is no state."""
        try:
            told = json.loads(self.server.read_file(self._state_path))
        except NotFound:
            return State()
        resources = {name: Deployed(**each) for name, each in told["resources"].items()}
        return State(resources=resources, files=told["files"], by=told["by"], at=told["at"])

    def runnable(self, key: str) -> tuple[Kind, str]:
        """A job or pipeline that was deployed, and its id. Raises NotFound."""
        resources = self.state().resources
        for kind in (JOBS, PIPELINES):
            if (found := resources.get(f"{kind.name}.{key}")) is not None and found.id:
                return kind, found.id
        known = [each.key for each in self.wanted if each.kind.has_own_id]
        told = f"'{key[:80]}' is not deployed to target {self.bundle.target} as a job or pipeline"
        raise NotFound(f"{told}; the bundle has {', '.join(known) or 'none'}, and deploy makes them.")

    # -- acts ---------------------------------------------------------------------------------------------------------

    def deploy(self, tell: Tell, agree: Callable[[Plan], bool], *, force_lock: bool = False) -> bool:
        """Deploy; whether somebody agreed to the plan."""
        self._ensure_volume(tell)
        with self._locked(force=force_lock):
            state = self.state()
            planned = self._plan(state)
            if not agree(planned):
                return False
            state = self._put_files(state, planned, tell)
            for step in planned.steps:
                if step.act is not Act.KEEP:
                    tell(f"{step.act} {step.name}: {step.what}")
                    state = self._do(state, step)
            return True

    def destroy(self, tell: Tell, agree: Callable[[Plan], bool], *, force_lock: bool = False) -> bool:
        """Remove all that was deployed; whether somebody agreed."""
        with self._locked(force=force_lock):
            state = self.state()
            planned = Plan(steps=removals(state.resources), uploads=(), removed_files=list(state.files))
            if not agree(planned):
                return False
            for step in planned.steps:
                tell(f"{step.act} {step.name}: {step.what}")
                state = self._do(state, step)
            self._put_files(state, planned, tell)
            self._forget(self._state_path)
            return True

    def _do(self, state: State, step: Step) -> State:
        before = state.resources.get(step.name)
        if step.removes and before is not None:
            self._remove(step, before)
            state = self._kept(state, step.name, None)
        if step.act is Act.DELETE:
            return state
        each = next(each for each in self.wanted if each.name == step.name)
        ids = {name: found.id for name, found in state.resources.items()}
        declared = self._names.resolved(each.declared, ids)
        if step.act is Act.CHANGE and before is not None:
            state = self._kept(state, step.name, replace(before, digest=""))
            made = before.id
            self._handler.change(step.kind, step.key, made, declared)
        else:
            begun = step.act is Act.CREATE and before is not None and before.begun(id_of(step.kind, declared))
            state = self._kept(state, step.name, Deployed(id=id_of(step.kind, declared)))
            made = self._make_or_forget(state, step, declared, begun=begun)
            state = self._kept(state, step.name, Deployed(id=made))
        granted = before.grants if before and step.act is Act.CHANGE else {}
        self._handler.set_rights(step.kind, made, declared, granted)
        done = Deployed(id=made, digest=digest_of(declared), grants=grants_of(declared))
        return self._kept(state, step.name, done)

    def _make_or_forget(self, state: State, step: Step, declared: Mapping[str, Any], *, begun: bool) -> str:
        """Make a resource. Where the server refused that, it is not this bundle's, whoever makes one like it."""
        try:
            return self._make(step, declared, begun=begun)
        except Unavailable:  # who knows whether it was made
            raise
        except MillpondError:
            if not begun:
                self._kept(state, step.name, None)
            raise

    def _make(self, step: Step, declared: Mapping[str, Any], *, begun: bool) -> str:
        """Make a resource, or take up what a deployment that broke off has made."""
        found = self._handler.find_made(step.kind, step.key, declared) if begun else None
        try:
            if found is None or not step.kind.has_own_id:
                return self._handler.create(step.kind, step.key, declared)
        except AlreadyExists as error:
            if not begun or found is None:
                told = f"{step.name}: {step.what} exists, and this bundle did not make it."
                raise FailedPrecondition(f"{told} Remove it, or choose another name.") from error
        assert found is not None
        self._handler.change(step.kind, step.key, found, declared)
        return found

    def _remove(self, step: Step, before: Deployed) -> None:
        made = before.id or self._handler.find_made(step.kind, step.key, {"name": ""})
        try:
            if made:
                self._handler.delete(step.kind, made)
        except NotFound:
            return

    def _kept(self, state: State, name: str, deployed: Deployed | None) -> State:
        """The state with a resource as it is now, written."""
        resources = {key: each for key, each in state.resources.items() if key != name or deployed is not None}
        if deployed is not None:
            resources[name] = deployed
        return self._write(replace(state, resources=resources))

    def _write(self, state: State) -> State:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        state = replace(state, by=self.user, at=now)
        told = {
            "bundle": self.bundle.name, "target": self.bundle.target, "by": state.by, "at": state.at,
            "resources": {name: vars(each) for name, each in state.resources.items()}, "files": dict(state.files),
        }  # fmt: skip
        self.server.write_file(self._state_path, json.dumps(told, indent=1).encode(), overwrite=True)
        return state

    # -- files --------------------------------------------------------------------------------------------------------

    def _put_files(self, state: State, planned: Plan, tell: Tell) -> State:
        if not planned.uploads and not planned.removed_files:
            return state
        tell(f"files: {len(planned.uploads)} to upload, {len(planned.removed_files)} to remove")
        place = f"{self.bundle.root_path}/files"
        for path in planned.uploads:
            content = (self.bundle.root / path).read_bytes()
            self.server.write_file(f"{place}/{path}", content, overwrite=True)
        for path in planned.removed_files:
            self._forget(f"{place}/{path}")
        files = {path: digest for path, digest in state.files.items() if path not in planned.removed_files}
        return self._write(replace(state, files=files | {path: self._files[path] for path in planned.uploads}))

    def _forget(self, path: str) -> None:
        try:
            self.server.remove_file(path)
        except NotFound:
            return

    def _ensure_volume(self, tell: Tell) -> None:
        """Make the volume of the bundle's files where nobody has. Raises NotFound where its schema is not there."""
        catalog, schema, volume = self.bundle.root_path.split("/")[2:5]
        try:
            self.server.call("GET", f"{_VOLUMES}/{catalog}.{schema}.{volume}")
        except NotFound:
            body = {"catalog_name": catalog, "schema_name": schema, "name": volume, "volume_type": "MANAGED"}
            with suppress(AlreadyExists):  # by somebody else meanwhile
                self.server.call("POST", _VOLUMES, body)
                tell(f"create volume {catalog}.{schema}.{volume} for the bundle's files")

    @contextmanager
    def _locked(self, *, force: bool) -> Iterator[None]:
        """Keep others from deploying meanwhile: who makes the file has the lock."""
        mine = json.dumps({"by": self.user, "at": datetime.now(UTC).isoformat(timespec="seconds")}).encode()
        try:
            self.server.write_file(self._lock_path, mine, overwrite=force)
        except AlreadyExists as error:
            told = json.loads(self.server.read_file(self._lock_path))
            since = f"{told['by']} deploys this target since {told['at']}."
            raise Conflict(f"{since} Where that broke off, give --force-lock.") from error
        try:
            yield
        finally:
            self._forget(self._lock_path)


def bundle_files(root: Path) -> dict[str, str]:
    """Digests of a bundle's files by their paths: in a git repository of what it does not ignore, else of all but
    hidden ones. Raises InvalidArgument for too many, or one that is too large."""
    paths = sorted(_listed(root))
    if len(paths) > _MOST_FILES:
        raise InvalidArgument(f"The bundle has {len(paths):,} files, more than {_MOST_FILES:,}; let git ignore some.")
    found = {}
    for path in paths:
        if path.stat().st_size > _LARGEST_FILE:
            raise InvalidArgument(f"{path} has more than {_LARGEST_FILE >> 20} MiB; put it into a volume by itself.")
        found[path.relative_to(root).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def _listed(root: Path) -> Iterator[Path]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, check=True, timeout=60)
        paths = [root / name for name in done.stdout.decode(errors="surrogateescape").split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        paths = [path for path in root.rglob("*") if not _LEFT_OUT & set(path.relative_to(root).parts)]
    for path in paths:
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if path.is_file() and not path.is_symlink() and not hidden:
            yield path
