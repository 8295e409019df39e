"""The directory's rules: names, groups that nest, administrators, and what happens to many at once."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from millpond.identity.access import Act, Securable, allows
from millpond.identity.domain import Draft, Entry, Principal, PrincipalKind, Profile, checked_name
from millpond.identity.filters import InvalidFilter, SortKey, parse_filter
from millpond.kernel.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    MillpondError,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)
from tests.identity.conftest import Identity

GROUP, USER, ROBOT = PrincipalKind.GROUP, PrincipalKind.USER, PrincipalKind.SERVICE_PRINCIPAL


def make_group(identity: Identity, name: str, *member_ids: str) -> Entry:
    draft = Draft(name=name, display_name=name, member_ids=frozenset(member_ids))
    return identity.directory.create(identity.admin, GROUP, draft)


def group_id(identity: Identity, name: str) -> str:
    found = identity.directory.find_principal(name)
    assert found is not None
    return found.id


def set_members(identity: Identity, group: str, *member_ids: str) -> None:
    identity.directory.update(
        identity.admin, GROUP, group, lambda entry: replace(draft_of(entry), member_ids=frozenset(member_ids))
    )


def draft_of(entry: Entry) -> Draft:
    account = entry.account
    return Draft(
        name=account.name,
        display_name=account.display_name,
        active=account.active,
        external_id=account.external_id,
        profile=account.profile,
        member_ids=frozenset(member.id for member in entry.members),
    )


def names(entries: tuple[Entry, ...]) -> list[str]:
    return [entry.account.name for entry in entries]


HOSTILE_NAMES = [
    "Robert'); DROP TABLE identity_principals;--", 'quote"s@example.com', "`tick`", "ünïcödé@例え.jp", "a" * 255,
    "50%_off", "{{7*7}}", "<script>alert(1)", "name with spaces", "a.b.c", "x@y,z", "null", "0", "😀",
]  # fmt: skip
DECEIVING_NAMES = [
    "", " ", "a\0b", "a\nb", "x\u200by", "\u202eadmin", "a" * 256, "ﷺ" * 20, " padded", "a/b", "a\\b", "..", "system",
    "SYSTEM", "System user", "SYSTEM USER", "\ud800",
]  # fmt: skip


def test_a_strange_name_is_only_a_name(identity: Identity) -> None:
    for name in HOSTILE_NAMES:
        entry = identity.directory.create(identity.admin, USER, Draft(name=name, display_name=name))
        assert entry.account.name == name
        assert identity.directory.exists(name)
        assert identity.service.authenticate(identity.token_of(name)).name == name


@pytest.mark.parametrize("name", DECEIVING_NAMES)
def test_a_name_that_deceives_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument):
        checked_name(name, USER)


def test_a_name_that_only_looks_different_is_taken(identity: Identity) -> None:
    for other in ("ada@EXAMPLE.com", "ＡＤＡ@example.com", "admins", "Users"):
        with pytest.raises(AlreadyExists):
            identity.directory.create(identity.admin, USER, Draft(name=other, display_name="x"))


def test_an_owner_is_found_by_name_without_regard_to_case(identity: Identity) -> None:
    found = identity.directory.find_principal("ADA@Example.com")
    assert found is not None
    assert found.name == "ada@example.com"
    assert not identity.directory.exists("nobody@example.com")
    assert not identity.directory.exists("\0")
    assert identity.directory.exists("admins")


def test_an_id_is_never_used_twice(identity: Identity) -> None:
    first = identity.user("first@example.com")
    identity.directory.delete(identity.admin, USER, first.id)
    assert identity.user("second@example.com").id != first.id


def test_an_id_of_nobody_is_not_found(identity: Identity) -> None:
    for account_id in ("0", "-1", "999999", "abc", "1' OR '1'='1", "9" * 40, "9" * 18, "٣", "", "\0", "1.0"):
        with pytest.raises(NotFound):
            identity.directory.get(identity.admin, USER, account_id)


def test_an_id_of_another_kind_is_not_found(identity: Identity) -> None:
    with pytest.raises(NotFound):
        identity.directory.get(identity.admin, GROUP, identity.admin.id)
    with pytest.raises(NotFound):
        identity.directory.delete(identity.admin, USER, group_id(identity, "users"))


# Administrators


def test_a_member_of_admins_is_an_administrator_and_ceases_to_be(identity: Identity) -> None:
    bob = identity.user("bob@example.com")
    token = identity.token_of(bob.name)
    admins = group_id(identity, "admins")
    set_members(identity, admins, identity.admin.id, bob.id)
    assert identity.service.authenticate(token).is_admin
    set_members(identity, admins, identity.admin.id)
    assert not identity.service.authenticate(token).is_admin


def test_a_member_of_a_group_in_admins_is_an_administrator(identity: Identity) -> None:
    bob = identity.user("bob@example.com")
    inner = make_group(identity, "inner", bob.id)
    outer = make_group(identity, "outer", inner.account.id)
    set_members(identity, group_id(identity, "admins"), identity.admin.id, outer.account.id)
    principal = identity.service.authenticate(identity.token_of(bob.name))
    assert principal.is_admin
    assert principal.groups == {"inner", "outer", "admins", "users"}


def demote(identity: Identity, admin: Principal) -> None:
    set_members(identity, group_id(identity, "admins"))


def delete(identity: Identity, admin: Principal) -> None:
    identity.directory.delete(replace(admin, id="77"), USER, admin.id)


def deactivate(identity: Identity, admin: Principal) -> None:
    other = replace(admin, id="77")
    identity.directory.update(other, USER, admin.id, lambda entry: replace(draft_of(entry), active=False))


def test_the_last_administrator_stays(identity: Identity) -> None:
    for act in (demote, delete, deactivate):
        with pytest.raises(FailedPrecondition, match="no administrator"):
            act(identity, identity.admin)
        assert identity.service.authenticate(identity.admin_token).is_admin


def test_deleting_the_group_that_makes_the_last_administrator_is_refused(identity: Identity) -> None:
    bob = identity.user("bob@example.com")
    team = make_group(identity, "team", bob.id)
    set_members(identity, group_id(identity, "admins"), team.account.id)
    with pytest.raises(FailedPrecondition, match="no administrator"):
        identity.directory.delete(identity.admin, GROUP, team.account.id)


def test_two_administrators_cannot_remove_each_other_at_the_same_time(identity: Identity) -> None:
    bob = identity.user("bob@example.com")
    admins = group_id(identity, "admins")
    set_members(identity, admins, identity.admin.id, bob.id)
    bob = replace(bob, is_admin=True)
    outcomes = together(
        lambda: identity.directory.delete(identity.admin, USER, bob.id),
        lambda: identity.directory.delete(bob, USER, identity.admin.id),
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["FailedPrecondition", "NoneType"]


def test_nobody_deletes_or_deactivates_oneself(identity: Identity) -> None:
    bob = identity.user("bob@example.com")
    set_members(identity, group_id(identity, "admins"), identity.admin.id, bob.id)
    with pytest.raises(FailedPrecondition, match="cannot delete yourself"):
        identity.directory.delete(identity.admin, USER, identity.admin.id)
    with pytest.raises(FailedPrecondition, match="cannot deactivate yourself"):
        identity.directory.update(
            identity.admin, USER, identity.admin.id, lambda entry: replace(draft_of(entry), active=False)
        )


def test_a_built_in_group_stays_and_keeps_its_name(identity: Identity) -> None:
    for group in (group_id(identity, "admins"), group_id(identity, "users")):
        with pytest.raises(FailedPrecondition):
            identity.directory.delete(identity.admin, GROUP, group)
        with pytest.raises(InvalidArgument):
            identity.directory.update(
                identity.admin, GROUP, group, lambda entry: replace(draft_of(entry), name="other")
            )


def test_everybody_is_in_users_and_nobody_leaves(identity: Identity) -> None:
    bob = identity.user("bob@example.com")
    users = group_id(identity, "users")
    entry = identity.directory.get(identity.admin, GROUP, users)
    assert {member.id for member in entry.members} == {identity.admin.id, bob.id}
    with pytest.raises(InvalidArgument, match="Everybody"):
        set_members(identity, users, identity.admin.id)


# Groups


def test_a_group_cannot_hold_itself(identity: Identity) -> None:
    inner = make_group(identity, "inner")
    outer = make_group(identity, "outer", inner.account.id)
    for member in (inner.account.id, outer.account.id):
        with pytest.raises(InvalidArgument, match="member of itself"):
            set_members(identity, inner.account.id, member)


def test_a_group_of_unknown_members_is_refused(identity: Identity) -> None:
    for member in ("999", "abc", "1e3"):
        with pytest.raises(InvalidArgument, match=member):
            make_group(identity, "team", member)
    assert not identity.directory.exists("team")


def test_a_renamed_group_is_told_of_in_its_transaction(identity: Identity) -> None:
    from millpond.identity.directory import DirectoryService

    told: list[tuple[str, str]] = []
    directory = DirectoryService(
        identity.database, group_renamed=[lambda _connection, old, new: told.append((old, new))]
    )
    team = make_group(identity, "team")
    directory.update(identity.admin, GROUP, team.account.id, lambda entry: replace(draft_of(entry), name="crew"))
    assert told == [("team", "crew")]
    assert identity.directory.exists("crew")
    with pytest.raises(AlreadyExists):
        directory.update(identity.admin, GROUP, team.account.id, lambda entry: replace(draft_of(entry), name="admins"))


def test_a_group_that_owns_an_object_stands_for_its_members(identity: Identity) -> None:
    bob = identity.user("bob@example.com")
    table = Securable(kind="table", name="t", owners=("team",))
    assert not allows(bob, Act.READ, table)
    make_group(identity, "team", bob.id)
    assert allows(identity.service.authenticate(identity.token_of(bob.name)), Act.MANAGE, table)


def test_a_deleted_user_leaves_its_groups(identity: Identity) -> None:
    bob = identity.user("bob@example.com")
    team = make_group(identity, "team", bob.id)
    identity.directory.delete(identity.admin, USER, bob.id)
    assert identity.directory.get(identity.admin, GROUP, team.account.id).members == ()


# Who may


ADMIN_ACTS: list[Callable[[Identity, Principal], Any]] = [
    lambda i, p: i.directory.create(p, USER, Draft(name="x", display_name="x")),
    lambda i, p: i.directory.create(p, GROUP, Draft(name="x", display_name="x")),
    lambda i, p: i.directory.create(p, ROBOT, Draft(name="x", display_name="x")),
    lambda i, p: i.directory.update(p, USER, p.id, draft_of),
    lambda i, p: i.directory.update(p, GROUP, group_id(i, "admins"), draft_of),
    lambda i, p: i.directory.delete(p, USER, i.admin.id),
    lambda i, p: i.directory.delete(p, GROUP, group_id(i, "admins")),
    lambda i, p: i.custody.list_tokens(p),
    lambda i, p: i.custody.get_token(p, "x"),
    lambda i, p: i.custody.comment_token(p, "x", "y"),
    lambda i, p: i.custody.revoke_token(p, "x"),
    lambda i, p: i.custody.create_token_for(p, i.admin.name, kind=USER),
    lambda i, p: i.custody.create_client_secret(p, "1"),
    lambda i, p: i.custody.list_client_secrets(p, "1"),
    lambda i, p: i.custody.delete_client_secret(p, "1", "x"),
]


def test_only_an_administrator_may(identity: Identity) -> None:
    bob = identity.user("bob@example.com")
    for act in ADMIN_ACTS:
        with pytest.raises(PermissionDenied, match=r"Only an administrator.*bob@example\.com"):
            act(identity, bob)


def test_others_see_names_and_ids_only(identity: Identity) -> None:
    bob = identity.user("bob@example.com", external_id="x-7", profile=Profile(roles=("r",)))
    eve = identity.user("eve@example.com")
    seen = identity.directory.get(eve, USER, bob.id)
    assert seen.reduced
    assert (seen.account.name, seen.account.external_id, seen.account.profile) == (bob.name, None, Profile())
    assert seen.groups == ()
    own = identity.directory.get(bob, USER, bob.id)
    assert own.account.external_id == "x-7"
    team = make_group(identity, "team", bob.id)
    assert identity.directory.get(eve, GROUP, team.account.id).members == ()


# Lists


def test_a_list_is_filtered_sorted_and_paged(identity: Identity) -> None:
    for number in range(5):
        identity.user(f"User{number}@example.com", external_id=f"E{number}")

    def listed(text: str, **options: Any) -> list[str]:
        found = identity.directory.list(identity.admin, USER, wanted=parse_filter(text), **options)
        return names(found.entries)

    assert listed('userName eq "USER3@example.com"') == ["User3@example.com"]
    assert listed('userName sw "user" and not userName ew "4@example.com"', count=2) == [
        "User0@example.com", "User1@example.com",
    ]  # fmt: skip
    assert listed('userName co "SER"', start_index=4) == ["User3@example.com", "User4@example.com"]
    assert listed('externalId eq "E2" or externalId eq "E4"', sort=SortKey(attribute="username", descending=True)) == [
        "User4@example.com", "User2@example.com",
    ]  # fmt: skip
    assert listed("externalId pr and active eq true", count=1) == ["User0@example.com"]
    assert listed("active eq false") == []
    assert listed(f'id eq "{identity.admin.id}"') == [identity.admin.name]
    assert listed('externalId ne "E1"', count=3) == [identity.admin.name, "User0@example.com", "User2@example.com"]


def test_a_count_of_zero_only_counts(identity: Identity) -> None:
    listing = identity.directory.list(identity.admin, USER, count=0)
    assert (listing.total, listing.entries) == (1, ())


def test_wildcards_and_quotes_in_a_filter_are_only_characters(identity: Identity) -> None:
    identity.user("per%cent")
    identity.user("o'hara")
    for text, expected in [("%", ["per%cent"]), ("_", []), ("'", ["o'hara"]), ("' OR 1=1 --", []), ("\\\\", [])]:
        listing = identity.directory.list(identity.admin, USER, wanted=parse_filter(f'userName co "{text}"'))
        assert names(listing.entries) == expected


def test_what_cannot_be_filtered_by_is_refused(identity: Identity) -> None:
    for text in ("password pr", 'nonsense eq "x"', "userName eq 7", 'active co "t"', 'id co "1"'):
        with pytest.raises(InvalidFilter):
            identity.directory.list(identity.admin, USER, wanted=parse_filter(text))


# Many at once


def together(*acts: Callable[[], Any]) -> list[Any]:
    """What came of acts that begin at the same moment: a result or a Millpond error."""
    barrier = threading.Barrier(len(acts))

    def run(act: Callable[[], Any]) -> Any:
        barrier.wait(10)
        try:
            return act()
        except MillpondError as error:
            return error

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(run, acts))


def test_of_many_who_create_one_user_one_succeeds(identity: Identity) -> None:
    draft = Draft(name="same@example.com", display_name="same")
    outcomes = together(*[lambda: identity.directory.create(identity.admin, USER, draft)] * 8)
    assert sum(isinstance(outcome, Entry) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, AlreadyExists) for outcome in outcomes) == 7


def test_members_added_at_the_same_time_are_all_there(identity: Identity) -> None:
    people = [identity.user(f"u{number}@example.com") for number in range(6)]
    team = make_group(identity, "team")

    def adder(person: Principal) -> Callable[[], Any]:
        def edit(entry: Entry) -> Draft:
            draft = draft_of(entry)
            return replace(draft, member_ids=draft.member_ids | {person.id})

        return lambda: identity.directory.update(identity.admin, GROUP, team.account.id, edit)

    assert all(isinstance(outcome, Entry) for outcome in together(*map(adder, people)))
    entry = identity.directory.get(identity.admin, GROUP, team.account.id)
    assert {member.id for member in entry.members} == {person.id for person in people}


def test_a_token_made_while_its_holder_is_deleted_does_not_work(identity: Identity) -> None:
    for _ in range(5):
        bob = identity.user("bob@example.com")
        outcomes = together(
            lambda: identity.service.create_token(bob),  # noqa: B023 - run before the loop goes on
            lambda: identity.directory.delete(identity.admin, USER, bob.id),  # noqa: B023
        )
        made = outcomes[0]
        if isinstance(made, MillpondError):
            assert isinstance(made, Unauthenticated)
        else:
            with pytest.raises(Unauthenticated):
                identity.service.authenticate(made.secret)


def test_the_first_administrator_is_made_once(database: Any) -> None:
    from millpond.identity.credentials import Signer, new_secret
    from millpond.identity.service import IdentityService

    services = [IdentityService(database, Signer(b"k" * 32)) for _ in range(4)]
    outcomes = together(
        *[lambda s=s: s.bootstrap("ada@example.com", password="long enough", secret=new_secret()) for s in services]
    )
    assert sorted(outcomes) == [False, False, False, True]
