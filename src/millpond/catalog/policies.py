"""Policies: row filters and column masks that cover all tables and columns with certain tags below where they are set.

Which policies decide about a table for somebody is worked out here, from values alone (`matched`, `decided`).
Source: Databricks, "Attribute-based access control in Unity Catalog": core concepts; policy evaluation.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from millpond.catalog.conditions import parse_condition
from millpond.catalog.domain import Argument, Constant, Function, Guard, Guards, ObjectName, Refusal, Table
from millpond.catalog.names import check_text, fold_name, text_literal
from millpond.catalog.tags import TableTags
from millpond.identity.access import Securable
from millpond.identity.domain import Principal
from millpond.kernel.errors import InvalidArgument

MAX_POLICIES = 100
"""On one securable; all of them are read with each table below it."""
MAX_PRINCIPALS = 100
MAX_COLUMNS = 10
SECURABLES = ("catalog", "schema", "table")
"""The kinds on which a policy can be set."""

_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
_WORDS = frozenset({"TRUE", "FALSE", "NULL"})


class PolicyType(StrEnum):
    """What a policy does; the values are those of the Databricks API."""

    ROW_FILTER = "POLICY_TYPE_ROW_FILTER"
    COLUMN_MASK = "POLICY_TYPE_COLUMN_MASK"

    @property
    def words(self) -> str:
        """In a message."""
        return "row filter" if self is PolicyType.ROW_FILTER else "column mask"


@dataclass(frozen=True, kw_only=True)
class MatchColumn:
    """Columns that a policy asks for, and what it calls them. A table without any is not covered."""

    alias: str = ""
    condition: str = ""


@dataclass(frozen=True, kw_only=True)
class PolicyArgument:
    """What a policy's function is given: the column of an alias, or a constant. Exactly one is set."""

    alias: str | None = None
    constant: str | None = None


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a policy says: all of it that can be changed."""

    name: str
    type: PolicyType
    function: ObjectName
    to: tuple[str, ...]
    """Names of users, service principals and groups."""
    exempt: tuple[str, ...] = ()
    comment: str | None = None
    when: str = ""
    """A condition on the table's tags, those that it inherits among them."""
    columns: tuple[MatchColumn, ...] = ()
    on_column: str = ""
    """The alias of the columns that are masked."""
    using: tuple[PolicyArgument, ...] = ()

    @property
    def tags(self) -> frozenset[tuple[str, str | None]]:
        """The keys that its conditions ask for, with values where they do. Raises InvalidArgument."""
        found = frozenset[tuple[str, str | None]]()
        return found.union(
            *(parse_condition(text).tags for text in (self.when, *(each.condition for each in self.columns)))
        )

    def covers(self, principal: Principal) -> bool:
        """Whether it is for the principal, on the tables that match."""
        names = {principal.name, *principal.groups}
        return not names.isdisjoint(self.to) and names.isdisjoint(self.exempt)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A policy and where it is set."""

    id: str
    terms: Terms
    function_id: str
    on: Securable
    created_at: datetime
    created_by: str
    updated_at: datetime
    updated_by: str


def checked(terms: Terms) -> Terms:
    """The terms of a policy that can be kept. Raises InvalidArgument."""
    terms = replace(terms, name=fold_name(terms.name, "policy"))
    if not terms.to:
        raise InvalidArgument(f"Policy '{terms.name}' is for nobody; name whom it is for, as `account users`.")
    limits: Mapping[str, tuple[Sequence[object], int]] = {
        "principals": ((*terms.to, *terms.exempt), MAX_PRINCIPALS),
        "columns": (terms.columns, MAX_COLUMNS),
        "arguments": (terms.using, MAX_COLUMNS),
    }
    for what, (given, most) in limits.items():
        if len(given) > most:
            raise InvalidArgument(f"Policy '{terms.name}' names {len(given)} {what}; at most {most}.")
    aliases = [each.alias.lower() for each in terms.columns if each.alias]
    if len(set(aliases)) < len(aliases):
        raise InvalidArgument(f"Policy '{terms.name}' calls several columns the same; give each an alias of its own.")
    _check_aliases(terms, frozenset(aliases))
    _ = terms.tags  # which reads all conditions
    return terms


def _check_aliases(terms: Terms, aliases: frozenset[str]) -> None:
    masks = terms.type is PolicyType.COLUMN_MASK
    if masks is not bool(terms.on_column):
        needs = "needs ON COLUMN, the alias of what it masks" if masks else "is a row filter and masks no column"
        raise InvalidArgument(f"Policy '{terms.name}' {needs}.")
    given = [terms.on_column] if masks else []
    for each in terms.using:
        if (each.alias is None) is (each.constant is None):
            raise InvalidArgument(f"An argument of policy '{terms.name}' is either an alias or a constant.")
        given += [each.alias] if each.alias is not None else []
        check_text(each.constant or "", "A constant")
    unknown = next((alias for alias in given if alias.lower() not in aliases), None)
    if unknown is not None:
        raise InvalidArgument(f"Policy '{terms.name}' names '{unknown[:80]}', which no MATCH COLUMNS calls so.")


def constant(text: str) -> Constant:
    """A literal as SQL: a number, TRUE, FALSE or NULL as it is, all else as a text, with its quotes or without."""
    written = text.strip()
    if _NUMBER.fullmatch(written) or written.upper() in _WORDS:
        return Constant(sql=written)
    if len(written) > 1 and written[0] == written[-1] and written[0] in "'\"":
        text = re.sub(r"\\(.)", r"\1", written[1:-1], flags=re.DOTALL)
    return Constant(sql=text_literal(text))


# -- which policies decide --------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Matched:
    """A policy that covers a table, and the table's columns that it calls by its aliases."""

    policy: Policy
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By alias, in lower case."""


def matched(policies: Iterable[Policy], table: Table, tags: TableTags) -> tuple[Matched, ...]:
    """Those of the policies in whose scope a table is whose conditions its tags fulfil."""
    found = (_matched(policy, table, tags) for policy in policies)
    return tuple(each for each in found if each is not None)


def _matched(policy: Policy, table: Table, tags: TableTags) -> Matched | None:
    terms = policy.terms
    if not parse_condition(terms.when).holds({**tags.inherited, **tags.own}):
        return None
    columns: dict[str, tuple[str, ...]] = {}
    for each in terms.columns:
        holds = parse_condition(each.condition).holds
        names = tuple(one.name for one in table.columns if holds(tags.columns.get(one.name.lower(), {})))
        if not names:
            return None
        if each.alias:
            columns[each.alias.lower()] = names
    return Matched(policy=policy, columns=columns)


def decided(own: Guards, found: Sequence[Matched], functions: Mapping[str, Function]) -> Guards:
    """What decides about a table: its own row filter and masks, and the policies that apply to somebody.

    One filter, and one mask for each column: where there are others nothing can be shown, and the answer says why.
    """
    try:
        bound = [_Bound.of(each, functions) for each in found]
        row_filter = _one_filter(own, [each.guard for each in bound if not each.masks])
        masks = _masks(own, bound)
        _refuse_masked_arguments(bound, masks)
    except _Undecided as error:
        return Guards(refused=error.refusal, policed=True)
    return Guards(row_filter=row_filter, masks=masks, policed=bool(found))


class _Undecided(Exception):
    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.refusal = Refusal(code=code, reason=reason)


@dataclass(frozen=True, kw_only=True)
class _Bound:
    """A policy's function with the arguments that a table has for it, and the columns that it masks."""

    guard: Guard
    masks: tuple[str, ...]

    @classmethod
    def of(cls, found: Matched, functions: Mapping[str, Function]) -> "_Bound":
        policy = found.policy
        if policy.function_id not in functions:
            raise _Undecided("UC_DEPENDENCY_DOES_NOT_EXIST", "the function of a policy is gone")
        arguments = tuple(_argument(each, found) for each in policy.terms.using)
        masks = found.columns[policy.terms.on_column.lower()] if policy.terms.on_column else ()
        return cls(guard=Guard(function=functions[policy.function_id], arguments=arguments), masks=masks)


def _argument(given: PolicyArgument, found: Matched) -> Argument:
    if given.alias is None:
        return constant(given.constant or "")
    columns = found.columns[given.alias.lower()]
    if len(columns) > 1:
        raise _Undecided("UC_ABAC_AMBIGUOUS_COLUMN_MATCH", "several columns match where a policy's function takes one")
    return columns[0]


def _one_filter(own: Guards, found: Sequence[Guard]) -> Guard | None:
    distinct = _distinct(found)
    if own.row_filter is not None and distinct:
        raise _Undecided("UC_ABAC_AND_NATIVE_ROW_FILTERS", "it has a row filter of its own, and a policy has another")
    if len(distinct) > 1:
        raise _Undecided("UC_ABAC_MULTIPLE_ROW_FILTERS", "several policies have different row filters for it")
    return distinct[0] if distinct else own.row_filter


def _masks(own: Guards, found: Sequence[_Bound]) -> dict[str, Guard]:
    masks = dict(own.masks)
    for column in dict.fromkeys(column for each in found for column in each.masks):
        distinct = _distinct(each.guard for each in found if column in each.masks)
        if column in own.masks or len(distinct) > 1:
            raise _Undecided("COLUMN_MASKS_FEATURE_NOT_SUPPORTED.MULTIPLE_MASKS", "a column has several masks")
        masks[column] = distinct[0]
    return masks


def _refuse_masked_arguments(found: Sequence[_Bound], masks: Mapping[str, Guard]) -> None:
    for each in found:
        for column in each.guard.columns:
            if column in masks and masks[column] != each.guard:
                raise _Undecided(
                    "UC_ABAC_MASKED_COLUMN_AS_ARGUMENT", "a policy's function takes a column that is masked"
                )


def _distinct(guards: Iterable[Guard]) -> list[Guard]:
    return list({(guard.function.id, guard.arguments): guard for guard in guards}.values())
