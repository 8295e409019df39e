"""Grammar of policies: CREATE, DROP, DESCRIBE and SHOW. Conditions stay text for the catalog, which reads them."""

import re
from dataclasses import dataclass

from millpond.catalog.names import text_literal
from millpond.engine.syntax.cursor import Cursor
from millpond.engine.syntax.model import Command, Name
from millpond.engine.syntax.objects import PARTS, owner_name

_KINDS = {"CATALOG": "CATALOG", "SCHEMA": "SCHEMA", "DATABASE": "SCHEMA", "TABLE": "TABLE"}
_CONSTANTS = ("TRUE", "FALSE", "NULL")
_ALIASED = re.compile(r"(?P<condition>.*\S)\s+`?(?P<alias>\w+)`?", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class On:
    """What a policy is set on."""

    kind: str
    name: Name


@dataclass(frozen=True, kw_only=True)
class CreatePolicy(Command):
    """CREATE [OR REPLACE] POLICY."""

    policy: str
    on: On
    or_replace: bool = False
    comment: str | None = None
    masks: bool
    """Whether it is a column mask, not a row filter."""
    function: Name
    to: tuple[str, ...]
    exempt: tuple[str, ...] = ()
    when: str = ""
    columns: tuple[tuple[str, str], ...] = ()
    """Conditions with aliases, which may be empty."""
    on_column: str = ""
    using: tuple[tuple[str | None, str | None], ...] = ()
    """Each an alias, or a constant as SQL writes it."""


@dataclass(frozen=True, kw_only=True)
class DropPolicy(Command):
    policy: str
    on: On
    if_exists: bool = False


@dataclass(frozen=True, kw_only=True)
class DescribePolicy(Command):
    policy: str
    on: On


@dataclass(frozen=True, kw_only=True)
class ShowPolicies(Command):
    """With `effective` those that are inherited too."""

    on: On
    effective: bool = False


def create(cursor: Cursor, *, or_replace: bool) -> Command:
    """The rest of `CREATE [OR REPLACE] POLICY`, after that word."""
    policy, on = cursor.identifier(), _on(cursor)
    comment = cursor.string() if cursor.accept("COMMENT") else None
    masks = cursor.expect_any("ROW", "COLUMN") == "COLUMN"
    cursor.expect("MASK" if masks else "FILTER")
    function = cursor.name()
    cursor.expect("TO")
    to = cursor.comma_list(owner_name)
    exempt = cursor.comma_list(owner_name) if cursor.accept("EXCEPT") else ()
    cursor.expect("FOR", "TABLES")
    when = cursor.text_until("MATCH COLUMNS", "ON COLUMN", "USING COLUMNS") if cursor.accept("WHEN") else ""
    columns = cursor.comma_list(_match) if cursor.accept("MATCH", "COLUMNS") else ()
    on_column = cursor.identifier() if masks and cursor.accept("ON", "COLUMN") else ""
    using = cursor.in_parentheses(_argument) if cursor.accept("USING", "COLUMNS") else ()
    return CreatePolicy(
        policy=policy, on=on, or_replace=or_replace, comment=comment, masks=masks, function=function, to=to,
        exempt=exempt, when=when, columns=columns, on_column=on_column, using=using,
    )  # fmt: skip


def drop(cursor: Cursor) -> Command:
    """`DROP POLICY [IF EXISTS] name ON kind object`."""
    cursor.expect("DROP", "POLICY")
    if_exists = cursor.accept("IF", "EXISTS")
    return DropPolicy(policy=cursor.identifier(), on=_on(cursor), if_exists=if_exists)


def describe(cursor: Cursor) -> Command | None:
    """The rest of `DESCRIBE POLICY name ON kind object`; None for what means a table of that name."""
    third = cursor.word(2)
    if not cursor.sees("POLICY") or third is None or third.text.upper() != "ON":
        return None
    cursor.take()
    return DescribePolicy(policy=cursor.identifier(), on=_on(cursor))


def show(cursor: Cursor) -> Command | None:
    """The rest of `SHOW [EFFECTIVE] POLICIES ON kind object`, if that comes next."""
    effective = cursor.accept("EFFECTIVE", "POLICIES")
    if effective or cursor.accept("POLICIES"):
        return ShowPolicies(on=_on(cursor), effective=effective)
    return None


def _on(cursor: Cursor) -> On:
    cursor.expect("ON")
    kind = _KINDS[cursor.expect_any(*_KINDS)]
    return On(kind=kind, name=cursor.name(at_most=PARTS[kind]))


def _match(cursor: Cursor) -> tuple[str, str]:
    condition = cursor.text_until("AS", "ON COLUMN", "USING COLUMNS")
    if cursor.accept("AS"):
        return condition, cursor.identifier()
    aliased = _ALIASED.fullmatch(condition)
    if aliased is None or aliased["alias"].upper() in _CONSTANTS:
        return condition, ""
    return aliased["condition"], aliased["alias"]


def _argument(cursor: Cursor) -> tuple[str | None, str | None]:
    if cursor.sees_string():
        return None, text_literal(cursor.string())
    word = cursor.word()
    if word is not None and word.is_name and word.text.upper() not in _CONSTANTS:
        return cursor.identifier(), None
    return None, cursor.text_until()
