"""What one can do in the workspace: each method one unit of work, with its check of rights and its record."""

import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from millpond.identity import acts, grants
from millpond.identity.access import Act, allows, require
from millpond.identity.domain import Principal
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import (
    AlreadyExists,
    DirectoryNotEmpty,
    InvalidArgument,
    LimitExceeded,
    NotebookTooLarge,
    NotFound,
    PermissionDenied,
)
from millpond.workspace import store
from millpond.workspace.domain import (
    GIVEN,
    MOST_BYTES,
    MOST_IN_DIRECTORY,
    USERS,
    Kept,
    Object,
    ObjectType,
    Path,
    let_in_by,
    path_of,
    securable_of,
)
from millpond.workspace.formats import Format, Incoming, Outgoing, incoming, notebook_of, outgoing
from millpond.workspace.notebooks import Language, Notebook

_DIRECTORY_FORMATS = (Format.SOURCE, Format.AUTO)


@dataclass(frozen=True, kw_only=True)
class Found:
    """An object, and all from the root to it."""

    chain: tuple[Object, ...]

    @property
    def object(self) -> Object:
        """The object itself."""
        return self.chain[-1]


class WorkspaceService:
    """The tree, for whoever may."""

    def __init__(self, database: Database, find_name: Callable[[str], str | None]) -> None:
        self._database = database
        self._find_name = find_name

    # -- looking ----------------------------------------------------------------------------------------------------

    def status(self, principal: Principal, path: str) -> Object:
        """What is at a path. Raises NotFound, InvalidArgument."""
        place = self._place(principal, path)
        with self._database.read() as connection:
            return _found(connection, principal, Act.SEE, place).object

    def list(self, principal: Principal, path: str) -> tuple[Object, ...]:
        """What is in a directory and may be seen, by name; of anything else, itself. Raises NotFound."""
        place = self._place(principal, path)
        with self._database.read() as connection:
            found = _found(connection, principal, Act.READ, place)
            if found.object.type is not ObjectType.DIRECTORY:
                return (found.object,)
            inside = store.children(connection, found.object.id)
        return tuple(each for each in inside if allows(principal, Act.SEE, securable_of((*found.chain, each))))

    def export(self, principal: Principal, path: str, format: Format) -> Outgoing:
        """What an object holds; of a directory, a zip of all below that one may read.

        Raises NotFound, InvalidArgument, NotebookTooLarge.
        """
        place = self._place(principal, path)
        with self._database.read() as connection:
            found = _found(connection, principal, Act.READ, place)
            if found.object.type is ObjectType.DIRECTORY:
                return _zipped(connection, principal, found, format)
            data = store.get(connection, found.object.id)
        return outgoing(found.object, data, format)

    def notebook(self, principal: Principal, path: str) -> Notebook:
        """The cells of a notebook that one may run. Raises NotFound, PermissionDenied, InvalidArgument."""
        found, data = self._runnable(principal, path)
        if found.type is not ObjectType.NOTEBOOK:
            raise InvalidArgument(f"'{found.path}' is a {found.type.kind}, and no notebook.")
        return notebook_of(found, data)

    def script(self, principal: Principal, path: str) -> bytes:
        """The source of a file, or of a notebook, that one may run. Raises NotFound, PermissionDenied."""
        found, data = self._runnable(principal, path)
        return outgoing(found, data, Format.SOURCE).data

    def modules(self, principal: Principal, path: str) -> dict[str, bytes]:
        """The Python files beside what runs, and those in packages there, that one may read: by their paths from there.

        Where everybody may create something, only those of whoever has what runs: others' code is not run by its name.
        Raises NotFound, PermissionDenied, and NotebookTooLarge where they are more than a notebook may be.
        """
        place = self._place(principal, path)
        with self._database.read() as connection:
            *above, _ = chain = _found(connection, principal, Act.USE, place).chain
            found = [
                each
                for each in _modules(connection, above)
                if let_in_by(each) == let_in_by(chain) and allows(principal, Act.READ, securable_of(each))
            ]
            if sum(each[-1].size_bytes for each in found) > MOST_BYTES:
                raise NotebookTooLarge(
                    f"The Python files in '{place.parent}' have more than {MOST_BYTES} bytes; move some away."
                )
            root = len(above) - 1
            return {"/".join(each[-1].path.parts[root:]): store.get(connection, each[-1].id) for each in found}

    def _runnable(self, principal: Principal, path: str) -> tuple[Object, bytes]:
        place = self._place(principal, path)
        with self._database.read() as connection:
            found = _found(connection, principal, Act.USE, place).object
            if found.type is ObjectType.DIRECTORY:
                raise InvalidArgument(f"'{place}' is a directory, which does not run.")
            return found, store.get(connection, found.id)

    # -- changing ---------------------------------------------------------------------------------------------------

    def import_object(
        self, principal: Principal, path: str, data: bytes, *, format: Format = Format.SOURCE,
        language: Language | None = None, overwrite: bool = False,
    ) -> Object:  # fmt: skip
        """Keep a notebook or file in a directory that is there.

        Raises NotFound, AlreadyExists, InvalidArgument, NotebookTooLarge, LimitExceeded, PermissionDenied.
        """
        if len(data) > MOST_BYTES:
            raise NotebookTooLarge(
                f"'{path[:80]}' has {len(data)} bytes; the workspace takes {MOST_BYTES}. Use a volume."
            )
        given = incoming(self._place(principal, path), data, format, language)
        with self._database.write() as connection:
            chain = store.chain(connection, given.path)
            if len(chain) > len(given.path.parts):
                return _overwrite(connection, principal, chain, given, overwrite=overwrite)
            parent = _parent(connection, principal, given.path, chain)
            made = _new(given.path, given.type, principal.name, given)
            _add(connection, parent, made)
            store.put(connection, made.id, given.data)
            _tell(connection, principal, "import", made)
        return made

    def make_directories(self, principal: Principal, path: str) -> None:
        """Make a directory and those above it; harmless where they are. Raises AlreadyExists, PermissionDenied."""
        place = self._place(principal, path)
        with self._database.write() as connection:
            chain = store.chain(connection, place)
            _require(principal, Act.SEE if len(chain) > len(place.parts) else Act.CREATE_IN, chain, place)
            if chain[-1].type is not ObjectType.DIRECTORY:
                raise AlreadyExists(f"'{chain[-1].path}' is a {chain[-1].type.kind}, and no directory.")
            for each in place.lineage[len(chain) :]:
                parent = _parent(connection, principal, each, chain)
                made = _new(each, ObjectType.DIRECTORY, principal.name)
                _add(connection, parent, made)
                chain.append(made)
                _tell(connection, principal, "create", made)

    def delete(self, principal: Principal, path: str, *, recursive: bool = False) -> None:
        """Delete an object; a directory that is not empty only with all below it.

        Raises NotFound, DirectoryNotEmpty, InvalidArgument for what is the server's.
        """
        place = self._place(principal, path)
        with self._database.write() as connection:
            found = _found(connection, principal, Act.MANAGE, place).object
            if place.is_given:
                raise InvalidArgument(f"'{place}' is always there, and cannot be deleted.")
            every = _all_below(connection, found)
            if len(every) > 1 and not recursive:
                raise DirectoryNotEmpty(f"Directory '{place}' is not empty; delete it with recursive=true.")
            store.remove(connection, [each.id for each in every])
            grants.forget(connection, [each.grant_id for each in every])
            _tell(connection, principal, "delete", found)

    def _place(self, principal: Principal, path: str) -> Path:
        """The path, with what is there without being made: homes of users come when they are needed."""
        place = path_of(path)
        home = Path(parts=(USERS, place.home_of or principal.name))
        with self._database.read() as connection:
            missing = store.missing(connection, (*GIVEN, home))
        if missing == [home] and not self._is_home(home):
            return place
        if missing:
            wanted = [each for each in missing if each != home or self._is_home(home)]
            with self._database.write() as connection:
                for each in wanted:
                    chain = store.chain(connection, each.parent) if each.parts else []
                    new = _new(each, ObjectType.DIRECTORY, each.home_of or "")
                    store.add(connection, new, chain[-1].id if chain else None)
        return place

    def _is_home(self, path: Path) -> bool:
        return "/" not in path.name and self._find_name(path.name) == path.name


def _found(connection: Connection, principal: Principal, act: Act, path: Path) -> Found:
    """What is at a path, if the principal may. Raises NotFound, PermissionDenied."""
    chain = store.chain(connection, path)
    if len(chain) <= len(path.parts):
        raise NotFound(f"Path '{path}' does not exist.")
    _require(principal, act, chain, path)
    return Found(chain=tuple(chain))


def _require(principal: Principal, act: Act, chain: Sequence[Object], asked: Path) -> None:
    """Raises the same NotFound for what one may not see as for what is not there, else PermissionDenied."""
    try:
        require(principal, act, securable_of(chain))
    except NotFound as error:
        raise NotFound(f"Path '{asked}' does not exist.") from error


def _parent(connection: Connection, principal: Principal, path: Path, chain: Sequence[Object]) -> Object:
    """The directory in which something is to be made, locked. Raises NotFound, PermissionDenied, InvalidArgument."""
    _require(principal, Act.CREATE_IN, chain, path.parent)
    if len(chain) < len(path.parts):
        raise NotFound(f"Path '{path.parent}' does not exist; make the directory first.")
    parent = chain[-1]
    if parent.path.parts == (USERS,):
        acts.denied(principal, Act.CREATE_IN.value, parent.type.kind, str(parent.path))
        raise PermissionDenied(f"'{path}' is no user's home, and there is nothing else in /{USERS}.")
    if parent.type is not ObjectType.DIRECTORY:
        raise InvalidArgument(f"'{parent.path}' is a {parent.type.kind}, and no directory.")
    if not store.lock(connection, parent.id):
        raise NotFound(f"Path '{path.parent}' does not exist.")
    return parent


def _add(connection: Connection, parent: Object, made: Object) -> None:
    if store.count(connection, parent.id) >= MOST_IN_DIRECTORY:
        raise LimitExceeded(f"Directory '{parent.path}' has {MOST_IN_DIRECTORY} objects, the most that it can.")
    store.add(connection, made, parent.id)
    if store.chain(connection, made.path)[-1].id != made.id:
        raise AlreadyExists(f"Path '{made.path}' already exists.")


def _overwrite(
    connection: Connection, principal: Principal, chain: Sequence[Object], given: Incoming, *, overwrite: bool
) -> Object:
    found = chain[-1]
    _require(principal, Act.WRITE, chain, given.path.parent)
    if not overwrite:
        raise AlreadyExists(f"Path '{given.path}' already exists; pass overwrite=true to replace it.")
    if found.type is not given.type:
        raise InvalidArgument(f"'{given.path}' is a {found.type.kind}, which a {given.type.kind} does not replace.")
    if not store.lock(connection, found.id):
        raise NotFound(f"Path '{given.path}' does not exist.")
    store.change(
        connection, found.id, language=given.language, kept=given.kept, size_bytes=len(given.data), now=utc_now()
    )
    store.put(connection, found.id, given.data)
    _tell(connection, principal, "import", found)
    return found


def _new(path: Path, kind: ObjectType, owner: str, given: Incoming | None = None) -> Object:
    now: datetime = utc_now()
    return Object(
        id=store.new_number(), path=path, type=kind, owner=owner, created_at=now, modified_at=now,
        language=given.language if given else None, kept=given.kept if given else Kept.RAW,
        size_bytes=len(given.data) if given else 0,
    )  # fmt: skip


def _all_below(connection: Connection, found: Object) -> list[Object]:
    """An object and all below it, each locked, so that nothing is put there meanwhile."""
    every, level = [found], [found]
    while level:
        for each in level:
            store.lock(connection, each.id)
        level = store.children(connection, *(each.id for each in level))
        every += level
    return every


def _zipped(connection: Connection, principal: Principal, found: Found, format: Format) -> Outgoing:
    if format not in _DIRECTORY_FORMATS:
        raise InvalidArgument(f"'{found.object.path}' is a directory, which is exported as SOURCE or AUTO.")
    size, packed = 0, io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for chain in _readable(connection, principal, found.chain):
            if chain[-1].type is ObjectType.FILE and format is Format.SOURCE:
                continue
            size += chain[-1].size_bytes
            if size > MOST_BYTES:
                raise NotebookTooLarge(f"'{found.object.path}' holds more than {MOST_BYTES} bytes; export parts of it.")
            one = outgoing(chain[-1], store.get(connection, chain[-1].id), format)
            archive.writestr(_member(found.object.path, chain[-1], one), one.data)
    return Outgoing(data=packed.getvalue(), file_type="zip")


def _readable(connection: Connection, principal: Principal, chain: tuple[Object, ...]) -> list[tuple[Object, ...]]:
    """The chains to all below a directory that one may read, directories left out."""
    found = []
    for each in store.children(connection, chain[-1].id):
        longer = (*chain, each)
        if each.type is ObjectType.DIRECTORY:
            found += _readable(connection, principal, longer)
        elif allows(principal, Act.READ, securable_of(longer)):
            found.append(longer)
    return found


def _modules(connection: Connection, chain: Sequence[Object]) -> list[tuple[Object, ...]]:
    """The chains to the modules in a directory, and in those of its directories that are packages."""
    inside = store.children(connection, chain[-1].id)
    found = [(*chain, each) for each in inside if each.type is ObjectType.FILE and each.path.name.endswith(".py")]
    for each in inside:
        if each.type is ObjectType.DIRECTORY:
            below = _modules(connection, (*chain, each)) if _is_package(connection, each) else []
            found += below
    return found


def _is_package(connection: Connection, directory: Object) -> bool:
    return not store.missing(connection, [Path(parts=(*directory.path.parts, "__init__.py"))])


def _member(root: Path, found: Object, one: Outgoing) -> str:
    """Its name in an archive: a notebook's with the extension that it lost when it came."""
    name = "/".join(found.path.parts[len(root.parts) :])
    is_bare = found.type is ObjectType.NOTEBOOK and not name.endswith(f".{one.file_type}")
    return f"{name}.{one.file_type}" if is_bare else name


def _tell(connection: Connection, principal: Principal, act: str, found: Object) -> None:
    acts.changed(connection, principal.name, act, found.type.kind, str(found.path), object_id=str(found.id))
