"""What one can do with parity checks: ask for one, look at what was found, and let gates look."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import Connection

from millpond.catalog.service import CatalogService
from millpond.identity import acts
from millpond.identity.access import Act, allows
from millpond.identity.domain import SYSTEM, Principal
from millpond.kernel import work
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import FailedPrecondition, MillpondError, NotFound, Unavailable
from millpond.kernel.ids import new_id
from millpond.parity import store
from millpond.parity.domain import ENDED, Report, State, Unreplayable
from millpond.parity.replaying import Replayer, without_values
from millpond.parity.store import Check
from millpond.parity.subjects import Subject, Subjects
from millpond.registry.checks import Looked, Replay

WORK = "parity"
ATTEMPTS = 3
_MOST_TEXT = 4000


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A check as somebody sees it."""

    check: Check
    has_values: bool
    """Whether keys and values are in it: for who may read all of its tables."""


class ParityService:
    """Each method is one act, checked and noted."""

    def __init__(
        self,
        database: Database,
        catalog: CatalogService,
        subjects: Subjects,
        replayer: Replayer,
        principal_named: Callable[[str], Principal],
    ) -> None:
        self._database = database
        self._catalog = catalog
        self._subjects = subjects
        self._replayer = replayer
        self._principal_named = principal_named

    # Asking

    def begin(self, principal: Principal, subject: str, asked: Replay) -> Check:
        """Ask for a check of `models:/NAME/VERSION`, `models:/NAME@ALIAS` or a feature spec, with one's own rights.

        Raises NotFound, PermissionDenied, InvalidArgument, FailedPrecondition for a model that looks nothing up.
        """
        found = self._subjects.named(principal, subject)
        if self._subjects.spec(found) is None:
            raise FailedPrecondition(f"{found.words} has no feature spec, so it looks nothing up.")
        made = _new_check(found, principal.name, asked, State.QUEUED)
        with self._database.write() as connection:
            store.add(connection, made)
            work.enqueue(connection, WORK, {"check": made.id})
            _told(connection, principal.name, found)
        return made

    def get(self, principal: Principal, check_id: str) -> Seen:
        """One, of what one may read. Raises NotFound, PermissionDenied."""
        with self._database.read() as connection:
            found = store.find(connection, check_id)
        if found is None:
            raise NotFound(f"There is no parity check '{check_id[:40]}'.")
        self._subjects.kept(principal, found.subject_key, found.version)
        return self._seen(principal, found)

    def list(self, principal: Principal, subject: str) -> Sequence[Check]:
        """Those of a version or a feature spec, newest first, without what they found. Raises NotFound."""
        found = self._subjects.named(principal, subject)
        with self._database.read() as connection:
            return store.list_of(connection, found.key, found.version)

    def list_of_model(self, principal: Principal, model: str) -> Sequence[Check]:
        """Those of all versions of a model, newest first, without what they found. Raises NotFound."""
        securable = self._subjects.model(principal, model)
        with self._database.read() as connection:
            return store.list_of(connection, securable.ids[0], None)

    def _seen(self, principal: Principal, check: Check) -> Seen:
        if self._may_read(principal, check.report):
            return Seen(check=check, has_values=True)
        return Seen(check=replace(check, report=without_values(check.report)), has_values=False)

    def _may_read(self, principal: Principal, report: Mapping[str, object]) -> bool:
        """Whether somebody may read all tables of a report, and all of them."""
        ids = table_ids(report)
        tables = self._catalog.find_tables_by_id(principal, ids)
        return ids == tables.keys() and all(
            allows(principal, Act.READ, table.securable) and not self._catalog.guards_for(principal, table)
            for table in tables.values()
        )

    # Carrying out

    def run_item(self, item: work.Item) -> None:
        """Carry out a check that waits. Harmless when repeated."""
        with self._database.write() as connection:
            found = store.find(connection, str(item.payload["check"]))
            if found is None or found.state in ENDED:
                return
            store.change(connection, found.id, state=State.RUNNING)
        try:
            self._carry_out(found)
        except Exception as error:
            if item.is_last or (isinstance(error, MillpondError) and not isinstance(error, Unavailable)):
                self._end(found.id, **_failed(error))
                return
            raise

    def _carry_out(self, check: Check) -> None:
        rights = self._principal_named(check.requester)
        spec = self._subjects.spec(self._subjects.kept(rights, check.subject_key, check.version))
        if spec is None:
            raise FailedPrecondition("The version has no feature spec any more.")
        self._end(check.id, **_found(self._replayer.replay(rights, spec, Replay(**check.asked))))

    def look(self, author: str, model: str, version: int, asked: Replay) -> Looked:
        """The same for a gate, at once, with the rights of whoever wrote its policy; see `registry.checks.Tools`."""
        subject = Subject(securable=self._subjects.model(SYSTEM, model), name=model, version=version)
        spec = self._subjects.spec(subject)
        if spec is None:
            return True, "the version looks no features up", {}
        check = _new_check(subject, author, asked, State.RUNNING)
        try:
            found = self._replayer.replay(self._principal_named(author), spec, asked)
        except Unreplayable as error:
            self._keep(subject, replace(check, ended_at=utc_now(), **_failed(error)))
            return False, error.message, {"report": check.id}
        except MillpondError as error:
            self._keep(subject, replace(check, ended_at=utc_now(), **_failed(error)))
            raise
        self._keep(subject, replace(check, ended_at=utc_now(), **_found(found)))
        counts = {each.name: each.differing for each in found.features if each.differing}
        return found.passes, found.message, {"report": check.id, "differing": counts}

    def _keep(self, subject: Subject, check: Check) -> None:
        """One that has ended: should the server be killed before, the gate looks again."""
        with self._database.write() as connection:
            store.add(connection, check)
            _told(connection, check.requester, subject)

    def _end(self, check_id: str, **values: Any) -> None:
        with self._database.write() as connection:
            store.change(connection, check_id, ended_at=utc_now(), **values)


def table_ids(report: Mapping[str, object]) -> set[str]:
    """The tables whose values are in a report."""
    sources = report.get("sources") or ()
    assert isinstance(sources, list | tuple)
    found = {str(source["table_id"]) for source in sources}
    return found | ({str(report["keys_table_id"])} if report.get("keys_table_id") else set())


def _new_check(subject: Subject, requester: str, asked: Replay, state: State) -> Check:
    return Check(
        id=new_id(), subject_key=subject.key, subject=subject.name, version=subject.version, state=state,
        requester=requester, asked=asdict(asked), report={}, message="", created_at=utc_now(), ended_at=None,
    )  # fmt: skip


def _told(connection: Connection, actor: str, subject: Subject) -> None:
    version = "" if subject.version is None else str(subject.version)
    acts.changed(connection, actor, "check parity of", subject.securable.kind, subject.name, version=version)


def _found(report: Report) -> dict[str, Any]:
    state = State.PASSED if report.passes else State.FAILED
    return {"state": state, "message": report.message[:_MOST_TEXT], "report": report.to_dict()}


def _failed(error: Exception) -> dict[str, Any]:
    """What users may read of an error."""
    text = error.message if isinstance(error, MillpondError) else f"{type(error).__name__}; the server's log says more."
    report = error.to_dict() if isinstance(error, Unreplayable) else {}
    return {"state": State.ERROR, "message": text[:_MOST_TEXT], "report": report}
