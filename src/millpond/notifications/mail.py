"""Messages by e-mail, to `mailto:somebody@example.org`, sent through the SMTP server of the settings.

So that nobody sends mail to strangers in this server's name, it goes to users of this server, to domains that the
settings name, and, as an administrator has it, to anybody.
"""

import re
import smtplib
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import EmailMessage
from urllib.parse import unquote

from millpond.identity.domain import Principal
from millpond.kernel.errors import FailedPrecondition, InvalidArgument, MillpondError, NotFound, PermissionDenied
from millpond.kernel.settings import SmtpSettings
from millpond.notifications.posting import Answer, Unreachable

SCHEME = "mailto:"
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,253}")


def is_mail(url: str) -> bool:
    """Whether an address is one of e-mail."""
    return url.lower().startswith(SCHEME)


def recipient_of(url: str) -> str:
    """To whom it goes. Raises InvalidArgument for what is not one plain address."""
    address = unquote(url[len(SCHEME) :])
    if not _ADDRESS.fullmatch(address):
        raise InvalidArgument(f"'{url[:200]}' is not mailto: with one address, such as mailto:ada@example.org.")
    return address


@dataclass(frozen=True, kw_only=True)
class Letter:
    """What is written."""

    subject: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Mailer:
    """Sends letters."""

    settings: SmtpSettings
    is_user: Callable[[str], bool]
    reveal: Callable[[str], str] = field(repr=False)
    """Puts secrets in the place of references in a text."""

    def check(self, principal: Principal, url: str) -> None:
        """Pass if the principal may let mail go there. Raises InvalidArgument, FailedPrecondition, PermissionDenied."""
        self.check_address(principal, recipient_of(url))

    def check_address(self, principal: Principal, address: str) -> None:
        """Pass if the principal may let mail go to an address. Raises as `check`."""
        if not _ADDRESS.fullmatch(address):
            raise InvalidArgument(f"'{address[:200]}' is no e-mail address.")
        if self.settings.host is None:
            raise FailedPrecondition("This server sends no e-mail; an administrator sets smtp.host.")
        if principal.is_admin or address.rpartition("@")[2].lower() in self.settings.recipient_domains:
            return
        if not self.is_user(address):
            raise PermissionDenied(
                f"'{address}' is no user here; an administrator may let mail go there, or allow its domain with "
                "smtp.recipient_domains."
            )

    def send(self, url: str, delivery_id: str, letter: Letter) -> Answer:
        """Send a letter. Raises Unreachable when the mail server does not take it."""
        message = _mail_of(letter, delivery_id, recipient_of(url), self.settings.sender)
        try:
            with self._session() as session:
                session.send_message(message)
        except (OSError, smtplib.SMTPException, MillpondError) as error:
            told = error.message if isinstance(error, MillpondError) else f"{type(error).__name__}: {error}"
            raise Unreachable(f"the mail server did not take it: {told[:500]}") from error
        return Answer(status=250, body="The mail server took it.")

    def _session(self) -> smtplib.SMTP:
        said = self.settings
        if said.host is None:
            raise FailedPrecondition("smtp.host is not set any more.")
        context = ssl.create_default_context()
        if said.security == "tls":
            session: smtplib.SMTP = smtplib.SMTP_SSL(said.host, said.port, timeout=said.timeout_s, context=context)
        else:
            session = smtplib.SMTP(said.host, said.port, timeout=said.timeout_s)
        try:
            if said.security == "starttls":
                session.starttls(context=context)
            if said.user is not None:
                session.login(said.user, self.reveal(said.password or ""))
        except BaseException:
            session.close()
            raise
        return session


def _mail_of(letter: Letter, delivery_id: str, recipient: str, sender: str) -> EmailMessage:
    message = EmailMessage()
    message["From"], message["To"] = sender, recipient
    message["Subject"] = " ".join(letter.subject.split())[:200]
    message["Message-ID"] = f"<{delivery_id}@millpond>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no answers of machines, please
    message.set_content(letter.text)
    return message


def known_user(principal_named: Callable[[str], Principal]) -> Callable[[str], bool]:
    """Whether somebody active has a name."""

    def is_user(name: str) -> bool:
        try:
            principal_named(name)
        except NotFound:
            return False
        return True

    return is_user
