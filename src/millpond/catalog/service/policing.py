"""Policies: set on a catalog, schema or table, they filter rows and mask columns below where tags are as they ask."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from millpond.catalog.domain import Function, Guards, ObjectName, Table, TableType
from millpond.catalog.names import check_text, fold_name
from millpond.catalog.policies import MAX_POLICIES, SECURABLES, Matched, Policy, PolicyType, Terms, checked, decided
from millpond.catalog.service.base import clean_comment, races
from millpond.catalog.service.scope import applying
from millpond.catalog.service.tagging import Tagging, governing_policy
from millpond.catalog.store import objects
from millpond.catalog.store import policies as store
from millpond.catalog.store.rows import function_of
from millpond.catalog.store.schema import functions
from millpond.identity import acts, grants
from millpond.identity.access import Act, require
from millpond.identity.domain import USERS, Principal
from millpond.identity.grantees import find_grantee, grantee_names
from millpond.identity.grants import ACCOUNT_USERS, Chain, Explanation
from millpond.identity.privileges import Privilege
from millpond.kernel.clock import utc_now
from millpond.kernel.errors import AlreadyExists, InvalidArgument, LimitExceeded, NotFound
from millpond.kernel.ids import new_id


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What policies do to what somebody sees of a table."""

    matches: tuple[Matched, ...]
    guards: Guards


class Policing(Tagging):
    """What one can do with policies. `kind` is one of SECURABLES; who manages such an object sets policies on it."""

    def create_policy(
        self, principal: Principal, kind: str, name: str, terms: Terms, *, or_replace: bool = False
    ) -> Policy:
        """A new policy, or with `or_replace` another in the place of the one of its name.

        Raises NotFound, AlreadyExists, InvalidArgument, PermissionDenied, LimitExceeded.
        """
        with (
            races(f"Policy '{terms.name}' already exists on {kind} '{name}'.", ""),
            self.database.write() as connection,
        ):
            place = self._place(connection, principal, kind, name)[0]
            there = store.find_policy(connection, place, fold_name(terms.name, "policy"), lock=True)
            if there is not None and not or_replace:
                raise AlreadyExists(f"Policy '{terms.name}' already exists on {kind} '{place.name}'.")
            terms, function = self._sound(connection, principal, terms)
            if there is not None:
                return self._changed(connection, principal, there, terms, function)
            if store.count(connection, place) >= MAX_POLICIES:
                raise LimitExceeded(f"There are {MAX_POLICIES} policies on {kind} '{place.name}' already; drop some.")
            now = utc_now()
            policy = Policy(
                id=new_id(), terms=terms, function_id=function.id, on=place, created_at=now, updated_at=now,
                created_by=principal.name, updated_by=principal.name,
            )  # fmt: skip
            store.add(connection, policy)
            _noted(connection, principal, "create", policy)
            return policy

    def update_policy(
        self, principal: Principal, kind: str, name: str, policy: str, change: Callable[[Terms], Terms]
    ) -> Policy:
        """The policy with other terms. Raises as `create_policy`."""
        with (
            races(f"A policy of that name already exists on {kind} '{name}'.", ""),
            self.database.write() as connection,
        ):
            there = self._policy(connection, principal, kind, name, policy, lock=True)
            terms, function = self._sound(connection, principal, change(there.terms))
            return self._changed(connection, principal, there, terms, function)

    def get_policy(self, principal: Principal, kind: str, name: str, policy: str) -> Policy:
        """The policy of a name, for who manages what it is set on. Raises NotFound, PermissionDenied."""
        with self.database.read() as connection:
            return self._policy(connection, principal, kind, name, policy)

    def list_policies(
        self, principal: Principal, kind: str, name: str, *, inherited: bool = False
    ) -> tuple[Policy, ...]:
        """The policies on an object, and with `inherited` on what contains it, for who manages the object; by place.

        Raises NotFound, PermissionDenied.
        """
        with self.database.read() as connection:
            chain = self._place(connection, principal, kind, name)
            found = store.policies_on(connection, chain if inherited else chain[:1])
        order = {place.ids[0]: at for at, place in enumerate(chain)}
        return tuple(sorted(found, key=lambda each: order[each.on.ids[0]]))

    def delete_policy(self, principal: Principal, kind: str, name: str, policy: str) -> None:
        """Take a policy away. Raises NotFound, PermissionDenied."""
        with self.database.write() as connection:
            there = self._policy(connection, principal, kind, name, policy, lock=True)
            store.remove(connection, there.id)
            _noted(connection, principal, "delete", there)

    def guards_for(self, principal: Principal, table: Table) -> Guards:
        """What decides which rows and values of a table the principal sees. Asks for no rights, as `guards_of`."""
        return self.decision(principal, table).guards if table.policed else self.guards_of(table)

    def decision(self, principal: Principal, table: Table) -> Decision:
        """The same with the policies behind it."""
        own = self.guards_of(table)
        with self.database.read() as connection:
            found = applying(connection, principal, [table]).get(table.id, ())
            rows = objects.rows_with_ids(connection, functions, sorted({each.policy.function_id for each in found}))
        known = {function.id: function for function in map(function_of, rows)}
        return Decision(matches=found, guards=decided(own, found, known) if found else own)

    def narrowed(self, told: Explanation) -> list[dict[str, str]]:
        """What of a table is kept from somebody who may read it, and by which policies; asked with an explanation."""
        if told.securable.kind != "table" or told.privilege is not Privilege.SELECT or not told.allowed:
            return []
        table = self.look_up_table(ObjectName.of_full_name(told.securable.name))
        if table is None or not (table.guards or table.policed):
            return []
        decision = self.decision(told.subject, table)
        refused = decision.guards.refused
        if refused is not None:
            return [{"code": refused.code, "reason": refused.reason}, *_by_policies(decision)]
        return [*_by_table(self.guards_of(table)), *_by_policies(decision)]

    def _place(self, connection: Connection, principal: Principal, kind: str, name: str) -> Chain:
        """An object on which the principal may set policies, with what contains it."""
        if kind not in SECURABLES:
            raise InvalidArgument(
                f"Policies are set on a {', '.join(SECURABLES[:-1])} or table, not on a '{kind[:40]}'."
            )
        chain = self._chain(connection, kind, name)
        require(principal, Act.MANAGE, chain[0])
        if chain[0].kept_by_server or chain[0].public:
            raise InvalidArgument(f"What {kind} '{name}' holds is kept by the server; there are no policies on it.")
        if kind == "table" and self._table(connection, ObjectName.of_full_name(name)).table_type is TableType.VIEW:
            raise InvalidArgument(f"'{name}' is a view; policies on the tables that it reads count for it.")
        return chain

    def _policy(
        self, connection: Connection, principal: Principal, kind: str, name: str, policy: str, *, lock: bool = False
    ) -> Policy:
        place = self._place(connection, principal, kind, name)[0]
        found = store.find_policy(connection, place, fold_name(policy, "policy"), lock=lock)
        if found is None:
            raise NotFound(f"Policy '{policy[:80]}' on {kind} '{place.name}' does not exist.")
        return found

    def _changed(
        self, connection: Connection, principal: Principal, there: Policy, terms: Terms, function: Function
    ) -> Policy:
        policy = replace(
            there, terms=terms, function_id=function.id, updated_at=utc_now(), updated_by=principal.name
        )  # fmt: skip
        store.change(connection, policy)
        _noted(connection, principal, "update", policy)
        return policy

    def _sound(self, connection: Connection, principal: Principal, terms: Terms) -> tuple[Terms, Function]:
        """Terms that can be kept, of principals, tags and a function that there are, and the function."""
        terms = checked(terms)
        terms = replace(
            terms,
            to=_named(connection, terms.to),
            exempt=_named(connection, terms.exempt),
            comment=clean_comment(terms.comment),
        )
        for key, value in sorted(terms.tags, key=str):
            _check_governed(connection, key, value)
        function = self._function(connection, terms.function, lock=True)
        require(principal, Act.USE, function.securable)
        _check_function(terms, function)
        return terms, function


def _named(connection: Connection, names: Sequence[str]) -> tuple[str, ...]:
    """Principals as they are spelled here, each once."""
    found: dict[str, None] = {}
    for name in names:
        wanted = USERS if name.strip().lower() == ACCOUNT_USERS else check_text(name, "A principal's name")
        grantee = find_grantee(connection, wanted)
        if grantee is None:
            raise InvalidArgument(
                f"Principal '{name[:80]}' does not exist; name users, service principals by application id, or groups."
            )
        found[grantee_names(connection, [grantee])[grantee]] = None
    return tuple(found)


def _by_policies(decision: Decision) -> list[dict[str, str]]:
    found = []
    for each in decision.matches:
        policy = each.policy
        told = {"policy": policy.terms.name, "securable_type": policy.on.kind, "name": policy.on.name}
        told |= {"function": str(policy.terms.function)}
        masked = each.columns[policy.terms.on_column.lower()] if policy.terms.on_column else (None,)
        found += [{**told, **({"column": column} if column else {})} for column in masked]
    return found


def _by_table(own: Guards) -> list[dict[str, str]]:
    masks = [{"column": column, "function": str(mask.function.name)} for column, mask in own.masks.items()]
    return [*([{"function": str(own.row_filter.function.name)}] if own.row_filter else []), *masks]


def _check_governed(connection: Connection, key: str, value: str | None) -> None:
    """Who may remove a tag may lift what asks for it, so that must be a governed one; locked, so that it stays one."""
    try:
        governing = governing_policy(connection, key, lock=True)
    except NotFound as error:
        raise InvalidArgument(
            f"The tag '{key[:80]}' is not governed, so whoever may tag could lift the policy. Make a tag policy for it "
            "first (CREATE GOVERNED TAG)."
        ) from error
    if value is not None and value not in (governing.values or ("",)):
        allowed = ", ".join(f"'{each}'" for each in governing.values) or "no value"
        raise InvalidArgument(f"Tag '{key}' is governed and takes {allowed}, never '{value[:80]}'.")


def _check_function(terms: Terms, function: Function) -> None:
    """Raises InvalidArgument for a function that cannot decide; types are cast when it is asked, as on Databricks."""
    if str(function.definition.get("routine_body") or "SQL").upper() != "SQL":
        raise InvalidArgument(
            f"Function '{function.name}' is not of SQL; only such functions filter rows and mask columns."
        )
    if str(function.definition.get("data_type") or "").upper() == "TABLE_TYPE":
        raise InvalidArgument(f"Function '{function.name}' returns a table; a filter or mask gives one value.")
    returns = str(function.definition.get("full_data_type") or "").lower()
    if terms.type is PolicyType.ROW_FILTER and returns != "boolean":
        raise InvalidArgument(f"A row filter must return BOOLEAN, and {function.name} returns {returns.upper()}.")
    parameters = (function.definition.get("input_params") or {}).get("parameters") or []
    needed = [each for each in parameters if each.get("parameter_default") is None]
    given = len(terms.using) + (terms.type is PolicyType.COLUMN_MASK)
    if not len(needed) <= given <= len(parameters):
        raise InvalidArgument(
            f"Function '{function.name}' takes {len(parameters)} arguments, and policy '{terms.name}' gives {given}."
        )


def _noted(connection: Connection, principal: Principal, act: str, policy: Policy) -> None:
    """Into the audit; and engines that reach files of tables below must be looked at again."""
    grants.rights_changed(connection)
    terms = policy.terms
    told = {"type": terms.type.value, "function": str(terms.function), "to": ", ".join(terms.to)}
    told |= {"except": ", ".join(terms.exempt)} if terms.exempt else {}
    name = f"{terms.name} on {policy.on.kind} {policy.on.name}"
    acts.changed(connection, principal.name, act, "policy", name, **told)
