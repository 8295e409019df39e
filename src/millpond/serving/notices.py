"""Mail about how updates of endpoints end, sent by work that waits in the database."""

from collections.abc import Mapping
from typing import Protocol

from sqlalchemy import Connection

from millpond.identity.domain import Principal
from millpond.kernel.work import Handler, Item, enqueue
from millpond.serving.domain import Config, Endpoint

WORK = "serving mail"
_ATTEMPTS = 9
"""The last some fifty-five minutes after the first."""


class Mail(Protocol):
    """Who sends e-mail."""

    def check_address(self, principal: Principal, address: str) -> None:
        """Pass if the principal may let mail go there. Raises InvalidArgument, FailedPrecondition, PermissionDenied."""

    def post(self, address: str, *, subject: str, text: str, path: str, message_id: str) -> object:
        """Send a mail with a link to a page of this server."""


def announce(connection: Connection, endpoint: Endpoint, config: Config, problem: str | None) -> None:
    """Let those know who want to, in the transaction in which an update ends; without a problem it went well."""
    listening = (
        endpoint.notifications.on_update_success if problem is None else endpoint.notifications.on_update_failure
    )
    outcome = "is updated" if problem is None else "could not be updated"
    models = "\n".join(f"{each.name}: {each.model.name} {each.model.version}".rstrip() for each in config.entities)
    text = f"Configuration {config.version} of endpoint {endpoint.name} {outcome}.\n\n{models}\n\n{problem or ''}"
    for address in listening:
        letter = {"address": address, "subject": f"Endpoint {endpoint.name} {outcome}", "text": text.rstrip(),
                  "path": f"/serving/{endpoint.name}"}  # fmt: skip
        enqueue(connection, WORK, letter)


def handlers(mail: Mail | None) -> Mapping[str, Handler]:
    """How the work is done; a server without mail has none."""
    if mail is None:
        return {}

    def send(item: Item) -> None:
        letter = item.payload
        mail.post(letter["address"], subject=letter["subject"], text=letter["text"], path=letter["path"],
                  message_id=item.id)  # fmt: skip

    return {WORK: Handler(run=send, attempts=_ATTEMPTS)}
