"""Pages of what one may see, out of all there is."""

from collections.abc import Callable, Sequence
from typing import Any

from millpond.kernel.errors import InvalidArgument
from millpond.kernel.paging import Page, cut_page, decode_token, encode_token

_MOST_LOOKED_AT = 20
"""Pages of rows that a list looks through for what its reader may see."""


def visible(
    more: Callable[[int | None], Sequence[Any]], allowed: Callable[[Any], bool], page_token: str | None, limit: int
) -> Page[Any]:
    """A page of what may be seen, out of what is read page by page, `limit` and one more. Where that goes on for long,
    a page holds less, or nothing, and leads on."""
    token = decode_token(page_token)
    if token is not None and not (token.isascii() and token.isdecimal() and len(token) < 19):
        raise InvalidArgument("page_token is not one that this server gave; start again without it.")
    before, found = int(token) if token else None, []
    for _ in range(_MOST_LOOKED_AT):
        rows = more(before)
        found += [row for row in rows[:limit] if allowed(row)]
        if len(rows) <= limit or len(found) > limit:
            return cut_page(found, limit, lambda row: str(row.id))
        before = rows[limit - 1].id
    return Page(items=tuple(found), next_page_token=encode_token(str(before)))
