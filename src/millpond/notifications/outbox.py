"""Messages that wait to be sent, from the transaction of what they tell of until they are taken."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection

from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.ids import new_id
from millpond.kernel.work import Item, enqueue
from millpond.notifications import store
from millpond.notifications.domain import Delivery, Destination, Kind, Notice, Sealer, Target
from millpond.notifications.mail import SCHEME, Letter, Mailer
from millpond.notifications.posting import Answer, Network, attempt, post

WORK = "notification"
ATTEMPTS = 9
"""The last some fifty-five minutes after the first."""
_TIMEOUT_S = 15.0
_KEPT = timedelta(days=30)
_SHOWN = 200


def put(connection: Connection, targets: Sequence[Target], notice: Notice, about: str) -> None:
    """Send a notice to each target, once this transaction is committed; `about` is under what the log keeps it."""
    for target in dict.fromkeys(targets):
        for address in _addresses(connection, target):
            delivery_id, now = new_id(), utc_now()
            store.add_delivery(connection, {
                "id": delivery_id, "about": about, "address": address, "destination_id": target.destination_id,
                "event": notice.event, "notice": dict(vars(notice)), "state": "waiting", "attempts": 0, "error": "",
                "created_at": now, "updated_at": now,
            })  # fmt: skip
            enqueue(connection, WORK, {"delivery_id": delivery_id})


def _addresses(connection: Connection, target: Target) -> Sequence[str]:
    """Mail addresses, each with a delivery of its own, so that one that refuses mail sends none to the others again.

    Empty stands for a destination that is no mail address.
    """
    found = store.find_destination(connection, target.destination_id) if target.destination_id else None
    return found.addresses if found is not None and found.kind is Kind.EMAIL else [target.address]


def told_about(connection: Connection, about: str) -> Sequence[Delivery]:
    """What became of the newest messages about something; whoever asks has checked who may know."""
    return store.deliveries_about(connection, about, _SHOWN)


@dataclass(frozen=True, kw_only=True)
class Postman:
    """Makes deliveries."""

    database: Database
    mailer: Mailer
    sealer: Sealer
    networks: Sequence[Network]
    base_url: str
    workspace_id: int

    def run_item(self, item: Item) -> None:
        """Make a delivery; what the receiver refuses is tried again. May be made twice when a server dies."""
        delivery_id = str(item.payload["delivery_id"])
        with self.database.read() as connection:
            row = store.find_delivery(connection, delivery_id)
            found = row and store.find_destination(connection, row.destination_id)
        if row is None or row.state == "delivered":
            return
        if row.destination_id and (found is None or (row.address and row.address not in found.addresses)):
            self._note(item, delivery_id, state="failed", error="The destination is gone, or its address.")
            return
        attempt(
            item,
            lambda: self._send(delivery_id, row.address, found, Notice(**row.notice)),
            partial(self._note, item, delivery_id),
        )

    def tidy(self) -> None:
        """Forget what was told long ago."""
        with self.database.write() as connection:
            store.forget_deliveries(connection, utc_now() - _KEPT)

    def _send(self, delivery_id: str, address: str, destination: Destination | None, notice: Notice) -> Answer:
        link = self.base_url + notice.path
        text = f"{notice.text}\n\n{link}\n"
        if destination is None or destination.kind is Kind.EMAIL:
            letter = Letter(subject=notice.subject, text=text)
            return self.mailer.send(f"{SCHEME}{address}", delivery_id, letter)
        opened = {what: self.sealer.open(kept, f"{destination.id} {what}") for what, kept in destination.sealed.items()}
        whole = {**notice.body, "workspace_id": self.workspace_id, "url": link}
        body = {"text": text} if destination.kind is Kind.SLACK else whole
        headers = {"Content-Type": "application/json", "User-Agent": "millpond-notifications",
                   "X-Millpond-Delivery-Id": delivery_id, **_authorization(opened)}  # fmt: skip
        raw = json.dumps(body, default=str).encode()
        return post(opened["url"], headers, raw, verify_tls=True, allowed=self.networks, timeout_s=_TIMEOUT_S)

    def _note(self, item: Item, delivery_id: str, **values: Any) -> None:
        with self.database.write() as connection:
            told = {**values, "attempts": item.attempt, "updated_at": utc_now()}
            store.change_delivery(connection, delivery_id, told)


def _authorization(opened: dict[str, str]) -> dict[str, str]:
    """The header of a destination with a user name or a password (RFC 7617)."""
    if not (opened.get("username") or opened.get("password")):
        return {}
    pair = f"{opened.get('username', '')}:{opened.get('password', '')}"
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}
