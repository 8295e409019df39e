"""Webhooks: who is told of what, and the deliveries, which wait in the transaction of the event until they are made."""

import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Index,
    Integer,
    Row,
    String,
    Table,
    Text,
    delete,
    insert,
    or_,
    select,
    text,
    update,
)

from millpond.identity import acts
from millpond.identity.access import Act, Securable, allows, require, require_admin
from millpond.identity.domain import Principal
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database, Json, UtcDateTime, metadata
from millpond.kernel.errors import InvalidArgument, NotFound
from millpond.kernel.ids import new_id
from millpond.kernel.work import Item, enqueue
from millpond.notifications.domain import Sealer
from millpond.notifications.mail import Mailer, is_mail
from millpond.notifications.posting import Answer, Network, Unreachable, attempt, check_url, post, reachable_address
from millpond.registry import messages
from millpond.registry.domain import Activity, clean_text
from millpond.registry.job_starts import JobChange, JobStarter, check_job, check_token, started
from millpond.registry.messages import DATABRICKS, MLFLOW, Message
from millpond.tracking.domain import canonical_model_name
from millpond.tracking.watch import RegistryEvent

WORK = "registry.webhook"
ACTIVE, DISABLED, TEST_MODE = "ACTIVE", "DISABLED", "TEST_MODE"
_TIMEOUT_S = 15.0
_KEPT = timedelta(days=30)
_SHOWN = 200
_IS_PROMPT = text(
    "SELECT 1 FROM registered_model_tags WHERE name = :name AND key = 'mlflow.prompt.is_prompt' AND value = 'true'"
)

webhooks = Table(
    "registry_webhooks",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("dialect", String(20), nullable=False),
    Column("name", String(256), nullable=False),
    Column("description", Text, nullable=False),
    Column("model_key", String(300), nullable=False),
    Column("model", String(256), nullable=False),
    Column("url", String(2000), nullable=False),
    Column("job_id", String(30), nullable=False),
    Column("events", Json, nullable=False),
    Column("status", String(20), nullable=False),
    Column("verify_tls", Boolean, nullable=False),
    Column("sealed", Json, nullable=False),
    Column("creator", String(255), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)
deliveries = Table(
    "registry_deliveries",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("webhook_id", String(36), nullable=False),
    Column("event", String(60), nullable=False),
    Column("body", Text, nullable=False),
    Column("state", String(20), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("status_code", Integer),
    Column("error", Text, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Index("ix_registry_deliveries_webhook_id_id", "webhook_id", "id"),
)


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """Who is told of what."""

    id: str
    dialect: str
    name: str
    description: str
    model_key: str
    """Empty where it is told of all models."""
    model: str
    url: str
    """Empty where it starts a job."""
    events: tuple[str, ...]
    status: str
    verify_tls: bool
    sealed: Mapping[str, str] = field(repr=False)
    creator: str
    created_at: datetime
    updated_at: datetime
    job_id: str = ""


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One message to one webhook."""

    id: str
    event: str
    state: str
    """waiting, delivered, or failed once its last attempt was."""
    attempts: int
    status_code: int | None
    error: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, kw_only=True)
class Change:
    """What of a webhook shall be as here; None leaves it."""

    name: str | None = None
    description: str | None = None
    url: str | None = None
    events: tuple[str, ...] | None = None
    status: str | None = None
    verify_tls: bool | None = None
    secret: str | None = field(default=None, repr=False)
    authorization: str | None = field(default=None, repr=False)
    job: JobChange | None = None


class Announcer:
    """Puts deliveries into the transaction of what happened."""

    def __call__(self, connection: Connection, principal: Principal, key: str, event: RegistryEvent) -> None:
        """Something happened to a model."""
        told = _told(connection, key)
        if not told:
            return
        is_prompt = connection.execute(_IS_PROMPT, {"name": event.model}).first() is not None
        message = messages.mlflow_message(event, is_prompt=is_prompt)
        _put(connection, told, MLFLOW, [message] if message else [])
        others = [] if is_prompt else messages.databricks_messages(event, principal.name)
        _put(connection, told, DATABRICKS, others)

    def commented(self, connection: Connection, key: str, activity: Activity) -> None:
        """Somebody commented on a version."""
        _put(connection, _told(connection, key), DATABRICKS, [messages.commented(activity)])

    def requested(self, connection: Connection, key: str, activity: Activity) -> None:
        """Somebody asks for a move."""
        _put(connection, _told(connection, key), DATABRICKS, messages.requested(activity))


def _told(connection: Connection, key: str) -> list[Webhook]:
    """The webhooks that are told of a model: its own, and those of all models."""
    query = select(webhooks).where(
        webhooks.c.status == ACTIVE, or_(webhooks.c.model_key == key, webhooks.c.model_key == "")
    )
    return [_webhook(row) for row in connection.execute(query)]


def _put(connection: Connection, told: Sequence[Webhook], dialect: str, said: Sequence[Message]) -> None:
    for webhook in told:
        names = [(event, data) for event, data in said if event in webhook.events and webhook.dialect == dialect]
        for event, data in names[:1]:  # once, under the first name that it wants to hear
            body = json.dumps(messages.body_for(dialect, webhook.id, event, data), default=str)
            delivery_id, now = new_id(), utc_now()
            values = {"id": delivery_id, "webhook_id": webhook.id, "event": event, "body": body, "state": "waiting",
                      "attempts": 0, "error": "", "created_at": now, "updated_at": now}  # fmt: skip
            connection.execute(insert(deliveries).values(values))
            enqueue(connection, WORK, {"delivery_id": delivery_id})


class WebhookService:
    """What one can do with webhooks: those of all models are the administrators', a model's its managers'."""

    def __init__(
        self,
        database: Database,
        find_model: Callable[[Connection, str], Securable],
        find_by_key: Callable[[Connection, str], Securable],
        sealer: Sealer,
        *,
        networks: Sequence[Network],
        mailer: Mailer,
        jobs: Callable[[], JobStarter],
        base_url: str,
    ) -> None:
        """`networks` are those besides the public ones to which deliveries may go; `mailer` takes those to mailto:."""
        self._mailer = mailer
        self._jobs = jobs
        self._base_url = base_url
        self._database = database
        self._find_model = find_model
        self._find_by_key = find_by_key
        self._sealer = sealer
        self._networks = tuple(networks)

    def create(self, principal: Principal, dialect: str, *, model: str | None = None, change: Change) -> Webhook:
        """One more. Raises NotFound for the model, PermissionDenied, InvalidArgument."""
        now = utc_now()
        self._check_url(principal, change)
        self._check_job(change, None)
        with self._database.write() as connection:
            model = canonical_model_name(model) if model else ""
            if bool(change.url) is bool(change.job):
                raise InvalidArgument("A webhook needs the address (url) to which it is sent, or a job that it starts.")
            made = Webhook(
                id=new_id(), dialect=dialect, name="", description="", model_key="", model=model, url="",
                events=messages.check_events(dialect, change.events or ()), status=ACTIVE, verify_tls=True, sealed={},
                creator=principal.name, created_at=now, updated_at=now,
            )  # fmt: skip
            made = replace(made, model_key=self._require(connection, principal, model))
            made = self._changed(made, change)
            connection.execute(insert(webhooks).values(**vars(made)))
            acts.changed(connection, principal.name, "create", "webhook", made.id, url=made.url, model=model)
        return made

    def update(self, principal: Principal, dialect: str, webhook_id: str, change: Change) -> Webhook:
        """Change it; another secret counts from the next delivery on. Raises as `create`."""
        self._check_url(principal, change)
        self._check_job(change, self.get(principal, dialect, webhook_id))
        with self._database.write() as connection:
            before = self._found(connection, principal, dialect, webhook_id)
            if (change.job and not before.job_id) or (change.url and before.job_id):
                raise InvalidArgument("A webhook that sends requests does not come to start a job, nor the reverse.")
            made = self._changed(before, change)
            connection.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(**vars(made)))
            acts.changed(connection, principal.name, "update", "webhook", webhook_id, url=made.url,
                         new_secret=change.secret is not None)  # fmt: skip
        return made

    def delete(self, principal: Principal, dialect: str, webhook_id: str) -> None:
        """Delete it with what was to be delivered. Raises NotFound."""
        with self._database.write() as connection:
            self._found(connection, principal, dialect, webhook_id)
            connection.execute(delete(deliveries).where(deliveries.c.webhook_id == webhook_id))
            connection.execute(delete(webhooks).where(webhooks.c.id == webhook_id))
            acts.changed(connection, principal.name, "delete", "webhook", webhook_id)

    def get(self, principal: Principal, dialect: str, webhook_id: str) -> Webhook:
        """One. Raises NotFound, also for who does not manage what it is told of."""
        with self._database.read() as connection:
            return self._found(connection, principal, dialect, webhook_id)

    def list(self, principal: Principal, dialect: str, *, model: str | None = None) -> Sequence[Webhook]:
        """Those that the principal manages: of a model, or all. Raises NotFound for the model, PermissionDenied."""
        query = select(webhooks).where(webhooks.c.dialect == dialect)
        with self._database.read() as connection:
            if model:
                key = self._require(connection, principal, canonical_model_name(model))
                query = query.where(webhooks.c.model_key == key)
            elif dialect == MLFLOW:
                require_admin(principal, "manage webhooks")
            found = [_webhook(row) for row in connection.execute(query.order_by(webhooks.c.id.desc()))]
            return [each for each in found if self._manages(connection, principal, each)]

    def list_deliveries(self, principal: Principal, webhook_id: str) -> Sequence[Delivery]:
        """The newest deliveries of a webhook. Raises NotFound."""
        names = [deliveries.c[name] for name in Delivery.__dataclass_fields__]
        query = select(*names).where(deliveries.c.webhook_id == webhook_id)
        with self._database.read() as connection:
            self._found(connection, principal, None, webhook_id)
            rows = connection.execute(query.order_by(deliveries.c.id.desc()).limit(_SHOWN))
            return [Delivery(**row._mapping) for row in rows]

    def test(self, principal: Principal, dialect: str, webhook_id: str, event: str | None = None) -> Answer:
        """Send an example now, whatever the status; what was answered.

        Raises NotFound, InvalidArgument for an address that may not be reached, Unreachable.
        """
        webhook = self.get(principal, dialect, webhook_id)
        event = messages.check_events(dialect, [event])[0] if event else webhook.events[0]
        body = messages.body_for(dialect, webhook.id, event, messages.example_of(event))
        return self._send(webhook, new_id(), json.dumps(body))

    # Deliveries, in the background

    def run_item(self, item: Item) -> None:
        """Make a delivery; what the receiver refuses is tried again. May be made twice when a server dies."""
        delivery_id = str(item.payload["delivery_id"])
        with self._database.read() as connection:
            row = connection.execute(select(deliveries).where(deliveries.c.id == delivery_id)).first()
            found = row and connection.execute(select(webhooks).where(webhooks.c.id == row.webhook_id)).first()
        if row is None or not found or row.state == "delivered":
            return
        webhook = _webhook(found)
        if webhook.status != ACTIVE:
            self._note(delivery_id, item, state="failed", error="The webhook is not active.")
            return
        attempt(item, lambda: self._send(webhook, delivery_id, row.body), partial(self._note, delivery_id, item))

    def _note(self, delivery_id: str, item: Item, **values: Any) -> None:
        """How it went; what went long ago is forgotten."""
        with self._database.write() as connection:
            old = deliveries.c.updated_at < utc_now() - _KEPT
            mine = select(deliveries.c.webhook_id).where(deliveries.c.id == delivery_id).scalar_subquery()
            connection.execute(delete(deliveries).where(deliveries.c.webhook_id == mine, old))
            told = {**values, "attempts": item.attempt, "updated_at": utc_now()}
            connection.execute(update(deliveries).where(deliveries.c.id == delivery_id).values(told))

    def _send(self, webhook: Webhook, delivery_id: str, body: str) -> Answer:
        if is_mail(webhook.url):
            letter = messages.letter_of(json.loads(body), self._base_url)
            return self._mailer.send(webhook.url, delivery_id, letter)
        opened = {what: self._sealer.open(kept, f"{webhook.id} {what}") for what, kept in webhook.sealed.items()}
        if webhook.job_id:
            return started(self._jobs(), webhook.job_id, opened["access_token"], body, delivery_id)
        raw = body.encode()
        headers = messages.headers_for(
            webhook.dialect,
            raw,
            delivery_id=delivery_id,
            timestamp_s=int(time.time()),
            secret=opened.get("secret", ""),
            authorization=opened.get("authorization", ""),
        )
        return post(webhook.url, headers, raw, verify_tls=webhook.verify_tls, allowed=self._networks,
                    timeout_s=_TIMEOUT_S)  # fmt: skip

    # Rights and values

    def _require(self, connection: Connection, principal: Principal, model: str) -> str:
        """The key of the model that the principal manages, or empty for all models, which administrators do."""
        if not model:
            require_admin(principal, "manage webhooks")
            return ""
        securable = self._find_model(connection, model)
        require(principal, Act.MANAGE, securable)
        return securable.ids[0]

    def _manages(self, connection: Connection, principal: Principal, webhook: Webhook) -> bool:
        if principal.is_admin or not webhook.model_key:
            return principal.is_admin
        try:
            return allows(principal, Act.MANAGE, self._find_by_key(connection, webhook.model_key))
        except NotFound:
            return False

    def _found(self, connection: Connection, principal: Principal, dialect: str | None, webhook_id: str) -> Webhook:
        row = connection.execute(select(webhooks).where(webhooks.c.id == webhook_id[:36])).first()
        found = None if row is None else _webhook(row)
        if found is None or dialect not in {None, found.dialect} or not self._manages(connection, principal, found):
            acts.denied(principal, "manage", "webhook", webhook_id[:36])
            raise NotFound(f"Webhook '{webhook_id[:80]}' does not exist.")
        return found

    def _check_url(self, principal: Principal, change: Change) -> None:
        """Asks for the name's addresses, so it stands outside of transactions."""
        url = change.url
        if url is not None and is_mail(url):
            self._mailer.check(principal, url)
            if change.secret or change.authorization:
                raise InvalidArgument("E-mail is not signed; leave out the secret and the authorization.")
        elif url is not None:
            check_url(url)
            with contextlib.suppress(Unreachable):  # its name may come to be known later
                reachable_address(url, self._networks)

    def _changed(self, webhook: Webhook, change: Change) -> Webhook:
        values: dict[str, Any] = {"updated_at": utc_now()}
        if change.url is not None:
            values["url"] = change.url
        if change.events is not None:
            values["events"] = messages.check_events(webhook.dialect, change.events)
        if change.status is not None:
            values["status"] = _status(webhook.dialect, change.status)
        for what in ("name", "description"):
            if (said := getattr(change, what)) is not None:
                values[what] = clean_text(said, what)[: 256 if what == "name" else None]
        if change.verify_tls is not None:
            values["verify_tls"] = change.verify_tls
        if change.job is not None:
            check_token(change.job, webhook.job_id)
            values["job_id"] = change.job.job_id or webhook.job_id
        return replace(webhook, **values, sealed=self._sealed(webhook, change))

    def _check_job(self, change: Change, before: Webhook | None) -> None:
        """Asks who the token is of, so it stands outside of transactions."""
        if change.job is None:
            return
        check_token(change.job, before.job_id if before else "")
        kept = before and before.sealed.get("access_token")
        known = self._sealer.open(kept, f"{before.id} access_token") if before and kept else ""
        job_id = change.job.job_id or (before.job_id if before else "")
        check_job(self._jobs(), change.job, job_id, change.job.access_token or known, self._base_url)

    def _sealed(self, webhook: Webhook, change: Change) -> dict[str, str]:
        kept = dict(webhook.sealed)
        if change.url not in (None, webhook.url):
            kept.pop("authorization", None)  # it was given for the address before, not to whoever is at this one
        given = {"secret": change.secret, "authorization": change.authorization}
        for what, said in {**given, "access_token": change.job and change.job.access_token}.items():
            if said is None:
                continue
            kept.pop(what, None)
            if said:
                kept[what] = self._sealer.seal(clean_text(said, what), f"{webhook.id} {what}")
        if any(character in (change.authorization or "") for character in "\r\n"):
            raise InvalidArgument("The authorization header is one line.")
        return kept


def _status(dialect: str, status: str) -> str:
    known = (ACTIVE, DISABLED) if dialect == MLFLOW else (ACTIVE, DISABLED, TEST_MODE)
    if status not in known:
        raise InvalidArgument(f"status '{status[:40]}' is not one of {', '.join(known)}.")
    return status


def _webhook(row: Row[Any]) -> Webhook:
    return Webhook(**{**row._mapping, "events": tuple(row.events)})
