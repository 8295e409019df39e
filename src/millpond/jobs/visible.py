"""Pages of what one may see, out of all there is."""

from collections.abc import Callable, Sequence
from typing import Any

from millpond.kernel.paging import Page, cut_page, decode_number, encode_token

_MOST_LOOKED_AT = 20
"""Pages of rows that a list looks through for what its reader may see."""


def visible(
    more: Callable[[int | None], Sequence[Any]], allowed: Callable[[Any], bool], page_token: str | None, limit: int
) -> Page[Any]:
    """A page of what may be seen, out of what is read page by page, `limit` and one more. Where that goes on for long,
    a page holds less, or nothing, and leads on."""
    before, found = decode_number(page_token), []
    for _ in range(_MOST_LOOKED_AT):
        rows = more(before)
        found += [row for row in rows[:limit] if allowed(row)]
        if len(rows) <= limit or len(found) > limit:
            return cut_page(found, limit, lambda row: str(row.id))
        before = rows[limit - 1].id
    return Page(items=tuple(found), next_page_token=encode_token(str(before)))
