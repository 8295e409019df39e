"""Who may do what with secrets, and within which limits."""

import threading

import pytest

from millpond.identity.domain import PrincipalKind
from millpond.kernel.errors import AlreadyExists, InvalidArgument, LimitExceeded, NotFound, PermissionDenied
from millpond.secrets.domain import Permission
from tests.secrets.conftest import VALUE, Doing, Vault

READ, WRITE, MANAGE = Permission.READ, Permission.WRITE, Permission.MANAGE
ACTS: dict[str, tuple[Permission, Doing]] = {
    "get": (READ, lambda service, me: service.get_secret(me, "app", "token")),
    "list": (READ, lambda service, me: service.list_secrets(me, "app")),
    "most": (READ, lambda service, me: service.permission_on(me, "app")),
    "require": (READ, lambda service, me: service.require_secret(me, "app", "token")),
    "put": (WRITE, lambda service, me: service.put_secret(me, "app", "token", b"new")),
    "delete": (WRITE, lambda service, me: service.delete_secret(me, "app", "token")),
    "list acls": (MANAGE, lambda service, me: service.list_acls(me, "app")),
    "get acl": (MANAGE, lambda service, me: service.get_acl(me, "app", "ann@example.com")),
    "put acl": (MANAGE, lambda service, me: service.put_acl(me, "app", "ann@example.com", READ)),
    "delete acl": (MANAGE, lambda service, me: service.delete_acl(me, "app", "ann@example.com")),
    "delete scope": (MANAGE, lambda service, me: service.delete_scope(me, "app")),
}


@pytest.mark.parametrize("act", ACTS)
def test_each_act_needs_its_permission(filled: Vault, act: str) -> None:
    """Nothing: there is no such scope. Too little: refused. Enough: done."""
    needed, do = ACTS[act]
    with pytest.raises(NotFound, match="Secret scope 'app' does not exist"):
        do(filled.service, filled.eve)
    for held in Permission:
        filled.service.put_acl(filled.ann, "app", filled.eve.name, held)
        if held.includes(needed):
            do(filled.service, filled.eve)
            return
        with pytest.raises(PermissionDenied, match=f"{needed.value} permission on secret scope 'app'"):
            do(filled.service, filled.eve)


def test_a_hidden_scope_answers_as_one_that_is_not_there(filled: Vault) -> None:
    """In every word, and it is in no list."""
    for _, do in ACTS.values():
        with pytest.raises(NotFound) as hidden:
            do(filled.service, filled.eve)
        with pytest.raises(NotFound) as absent:
            filled.service.get_secret(filled.eve, "no-such", "token")
        assert hidden.value.message == absent.value.message.replace("no-such", "app")
    assert filled.service.list_scopes(filled.eve) == ()
    assert [scope.name for scope in filled.service.list_scopes(filled.admin)] == ["app"]


def test_a_group_lends_its_permission_to_members_of_its_groups(filled: Vault) -> None:
    """And takes it back when somebody leaves."""
    inner = filled.group("inner", filled.eve.id)
    outer = filled.group("outer", inner)
    filled.service.put_acl(filled.ann, "app", "outer", READ)
    eve = filled.again(filled.eve)
    assert filled.service.get_secret(eve, "app", "token") == VALUE
    assert [scope.name for scope in filled.service.list_scopes(eve)] == ["app"]
    filled.identity.directory.delete(filled.admin, PrincipalKind.GROUP, outer)
    with pytest.raises(NotFound):
        filled.service.get_secret(filled.again(filled.eve), "app", "token")


def test_one_is_told_the_most_that_one_may_do(filled: Vault) -> None:
    """By one's own ACL or a group's; administrators may do all."""
    filled.group("readers", filled.eve.id)
    filled.service.put_acl(filled.ann, "app", "readers", READ)
    filled.service.put_acl(filled.ann, "app", filled.eve.name, WRITE)
    assert filled.service.permission_on(filled.again(filled.eve), "app") is WRITE
    assert filled.service.permission_on(filled.admin, "app") is MANAGE


def test_everybody_manages_a_scope_that_is_given_to_users(vault: Vault) -> None:
    vault.service.create_scope(vault.ann, "shared", initial_manager="users")
    vault.service.put_acl(vault.eve, "shared", "ann@example.com", READ)
    with pytest.raises(InvalidArgument, match="can only be 'users'"):
        vault.service.create_scope(vault.ann, "other", initial_manager="admins")


def test_an_acl_does_not_pass_to_who_gets_the_name_next(filled: Vault) -> None:
    """It goes with the account that had it."""
    zoe = filled.identity.user("zoe@example.com")
    filled.service.put_acl(filled.ann, "app", zoe.name, READ)
    assert filled.service.get_secret(zoe, "app", "token") == VALUE
    filled.identity.directory.delete(filled.admin, PrincipalKind.USER, zoe.id)
    with pytest.raises(NotFound):
        filled.service.get_secret(filled.identity.user(zoe.name), "app", "token")
    assert [acl.principal for acl in filled.service.list_acls(filled.ann, "app")] == ["ann@example.com"]


def test_the_last_manager_may_go_and_an_administrator_comes_back(filled: Vault) -> None:
    filled.service.delete_acl(filled.ann, "app", filled.ann.name)
    with pytest.raises(NotFound):
        filled.service.list_secrets(filled.ann, "app")
    filled.service.put_acl(filled.admin, "app", filled.ann.name, READ)
    assert filled.service.get_secret(filled.ann, "app", "token") == VALUE


def test_names_are_one_whatever_their_case(filled: Vault) -> None:
    with pytest.raises(AlreadyExists):
        filled.service.create_scope(filled.eve, "APP")
    filled.service.put_secret(filled.ann, "App", "TOKEN", b"second")
    assert filled.service.get_secret(filled.ann, "app", "token") == b"second"
    assert [(secret.key, secret.version) for secret in filled.service.list_secrets(filled.ann, "app")] == [("token", 2)]


@pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 129, "é", "a\0b", "a\n", "{{x}}"])
def test_a_wrong_name_is_refused(filled: Vault, name: str) -> None:
    with pytest.raises(InvalidArgument, match="not valid"):
        filled.service.create_scope(filled.ann, name)
    with pytest.raises(InvalidArgument, match="not valid"):
        filled.service.put_secret(filled.ann, "app", name, b"x")
    with pytest.raises(NotFound):
        filled.service.get_secret(filled.ann, "app", name)
    with pytest.raises(NotFound):
        filled.service.get_secret(filled.ann, name, "token")


def test_the_limits_hold(filled: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    filled.service.put_secret(filled.ann, "app", "large", b"x" * (128 << 10))
    with pytest.raises(InvalidArgument, match="131073 bytes"):
        filled.service.put_secret(filled.ann, "app", "large", b"x" * ((128 << 10) + 1))
    monkeypatch.setattr("millpond.secrets.service.MAX_SECRETS", 2)
    with pytest.raises(LimitExceeded, match="has 2 secrets"):
        filled.service.put_secret(filled.ann, "app", "third", b"x")
    filled.service.put_secret(filled.ann, "app", "token", b"one that is there can be changed")
    monkeypatch.setattr("millpond.secrets.service.MAX_SCOPES", 1)
    with pytest.raises(LimitExceeded, match="1 secret scopes"):
        filled.service.create_scope(filled.eve, "second")


def test_values_put_at_the_same_time_are_all_counted(filled: Vault) -> None:
    """Each put is a version of its own, and what is read is one of them whole."""
    values = [f"value {number}".encode() * 100 for number in range(12)]
    threads = [
        threading.Thread(target=filled.service.put_secret, args=(filled.ann, "app", "token", value)) for value in values
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert filled.service.get_secret(filled.ann, "app", "token") in values
    assert filled.service.list_secrets(filled.ann, "app")[0].version == 13


def test_scopes_made_first_at_the_same_time_share_one_master_key(vault: Vault) -> None:
    names = [f"scope-{number}" for number in range(8)]
    threads = [threading.Thread(target=vault.service.create_scope, args=(vault.ann, name)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [scope.name for scope in vault.service.list_scopes(vault.ann)] == names
    assert len({scope.master_key_id for scope in vault.service.list_scopes(vault.ann)}) == 1
