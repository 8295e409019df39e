"""One HTTP POST to an address that a user chose, without letting it reach what only this server can reach.

The name is resolved once; all its addresses have to be public, or in a network that the settings allow, and the
connection goes to the address that was looked at. Redirects are not followed, no proxy is used.
"""

import http.client
import ipaddress
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from millpond.kernel.errors import FailedPrecondition, InvalidArgument
from millpond.kernel.work import Item

_MAX_ANSWER = 4000
_MAX_URL = 2000

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the other side said."""

    status: int
    body: str
    """Its beginning."""


class Unreachable(Exception):
    """Nobody answered; the message says why."""


def attempt(item: Item, send: Callable[[], Answer], note: Callable[..., None]) -> None:
    """Send what an item of work delivers, and note how it went: `state`, `status_code`, `error`.

    Raises what makes the work try again: Unreachable, also for an answer that is a refusal, and what `send` raises.
    """
    ended = "failed" if item.is_last else "waiting"
    try:
        answer = send()
    except (Unreachable, InvalidArgument, FailedPrecondition) as error:
        note(state=ended, error=str(error))
        raise
    if answer.status < 300:
        note(state="delivered", error="", status_code=answer.status)
        return
    refused = f"answered {answer.status}"
    note(state=ended, error=refused, status_code=answer.status)
    raise Unreachable(refused)


def check_url(url: str) -> None:
    """Raises InvalidArgument for what is no HTTP address."""
    try:
        parts = urlsplit(url)
        port_ok = parts.port is None or 0 < parts.port < 65536
    except ValueError as error:
        raise InvalidArgument(f"'{url[:200]}' is no address: {error}.") from error
    visible = url.isascii() and url.isprintable() and " " not in url
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_ok or len(url) > _MAX_URL or not visible:
        raise InvalidArgument(f"'{url[:200]}' is no address that begins with http:// or https://.")
    if parts.username is not None:
        raise InvalidArgument("The address has a user name in it; give an authorization header instead.")


def reachable_address(url: str, allowed: Sequence[Network]) -> str:
    """The IP address to connect to. Raises InvalidArgument where it is private, Unreachable where there is none."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unreachable(f"{parts.hostname} cannot be resolved: {error}") from error
    addresses = [str(entry[4][0]) for entry in found]
    private = [address for address in addresses if not _may_reach(address, allowed)]
    if private:
        raise InvalidArgument(
            f"{parts.hostname} is at {private[0]}, which is not a public address; an administrator allows such "
            "networks with the setting registry.webhook_networks."
        )
    return addresses[0]


def _may_reach(address: str, allowed: Sequence[Network]) -> bool:
    found = ipaddress.ip_address(address.split("%")[0])
    found = getattr(found, "ipv4_mapped", None) or found
    in_allowed = any(found.version == network.version and found in network for network in allowed)
    return in_allowed or (found.is_global and not found.is_multicast)


def post(
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    verify_tls: bool,
    allowed: Sequence[Network],
    timeout_s: float,
) -> Answer:
    """Send it. Raises InvalidArgument for an address that may not be reached, Unreachable when nobody answers."""
    check_url(url)
    address, parts = reachable_address(url, allowed), urlsplit(url)
    connection = _connection(address, url, verify_tls=verify_tls, timeout_s=timeout_s)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("POST", target, body=body, headers=dict(headers))
        answer = connection.getresponse()
        return Answer(status=answer.status, body=answer.read(_MAX_ANSWER).decode(errors="replace"))
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unreachable(f"{parts.hostname} does not answer: {type(error).__name__}: {error}") from error
    finally:
        connection.close()


class _Pinned(http.client.HTTPConnection):
    """A connection to the address that was looked at; the name stays in the Host header and in TLS."""

    def __init__(self, address: str, host: str, port: int | None, timeout_s: float, context: ssl.SSLContext | None):
        self.default_port = 443 if context else 80
        super().__init__(host, port or self.default_port, timeout=timeout_s)
        self._address = address
        self._context = context

    def connect(self) -> None:
        """As the class above does, but to the address."""
        self.sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._context is not None:
            self.sock = self._context.wrap_socket(self.sock, server_hostname=self.host)


def _connection(address: str, url: str, *, verify_tls: bool, timeout_s: float) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    context = None
    if parts.scheme == "https":
        context = ssl.create_default_context()
        if not verify_tls:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
    return _Pinned(address, parts.hostname or "", parts.port, timeout_s, context)
