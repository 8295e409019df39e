"""Pages: a bound on every list, and a token that says where the next page starts."""

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from millpond.kernel.errors import InvalidArgument

MAX_PAGE_SIZE = 1000

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, kw_only=True)
class Page(Generic[T]):
    """At most `limit` items, and the token of the next page or None at the end."""

    items: tuple[T, ...]
    next_page_token: str | None = None

    def map(self, convert: Callable[[T], U]) -> "Page[U]":
        """The same page with each item converted."""
        return Page(items=tuple(convert(item) for item in self.items), next_page_token=self.next_page_token)


def page_size(requested: int | None, *, default: int = 100) -> int:
    """The number of rows to read; 0 or None asks for the server's own page size, as Unity clients do."""
    if requested is None or requested == 0:
        return default
    if requested < 0:
        raise InvalidArgument(f"max_results is {requested}; give 0 for the server's page size, or a positive number.")
    return min(requested, MAX_PAGE_SIZE)


def encode_token(key: str) -> str:
    """An opaque page token for the sort key of the last row of a page."""
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def decode_token(token: str | None) -> str | None:
    """The sort key after which a page starts; None for the first page."""
    if not token:
        return None
    try:
        padded = token + "=" * (-len(token) % 4)
        return base64.b64decode(padded, altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError) as error:
        raise InvalidArgument("page_token is not one that this server gave; start again without it.") from error


def decode_number(token: str | None) -> int | None:
    """The same where the key is a number that a database takes."""
    text = decode_token(token)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise InvalidArgument("page_token is not one that this server gave; start again without it.")
    return int(text)


def cut_page(rows: Sequence[T], size: int, key: Callable[[T], str]) -> Page[T]:
    """A page from up to `size + 1` rows that were read in the order of `key`."""
    if len(rows) <= size:
        return Page(items=tuple(rows))
    return Page(items=tuple(rows[:size]), next_page_token=encode_token(key(rows[size - 1])))
