"""The lattice of privileges, held against the sentences of Unity Catalog written out by hand."""

from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond.identity.access import METASTORE, Act, Securable, allows, missing, require
from millpond.identity.domain import Grants, Principal, PrincipalKind
from millpond.identity.privileges import GRANTABLE, Privilege, check_grantable, levels, privilege_named
from millpond.kernel.errors import InvalidArgument, NotFound, PermissionDenied

P = Privilege
OBJECTS = ("table", "volume", "function", "model")
ME = "ann"
GROUPS = ("team", "users")
GRANTEES = (ME, *GROUPS, "somebody else")
ACTS = tuple(Act)


@dataclass(frozen=True)
class World:
    """One object with its containers, their owners, and all that was granted on them to anybody."""

    kind: str
    owners: tuple[str, ...]
    grants: frozenset[tuple[str, int, Privilege]]
    """Grantee, how far out (0 is the object itself), and privilege."""

    @property
    def kinds(self) -> tuple[str, ...]:
        return {"catalog": ("catalog",), "schema": ("schema", "catalog")}.get(
            self.kind, (self.kind, "schema", "catalog")
        )

    @property
    def securable(self) -> Securable:
        ids = tuple(f"id-{level}" for level in range(len(self.kinds)))
        return Securable(kind=self.kind, name="it", owners=self.owners, ids=ids)

    @property
    def principal(self) -> Principal:
        mine = [
            (self.kinds[level], f"id-{level}", privilege)
            for who, level, privilege in self.grants
            if who in {ME, *GROUPS}
        ]
        return Principal(
            id="1", name=ME, kind=PrincipalKind.USER, is_admin=False, groups=frozenset(GROUPS), grants=Grants(mine)
        )


@st.composite
def worlds(draw: st.DrawFn) -> World:
    kind = draw(st.sampled_from(("catalog", "schema", *OBJECTS)))
    world = World(kind, (), frozenset())
    owners = draw(st.tuples(*(st.sampled_from(("boss", "boss", "boss", *GRANTEES)) for _ in world.kinds)))
    possible = [
        st.tuples(st.sampled_from(GRANTEES), st.just(level), st.sampled_from(sorted(GRANTABLE[each])))
        for level, each in enumerate(world.kinds)
    ]
    return World(kind, owners, draw(st.frozensets(st.one_of(possible), max_size=8)))


NEVER_OF_ALL = {P.MANAGE, P.CREATE_CATALOG}
ONLY_CATALOG = {P.USE_CATALOG, P.CREATE_SCHEMA, P.BROWSE}
ONLY_CONTAINERS = ONLY_CATALOG | {P.USE_SCHEMA, P.CREATE_TABLE, P.CREATE_VOLUME, P.CREATE_FUNCTION, P.CREATE_MODEL}
OF_OBJECT = {
    "table": {P.SELECT, P.MODIFY, P.APPLY_TAG},
    "volume": {P.READ_VOLUME, P.WRITE_VOLUME, P.APPLY_TAG},
    "function": {P.EXECUTE},
    "model": {P.EXECUTE, P.CREATE_MODEL_VERSION, P.APPLY_TAG},
}


def all_privileges_hold(kind: str, privilege: Privilege) -> bool:
    """Whether ALL PRIVILEGES on a securable of a kind holds this one."""
    if privilege in NEVER_OF_ALL:
        return False
    if kind == "catalog":
        return True
    return privilege not in ONLY_CATALOG if kind == "schema" else privilege in OF_OBJECT[kind]


def expected(world: World, act: Act) -> bool:
    """What Unity Catalog's documentation says, sentence by sentence."""
    me = {ME, *GROUPS}
    if me & set(world.owners):
        return True

    def have(privilege: Privilege) -> bool:
        return any(
            who in me
            and (
                given is privilege or (given is P.ALL_PRIVILEGES and all_privileges_hold(world.kinds[level], privilege))
            )
            for who, level, given in world.grants
        )

    in_catalog, in_schema = have(P.USE_CATALOG), have(P.USE_CATALOG) and have(P.USE_SCHEMA)
    if world.kind == "catalog":
        return {
            Act.SEE: in_catalog or have(P.MANAGE) or have(P.BROWSE),
            Act.CREATE_SCHEMA: in_catalog and have(P.CREATE_SCHEMA),
            Act.MANAGE: have(P.MANAGE),
            Act.TAG: have(P.APPLY_TAG) or have(P.MANAGE),
        }.get(act, False)
    if world.kind == "schema":
        return {
            Act.SEE: have(P.BROWSE) or (in_catalog and (have(P.USE_SCHEMA) or have(P.MANAGE))),
            Act.CREATE_TABLE: in_schema and have(P.CREATE_TABLE),
            Act.CREATE_VOLUME: in_schema and have(P.CREATE_VOLUME),
            Act.CREATE_FUNCTION: in_schema and have(P.CREATE_FUNCTION),
            Act.CREATE_MODEL: in_schema and have(P.CREATE_MODEL),
            Act.MANAGE: in_catalog and have(P.MANAGE),
            Act.TAG: in_catalog and (have(P.APPLY_TAG) or have(P.MANAGE)),
        }.get(act, False)
    own = OF_OBJECT[world.kind] | {P.MANAGE}
    common = {
        Act.SEE: have(P.BROWSE) or (in_schema and any(have(privilege) for privilege in own)),
        Act.MANAGE: in_schema and have(P.MANAGE),
        Act.TAG: in_schema and (have(P.APPLY_TAG) or have(P.MANAGE)),
    }
    execute = in_schema and have(P.EXECUTE)
    writes = in_schema and have(P.SELECT) and have(P.MODIFY)
    special = {
        "table": {
            Act.READ: in_schema and have(P.SELECT),
            Act.WRITE: writes,
            Act.ALTER: writes or (in_schema and have(P.MANAGE)),
        },
        "volume": {
            Act.READ: in_schema and have(P.READ_VOLUME),
            Act.WRITE: in_schema and have(P.WRITE_VOLUME),
        },
        "function": {Act.READ: execute, Act.USE: execute},
        "model": {
            Act.READ: execute,
            Act.USE: execute,
            Act.WRITE: in_schema and have(P.MANAGE),
            Act.CREATE_VERSION: in_schema and (have(P.CREATE_MODEL_VERSION) or have(P.MANAGE)),
        },
    }[world.kind]
    return {**common, **special}.get(act, False)


@given(worlds())
def test_the_rule_is_that_of_the_documentation(world: World) -> None:
    """Every act on every kind, whatever is owned and granted by whom and where."""
    told = {act: allows(world.principal, act, world.securable) for act in ACTS}
    assert told == {act: expected(world, act) for act in ACTS}


@given(worlds(), st.sampled_from(ACTS))
def test_what_is_missing_is_all_that_is_missing(world: World, act: Act) -> None:
    """With what a refusal names granted at the outermost place, the act is allowed."""
    principal, securable = world.principal, world.securable
    lacks = missing(principal, act, securable)
    if not lacks:
        return
    rows = {(ME, len(world.kinds) - 1, privilege) for privilege in lacks}
    assert allows(World(world.kind, world.owners, world.grants | rows).principal, act, securable)


@given(worlds(), st.sampled_from(ACTS))
def test_a_refusal_reveals_nothing(world: World, act: Act) -> None:
    """What one may not see does not exist; what one may see is denied with the privileges that are missing."""
    principal, securable = world.principal, world.securable
    if allows(principal, act, securable):
        require(principal, act, securable)
    elif allows(principal, Act.SEE, securable):
        with pytest.raises(PermissionDenied) as refused:
            require(principal, act, securable)
        assert all(privilege.words in refused.value.message for privilege in missing(principal, act, securable))
    else:
        with pytest.raises(NotFound):
            require(principal, act, securable)


@given(worlds(), st.data())
def test_more_grants_never_take_anything_away(world: World, data: st.DataObject) -> None:
    """The lattice is monotone."""
    level = data.draw(st.sampled_from(range(len(world.kinds))))
    privilege = data.draw(st.sampled_from(sorted(GRANTABLE[world.kinds[level]])))
    more = World(world.kind, world.owners, world.grants | {(ME, level, privilege)})
    for act in ACTS:
        assert allows(more.principal, act, world.securable) or not allows(world.principal, act, world.securable)


@pytest.mark.parametrize("kind", ["experiment", "registered model", "endpoint"])
def test_each_level_holds_those_below_it(kind: str) -> None:
    """CAN_MANAGE can do all that is possible, each level more than the one before."""
    securable = Securable(kind=kind, name="it", owners=(), ids=("x",))
    possible = [_possible(kind, level, securable) for level in levels(kind)]
    assert all(lower < higher for lower, higher in pairwise(possible))
    assert Act.MANAGE in possible[-1]


def _possible(kind: str, level: Privilege, securable: Securable) -> set[Act]:
    grants = Grants([(kind, "x", level)])
    who = Principal(id="1", name=ME, kind=PrincipalKind.USER, is_admin=False, grants=grants)
    return {act for act in ACTS if allows(who, act, securable)}


def test_a_catalog_is_made_by_whom_the_metastore_lets() -> None:
    """Everybody knows of the metastore, so the refusal is no NotFound."""
    nobody = Principal(id="1", name=ME, kind=PrincipalKind.USER, is_admin=False)
    with pytest.raises(PermissionDenied, match="CREATE CATALOG"):
        require(nobody, Act.CREATE_CATALOG, METASTORE)


def test_privileges_are_named_as_sql_and_as_the_api_do() -> None:
    """`use catalog`, `USE_CATALOG`, `ALL PRIVILEGES`, `ALL`."""
    assert privilege_named("use  catalog") is privilege_named("USE_CATALOG") is P.USE_CATALOG
    assert privilege_named("ALL") is privilege_named("all privileges") is P.ALL_PRIVILEGES
    with pytest.raises(InvalidArgument, match="FLY"):
        privilege_named("FLY")
    with pytest.raises(InvalidArgument, match="not applicable to a volume"):
        check_grantable("volume", P.SELECT)
