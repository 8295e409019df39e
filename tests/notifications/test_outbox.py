"""Messages that wait to be sent, with a real mail server on this machine."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from sqlalchemy import select

from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.settings import SmtpSettings
from millpond.kernel.work import Item, items
from millpond.notifications import store
from millpond.notifications.domain import Destination, Kind, Notice, Sealer, Target
from millpond.notifications.mail import Mailer
from millpond.notifications.outbox import WORK, Postman, put, told_about
from millpond.notifications.posting import Unreachable

PLAIN = Sealer(seal=lambda text, _place: text, open=lambda text, _place: text)
NOTICE = Notice(event="jobs.on_failure", subject="Failed", text="It failed.", body={}, path="/jobs")


@dataclass
class Mailbox:
    """Whom a message came for; nobody named b is known."""

    got: list[str] = field(default_factory=list)

    async def handle_RCPT(
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        if address.startswith("b@"):
            return "550 nobody of that name"
        envelope.rcpt_tos.append(address)
        return "250 known"

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        self.got += envelope.rcpt_tos
        return "250 taken"


class AnyPort(Controller):
    """A server on a port that the system chooses."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, SmtpSettings]]:
    box = Mailbox()
    controller = AnyPort(box, hostname="127.0.0.1", port=0)
    controller.start()
    yield box, SmtpSettings(host="127.0.0.1", port=controller.port, security="none")
    controller.stop()


def postman(database: Database, settings: SmtpSettings) -> Postman:
    mailer = Mailer(settings=settings, is_user=lambda _name: True, reveal=lambda text: text)
    return Postman(database=database, mailer=mailer, sealer=PLAIN, networks=(), base_url="http://here", workspace_id=1)


def waiting(database: Database, attempt: int) -> list[Item]:
    """What is to be done, as its worker has it at an attempt."""
    with database.read() as connection:
        rows = connection.execute(select(items).order_by(items.c.id)).all()
    return [Item(id=row.id, kind=WORK, payload=row.payload, attempt=attempt, is_last=attempt == 2) for row in rows]


def test_an_address_that_refuses_mail_sends_none_to_the_others_again(
    database: Database, mailbox: tuple[Mailbox, SmtpSettings]
) -> None:
    box, settings = mailbox
    addresses = ("a@x.org", "b@x.org", "c@x.org")
    made = Destination(id="d", name="us", kind=Kind.EMAIL, addresses=addresses, sealed={}, created_at=utc_now())
    with database.write() as connection:
        store.add_destination(connection, made)
        put(connection, [Target(destination_id="d"), Target(address="e@x.org")], NOTICE, "run 1")
    refused = 0
    for attempt in (1, 2):
        for item in waiting(database, attempt):
            try:
                postman(database, settings).run_item(item)
            except Unreachable:
                refused += 1
    assert (sorted(box.got), refused) == (["a@x.org", "c@x.org", "e@x.org"], 2)
    with database.read() as connection:
        told = [(each.target, each.state) for each in told_about(connection, "run 1")]
    assert sorted(told) == [("d", "delivered"), ("d", "delivered"), ("d", "failed"), ("e@x.org", "delivered")]


def test_an_address_that_was_taken_from_a_destination_gets_no_more(
    database: Database, mailbox: tuple[Mailbox, SmtpSettings]
) -> None:
    box, settings = mailbox
    made = Destination(id="d", name="us", kind=Kind.EMAIL, addresses=("a@x.org",), sealed={}, created_at=utc_now())
    with database.write() as connection:
        store.add_destination(connection, made)
        put(connection, [Target(destination_id="d")], NOTICE, "run 1")
        store.change_destination(connection, Destination(**{**vars(made), "addresses": ("c@x.org",)}))
    [item] = waiting(database, 1)
    postman(database, settings).run_item(item)
    with database.read() as connection:
        assert [each.state for each in told_about(connection, "run 1")] == ["failed"]
    assert box.got == []
