"""Grants in the database: snapshots, epochs, who may grant what, and explanations."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from millpond.identity.access import Act, Securable, allows
from millpond.identity.domain import Draft, Principal, PrincipalKind
from millpond.identity.grants import Chain, Change, GrantService, forget
from millpond.identity.privileges import Privilege
from millpond.identity.service import IdentityService
from millpond.kernel.errors import InvalidArgument, NotFound, PermissionDenied
from tests.identity.conftest import Identity

P = Privilege
CATALOG = Securable(kind="catalog", name="c", owners=("boss",), ids=("c-id",))
SCHEMA = Securable(kind="schema", name="c.s", owners=("boss", "boss"), ids=("s-id", "c-id"))
TABLE = Securable(kind="table", name="c.s.t", owners=("ada", "boss", "boss"), ids=("t-id", "s-id", "c-id"))


def found(*chain: Securable) -> object:
    """How a room finds it."""
    return lambda _connection: chain


TABLE_CHAIN: Chain = (TABLE, SCHEMA, CATALOG)


def grant(identity: Identity, securable: Securable, grantee: str, *privileges: Privilege) -> None:
    change = Change(grantee=grantee, add=frozenset(privileges))
    GrantService(identity.database).change(identity.admin, found(securable), [change])


def revoke(identity: Identity, securable: Securable, grantee: str, *privileges: Privilege) -> None:
    change = Change(grantee=grantee, remove=frozenset(privileges))
    GrantService(identity.database).change(identity.admin, found(securable), [change])


def test_a_grant_counts_from_the_next_credential_on_and_in_other_processes(identity: Identity) -> None:
    """Two services over one database, as server and gateway have it; every kind of credential."""
    identity.user("ann", password="initial-1")
    token = identity.token_of("ann")
    other = IdentityService(identity.database, identity.signer)
    signed = identity.service.mint(identity.service.authenticate(token), 60)
    _, session = identity.service.sign_in(token=token)
    doors = [
        lambda: identity.service.authenticate(token),
        lambda: other.authenticate(token),
        lambda: other.authenticate(signed),
        lambda: other.authenticate_session(session),
        lambda: other.authenticate_password("ann", "initial-1"),
        lambda: other.sign_in(token=token)[0],
    ]
    assert not any(allows(door(), Act.SEE, CATALOG) for door in doors)
    grant(identity, CATALOG, "ann", P.USE_CATALOG)
    assert all(allows(door(), Act.SEE, CATALOG) for door in doors)
    revoke(identity, CATALOG, "ann", P.USE_CATALOG)
    assert not any(allows(door(), Act.SEE, CATALOG) for door in doors)


def test_a_group_within_a_group_hands_its_grants_on(identity: Identity) -> None:
    """Until the member leaves."""
    ann = identity.user("ann")
    create = identity.directory.create
    inner = create(identity.admin, PrincipalKind.GROUP, _group("inner", ann.id)).account
    create(identity.admin, PrincipalKind.GROUP, _group("outer", inner.id))
    token = identity.token_of("ann")
    grant(identity, CATALOG, "outer", P.USE_CATALOG)
    assert allows(identity.service.authenticate(token), Act.SEE, CATALOG)
    identity.directory.delete(identity.admin, PrincipalKind.GROUP, inner.id)
    assert not allows(identity.service.authenticate(token), Act.SEE, CATALOG)


def _group(name: str, *members: str) -> Draft:
    return Draft(name=name, display_name=name, member_ids=frozenset(members))


def test_a_snapshot_is_read_once_for_each_epoch(identity: Identity) -> None:
    """The same principal is the same value, so that what is kept by it is found again."""
    identity.user("ann")
    token = identity.token_of("ann")
    first, second = identity.service.authenticate(token), identity.service.authenticate(token)
    assert first.grants is second.grants
    assert first == second
    grant(identity, CATALOG, "users", P.USE_CATALOG)
    assert identity.service.authenticate(token) != first


def test_only_who_manages_may_grant(identity: Identity) -> None:
    """A reader is denied, a stranger finds nothing, a manager grants."""
    service = GrantService(identity.database)
    for name in ("ann", "bob", "cem"):
        identity.user(name)
    for name, privilege in (("ann", P.SELECT), ("bob", P.MANAGE)):
        grant(identity, CATALOG, name, P.USE_CATALOG, P.USE_SCHEMA, privilege)
    wish = [Change(grantee="ann", add=frozenset({P.MODIFY}))]
    ann, bob, cem = (identity.service.authenticate(identity.token_of(name)) for name in ("ann", "bob", "cem"))
    with pytest.raises(PermissionDenied, match="without MANAGE"):
        service.change(ann, found(*TABLE_CHAIN), wish)
    with pytest.raises(NotFound):
        service.change(cem, found(*TABLE_CHAIN), wish)
    service.change(bob, found(*TABLE_CHAIN), wish)
    assert allows(identity.service.authenticate(identity.token_of("ann")), Act.WRITE, TABLE)


def test_a_change_is_made_whole_or_not_at_all(identity: Identity) -> None:
    """One wrong grantee or privilege and nothing is granted; what is there already is no error."""
    service = GrantService(identity.database)
    identity.user("ann")
    good = Change(grantee="ann", add=frozenset({P.SELECT}))
    for wrong, told in (
        (Change(grantee="nobody", add=frozenset({P.SELECT})), "'nobody' does not exist"),
        (Change(grantee="ann", add=frozenset({P.USE_CATALOG})), "not applicable to a table"),
    ):
        with pytest.raises(InvalidArgument, match=told):
            service.change(identity.admin, found(*TABLE_CHAIN), [good, wrong])
    assert service.granted(identity.admin, found(*TABLE_CHAIN)) == ()
    for _ in range(2):
        service.change(identity.admin, found(*TABLE_CHAIN), [good])
    assert [len(each.granted) for each in service.granted(identity.admin, found(*TABLE_CHAIN))] == [1]


def test_listing_shows_what_is_inherited_and_to_others_only_their_own(identity: Identity) -> None:
    """USE SCHEMA on the catalog says something about a table in it, CREATE SCHEMA does not."""
    service = GrantService(identity.database)
    for name in ("ann", "bob"):
        identity.user(name)
    grant(identity, CATALOG, "account users", P.USE_CATALOG, P.USE_SCHEMA, P.CREATE_SCHEMA)
    grant(identity, SCHEMA, "bob", P.SELECT)
    grant(identity, TABLE, "ann", P.SELECT)
    every = service.granted(identity.admin, found(*TABLE_CHAIN), inherited=True)
    assert {(a.grantee, g.privilege, g.on.kind) for a in every for g in a.granted} == {
        ("users", P.USE_CATALOG, "catalog"), ("users", P.USE_SCHEMA, "catalog"), ("bob", P.SELECT, "schema"),
        ("ann", P.SELECT, "table"),
    }  # fmt: skip
    ann = identity.service.authenticate(identity.token_of("ann"))
    seen = service.granted(ann, found(*TABLE_CHAIN), inherited=True)
    assert {assignment.grantee for assignment in seen} == {"ann", "users"}
    only = service.granted(identity.admin, found(*TABLE_CHAIN), grantee="bob", inherited=True)
    assert {assignment.grantee for assignment in only} == {"bob"}


def test_explanations_name_what_lets_and_what_lacks(identity: Identity) -> None:
    """By a group's grant on the schema; without USE CATALOG no."""
    service = GrantService(identity.database)
    ann = identity.user("ann")
    identity.directory.create(identity.admin, PrincipalKind.GROUP, _group("team", ann.id))
    grant(identity, SCHEMA, "team", P.ALL_PRIVILEGES)
    told = service.explain(identity.admin, "ann", P.SELECT, found(*TABLE_CHAIN))
    assert not told.allowed
    assert [(lack.privilege, [place.kind for place in lack.on]) for lack in told.lacks] == [
        (P.USE_CATALOG, ["catalog"])
    ]
    grant(identity, CATALOG, "ann", P.USE_CATALOG)
    told = service.explain(identity.admin, "ann", P.SELECT, found(*TABLE_CHAIN))
    assert told.allowed
    assert {(r.by, r.grantee, r.privilege, r.on.kind) for r in told.reasons} == {
        ("grant", "team", P.ALL_PRIVILEGES, "schema"), ("grant", "ann", P.USE_CATALOG, "catalog"),
    }  # fmt: skip
    told = service.explain(identity.admin, identity.admin.name, P.MODIFY, found(*TABLE_CHAIN))
    assert told.allowed
    assert told.reasons[0].by == "administrator"


def test_explanations_are_for_managers_and_about_oneself(identity: Identity) -> None:
    """Others learn nothing, not even that the object or the person exists."""
    service = GrantService(identity.database)
    ann, _ = identity.user("ann"), identity.user("bob")
    with pytest.raises(NotFound):
        service.explain(ann, "bob", P.SELECT, found(*TABLE_CHAIN))
    with pytest.raises(NotFound):
        service.explain(ann, "ann", P.SELECT, found(*TABLE_CHAIN))
    grant(identity, TABLE, "ann", P.SELECT)
    ann = identity.service.authenticate(identity.token_of("ann"))
    told = service.explain(ann, "ann", P.SELECT, found(*TABLE_CHAIN))
    assert {lack.privilege for lack in told.lacks} == {P.USE_CATALOG, P.USE_SCHEMA}


def test_grants_end_with_the_object_and_with_the_grantee(identity: Identity) -> None:
    """Nothing is left for a later object or principal."""
    service = GrantService(identity.database)
    ann = identity.user("ann")
    grant(identity, TABLE, "ann", P.SELECT)
    grant(identity, SCHEMA, "ann", P.SELECT)
    identity.directory.delete(identity.admin, PrincipalKind.USER, ann.id)
    assert service.granted(identity.admin, found(TABLE)) == ()
    grant(identity, TABLE, "users", P.SELECT)
    with identity.database.write() as connection:
        forget(connection, ["t-id"])
    assert service.granted(identity.admin, found(TABLE)) == ()


def test_concurrent_grants_are_all_kept_and_every_reader_ends_with_the_truth(identity: Identity) -> None:
    """Sixteen writers on one securable while readers authenticate; no grant and no revocation is missed."""
    identity.user("ann")
    token = identity.token_of("ann")
    places = [Securable(kind="catalog", name=f"c{n}", owners=(), ids=(f"c{n}-id",)) for n in range(16)]

    def write(place: Securable) -> None:
        for _ in range(3):
            grant(identity, place, "ann", P.USE_CATALOG)
            assert _sees(identity, token, place)
            revoke(identity, place, "ann", P.USE_CATALOG)
            assert not _sees(identity, token, place)
        grant(identity, place, "ann", P.USE_CATALOG)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, places))
    assert all(_sees(identity, token, place) for place in places)


def _sees(identity: Identity, token: str, place: Securable) -> bool:
    who: Principal = identity.service.authenticate(token)
    return allows(who, Act.SEE, place)
