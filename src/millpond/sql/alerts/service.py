"""What one can do with alerts: each method one unit of work, with its check of rights and its record."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from millpond.identity import acts, grants
from millpond.identity.access import WORKSPACE, Act, allows, require
from millpond.identity.domain import Principal
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import FailedPrecondition, InvalidArgument, MillpondError, NotFound, PermissionDenied
from millpond.kernel.ids import new_id
from millpond.kernel.paging import Page, cut_page, decode_token, page_size
from millpond.notifications.domain import Delivery, Target
from millpond.notifications.outbox import told_about
from millpond.sql.alerts import store
from millpond.sql.alerts.domain import (
    Alert,
    AlertDraft,
    AlertState,
    Evaluation,
    Told,
    Verdict,
    alert_grant_id,
    changed,
    checked_alert,
    next_due,
    with_values,
)
from millpond.sql.alerts.evaluating import Evaluator, Question
from millpond.sql.alerts.messages import about
from millpond.sql.domain import Statement
from millpond.sql.queries import FindName
from millpond.sql.visibility import reach_of
from millpond.sql.warehouses import WarehouseService


@dataclass(frozen=True, kw_only=True)
class Asked:
    """An alert that a job's task evaluates."""

    alert: Alert
    who: Principal
    """As whom."""
    question: Question
    differs: bool
    """Whether it is asked with other parameters than its own."""
    shows_text: bool
    """Whether whoever the job runs as may see the text of the query."""


@dataclass(frozen=True, kw_only=True)
class AlertService:
    """Alerts for whoever may."""

    database: Database
    evaluator: Evaluator
    warehouses: WarehouseService
    find_name: FindName
    check_target: Callable[[Principal, Target], None]

    def create(self, principal: Principal, draft: AlertDraft, *, run_as: str | None = None) -> Alert:
        """A new alert, which runs as whoever makes it. Raises InvalidArgument, NotFound (its query, its warehouse),
        PermissionDenied (another's `run_as`, whom it tells)."""
        require(principal, Act.CREATE_IN, WORKSPACE)
        checked_alert(draft)
        self._check_named(principal, draft, None)
        now = utc_now()
        alert = Alert(
            id=new_id(), owner=principal.name, run_as=self._run_as(principal, run_as, principal.name),
            modified_by=principal.name, trashed=False, draft=draft, due_at=next_due(draft, now), created_at=now,
            updated_at=now,
        )  # fmt: skip
        with self.database.write() as connection:
            store.add(connection, alert)
            acts.changed(connection, principal.name, "create", "alert", draft.name, object_id=alert.id)
        return alert

    def get(self, principal: Principal, alert_id: str) -> Alert:
        """An alert, also one in the trash. Raises NotFound, for another's too."""
        with self.database.read() as connection:
            return _required(principal, store.find(connection, alert_id), alert_id, Act.READ)

    def list_page(
        self,
        principal: Principal,
        *,
        saved: bool | None = None,
        text: str = "",
        max_results: int | None = None,
        page_token: str | None = None,
    ) -> Page[Alert]:
        """Alerts that the principal may see, in the order in which they were made: `saved` those on saved queries, or
        those on texts; with a text in their names."""
        size = page_size(max_results, default=20)
        with self.database.read() as connection:
            found = store.list_page(
                connection,
                reach_of(principal, "alert", alert_grant_id),
                saved=saved,
                text=text,
                after=decode_token(page_token),
                limit=size + 1,
            )
        return cut_page(found, size, lambda alert: alert.id)

    def update(
        self,
        principal: Principal,
        alert_id: str,
        change: Callable[[Alert], AlertDraft],
        *,
        owner: str | None = None,
        run_as: str | None = None,
    ) -> Alert:
        """Change an alert, or give it to somebody. Whoever else changes what it asks or whom it tells makes it run as
        themselves, as its answers are what it runs as may see; an administrator may leave that, or choose.

        Raises NotFound, PermissionDenied, InvalidArgument.
        """
        found = None if owner is None else self.find_name(owner)
        if owner is not None and found is None:
            raise InvalidArgument(f"There is no user '{owner[:80]}' who could own the alert.")
        act = Act.WRITE if owner is None else Act.MANAGE
        with self.database.read() as connection:
            before = _standing(_required(principal, store.find(connection, alert_id), alert_id, act))
        self._check_named(principal, checked_alert(change(before)), before.draft)
        with self.database.write() as connection:
            alert = _standing(_required(principal, store.find(connection, alert_id, lock=True), alert_id, act))
            draft = checked_alert(change(alert))
            if (draft.asked, draft.told) == (alert.draft.asked, alert.draft.told) or principal.is_admin:
                unless = alert.run_as
            else:
                unless = principal.name
            alert = changed(
                alert, draft, owner=found or alert.owner, modified_by=principal.name,
                run_as=self._run_as(principal, run_as, unless),
            )  # fmt: skip
            store.write(connection, alert)
            acts.changed(connection, principal.name, "update", "alert", draft.name, object_id=alert.id)
        return alert

    def trash(self, principal: Principal, alert_id: str, *, purge: bool = False) -> None:
        """Put an alert into the trash, where it asks no more and from which it goes after 30 days; with `purge`, for
        good. Raises NotFound."""
        with self.database.write() as connection:
            alert = _required(principal, store.find(connection, alert_id, lock=True), alert_id, Act.MANAGE)
            if purge:
                store.remove(connection, [alert.id])
                grants.forget(connection, alert.securable.ids)
            else:
                store.write(connection, replace(alert, trashed=True, due_at=None, updated_at=utc_now()))
            acts.changed(connection, principal.name, "delete", "alert", alert.draft.name, object_id=alert.id)

    # -- evaluations ----------------------------------------------------------------------------------------------

    def run(self, principal: Principal, alert_id: str) -> Evaluation:
        """Have an alert evaluated now, as whoever it runs as; the evaluation that is under way, where there is one.

        Raises NotFound, PermissionDenied.
        """
        with self.database.write() as connection:
            alert = _standing(_required(principal, store.find(connection, alert_id, lock=True), alert_id, Act.USE))
            acts.changed(connection, principal.name, "run", "alert", alert.draft.name, object_id=alert.id)
            return self.evaluator.begin(connection, alert, "run now")

    def evaluations(
        self, principal: Principal, alert_id: str, *, max_results: int | None = None, page_token: str | None = None
    ) -> Page[Evaluation]:
        """What an alert found, the newest first, of the last 30 days. Raises NotFound."""
        size = page_size(max_results)
        with self.database.read() as connection:
            alert = _required(principal, store.find(connection, alert_id), alert_id, Act.READ)
            found = store.list_evaluations(connection, alert.id, before=decode_token(page_token), limit=size + 1)
        return cut_page(found, size, lambda evaluation: evaluation.id)

    def told(self, principal: Principal, alert_id: str) -> list[Delivery]:
        """What became of the messages of an alert, the newest first. Raises NotFound."""
        with self.database.read() as connection:
            alert = _required(principal, store.find(connection, alert_id), alert_id, Act.READ)
            return [*told_about(connection, about(alert.id))]

    # -- as a job's task ------------------------------------------------------------------------------------------

    def asked_by(
        self, principal: Principal, alert_id: str, warehouse_id: str | None, parameters: Mapping[str, str]
    ) -> Asked:
        """What an alert asks that a principal may evaluate, with other values of its parameters, and on its own
        warehouse or one that both may use: as whoever the alert runs as, for its makers choose what is asked, and are
        told. Raises NotFound and the like, InvalidArgument for a parameter that it has not."""
        with self.database.read() as connection:
            alert = _standing(_required(principal, store.find(connection, alert_id), alert_id, Act.USE))
        if warehouse_id is not None:
            self.warehouses.require(principal, warehouse_id, Act.USE)
        who = self.evaluator.principal_named(alert.run_as)
        query = self.evaluator.query_of(who, alert.draft)
        draft = with_values(alert.draft, parameters)
        return Asked(
            alert=alert,
            who=who,
            question=self.evaluator.question(who, draft, warehouse_id),
            differs=draft != alert.draft,
            shows_text=query is None or allows(principal, Act.USE, query.securable),
        )

    def concluded(self, asked: Asked, ended: Statement, told: Told) -> Verdict:
        """What the statement of a job's task means for an alert; it is written, and who is to be told is."""
        alert = asked.alert
        try:
            verdict = self.evaluator.judge(asked.who, alert.draft, asked.question, ended)
        except MillpondError as error:
            verdict = Verdict(state=AlertState.ERROR, message=error.message)
        evaluation = Evaluation(
            id=new_id(), alert_id=alert.id, cause="job", run_as=alert.run_as, started_at=ended.submitted_at
        )
        self.evaluator.settle(evaluation, alert.draft, verdict, told, differs=asked.differs)
        return verdict

    # -- parts ----------------------------------------------------------------------------------------------------

    def _check_named(self, principal: Principal, draft: AlertDraft, before: AlertDraft | None) -> None:
        """Whoever names a query, a warehouse or somebody to be told may use them; what was there before may stay."""
        if draft.query_id is not None and (before is None or draft.query_id != before.query_id):
            self.evaluator.query_of(principal, draft)
        if draft.warehouse_id is not None and (before is None or draft.warehouse_id != before.warehouse_id):
            self.warehouses.require(principal, draft.warehouse_id, Act.USE)
        for target in dict.fromkeys(draft.subscriptions):
            if before is None or target not in before.subscriptions:
                self.check_target(principal, target)

    def _run_as(self, principal: Principal, asked: str | None, unless: str) -> str:
        """As whom it asks. Somebody else than oneself and who it is already, only an administrator may choose."""
        if asked is None or asked == unless:
            return unless
        if asked != principal.name and not principal.is_admin:
            acts.denied(principal, "run as", "user", asked[:255])
            raise PermissionDenied(f"Only an administrator may let an alert run as {asked[:80]}.")
        return self.evaluator.principal_named(asked).name


def _required(principal: Principal, alert: Alert | None, alert_id: str, act: Act) -> Alert:
    if alert is None:
        raise NotFound(f"Alert '{alert_id[:80]}' does not exist.")
    require(principal, act, alert.securable)
    return alert


def _standing(alert: Alert) -> Alert:
    """The alert, unless it is in the trash. Raises FailedPrecondition."""
    if alert.trashed:
        raise FailedPrecondition(f"Alert '{alert.draft.name}' is in the trash.")
    return alert
