"""What one can do with destinations: administrators name them, everybody may send to them."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from millpond.identity import acts
from millpond.identity.access import require_admin
from millpond.identity.domain import Principal
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import FailedPrecondition, InvalidArgument, NotFound
from millpond.kernel.ids import new_id
from millpond.kernel.paging import Page, cut_page, decode_token, page_size
from millpond.notifications import store
from millpond.notifications.domain import Destination, Kind, Sealer, Target
from millpond.notifications.mail import Mailer
from millpond.notifications.posting import Network, Unreachable, check_url, reachable_address

MOST_ADDRESSES = 20


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a destination is to be; of an update, what is to change."""

    name: str | None = None
    kind: Kind | None = None
    addresses: tuple[str, ...] | None = None
    secrets: Mapping[str, str] | None = None
    """`url`, `username`, `password`; empty takes one away."""


@dataclass(frozen=True, kw_only=True)
class DestinationService:
    """Destinations for whoever may."""

    database: Database
    mailer: Mailer
    sealer: Sealer
    networks: Sequence[Network]

    def create(self, principal: Principal, given: Given) -> Destination:
        """One more. Raises PermissionDenied, InvalidArgument for an address that may not be reached."""
        require_admin(principal, "name notification destinations")
        if given.kind is None or not given.name:
            raise InvalidArgument("A destination needs a display_name, and a config with one of its kinds.")
        made = Destination(id=new_id(), name=given.name, kind=given.kind, addresses=(), sealed={}, created_at=utc_now())
        made = self._changed(principal, made, given)
        with self.database.write() as connection:
            store.add_destination(connection, made)
            acts.changed(connection, principal.name, "create", "notification destination", made.id, title=made.name)
        return made

    def update(self, principal: Principal, destination_id: str, given: Given) -> Destination:
        """Change what is given; it counts from the next try on, a new address of e-mail from the next message on.

        Raises as `create`, and NotFound.
        """
        require_admin(principal, "change notification destinations")
        before = self.get(principal, destination_id)
        if given.kind not in (None, before.kind):
            raise InvalidArgument(f"Destination '{before.name}' is of type {before.kind}, which does not change.")
        made = self._changed(principal, replace(before, name=given.name or before.name), given)
        with self.database.write() as connection:
            store.change_destination(connection, made)
            acts.changed(connection, principal.name, "update", "notification destination", made.id, title=made.name)
        return made

    def delete(self, principal: Principal, destination_id: str) -> None:
        """Delete it; what was to be sent there is not. Raises NotFound."""
        require_admin(principal, "delete notification destinations")
        found = self.get(principal, destination_id)
        with self.database.write() as connection:
            store.delete_destination(connection, found.id)
            acts.changed(connection, principal.name, "delete", "notification destination", found.id, title=found.name)

    def get(self, _principal: Principal, destination_id: str) -> Destination:
        """One; its name and type are everybody's. Raises NotFound."""
        with self.database.read() as connection:
            return _found(connection, destination_id)

    def list(self, _principal: Principal, *, limit: int | None, page_token: str | None) -> Page[Destination]:
        """All, the oldest first."""
        size = page_size(limit)
        with self.database.read() as connection:
            found = store.list_destinations(connection, after=decode_token(page_token), limit=size + 1)
        return cut_page(found, size, lambda each: each.id)

    def check_target(self, principal: Principal, target: Target) -> None:
        """Pass if the principal may let messages go there. Raises InvalidArgument, FailedPrecondition,
        PermissionDenied."""
        if target.address:
            self.mailer.check_address(principal, target.address)
            return
        try:
            self.get(principal, target.destination_id)
        except NotFound as error:
            raise InvalidArgument(error.message) from error

    def _changed(self, principal: Principal, before: Destination, given: Given) -> Destination:
        """Looks its host's name up, so it stands outside of transactions."""
        if before.kind is Kind.EMAIL:
            addresses = before.addresses if given.addresses is None else given.addresses
            if not 0 < len(addresses) <= MOST_ADDRESSES:
                raise InvalidArgument(f"A destination of e-mail has 1 to {MOST_ADDRESSES} addresses.")
            for address in addresses:
                self.mailer.check_address(principal, address)
            return replace(before, addresses=addresses)
        sealed = self._kept(before, given)
        for what, text in (given.secrets or {}).items():
            sealed.pop(what, None)
            if text:
                self._check(what, text)
                sealed[what] = self.sealer.seal(text, f"{before.id} {what}")
        if "url" not in sealed:
            raise InvalidArgument("The destination needs a url.")
        return replace(before, sealed=sealed)

    def _kept(self, before: Destination, given: Given) -> dict[str, str]:
        """What was sealed before: under another address only that, as its user and password were for the one before."""
        url = (given.secrets or {}).get("url")
        if url is None or self._has_url(before, url):
            return dict(before.sealed)
        return {what: text for what, text in before.sealed.items() if what == "url"}

    def _has_url(self, before: Destination, url: str) -> bool:
        kept = before.sealed.get("url")
        try:
            return kept is not None and self.sealer.open(kept, f"{before.id} url") == url
        except FailedPrecondition:  # sealed under a key that is gone
            return False

    def _check(self, what: str, text: str) -> None:
        if what == "url":
            check_url(text)
            with contextlib.suppress(Unreachable):  # its name may come to be known later
                reachable_address(text, self.networks)
        elif len(text) > 1000 or any(character in text for character in "\r\n\0"):
            raise InvalidArgument(f"The {what} is one line of at most 1000 characters.")


def _found(connection: Connection, destination_id: str) -> Destination:
    found = store.find_destination(connection, destination_id[:36])
    if found is None:
        raise NotFound(f"Notification destination '{destination_id[:80]}' does not exist.")
    return found
