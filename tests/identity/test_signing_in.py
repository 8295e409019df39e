"""Credentials work while they are valid and their holder is active, and not a moment longer."""

from dataclasses import replace
from datetime import timedelta

import pytest

from millpond.identity.attempts import MAX_FAILURES_OF_PAIR
from millpond.identity.domain import SYSTEM, Draft, Principal, PrincipalKind
from millpond.identity.service import MAX_TOKENS, IdentityService
from millpond.identity.store import tokens
from millpond.identity.store.tokens import CredentialKind
from millpond.kernel.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
)
from tests.identity.conftest import ADMIN, PASSWORD, Identity

USER = PrincipalKind.USER


def age(identity: Identity, principal: Principal, by: timedelta) -> None:
    """Let a principal's credentials have been made, and expire, that much earlier."""
    from sqlalchemy import update

    from millpond.identity.store.tables import tokens as table

    with identity.database.write() as connection:
        for row in connection.execute(table.select().where(table.c.principal_id == int(principal.id))).all():
            moved = {"created_at": row.created_at - by, "expires_at": row.expires_at and row.expires_at - by}
            connection.execute(update(table).where(table.c.id == row.id).values(moved))


def deactivate(identity: Identity, principal: Principal) -> None:
    draft = Draft(name=principal.name, display_name=principal.name, active=False)
    identity.directory.update(identity.admin, USER, principal.id, lambda _entry: draft)


@pytest.fixture
def bob(identity: Identity) -> Principal:
    return identity.user("bob@example.com", password="bobs password")


def refused(service: IdentityService, token: str) -> bool:
    try:
        service.authenticate(token)
    except Unauthenticated:
        return True
    return False


def test_a_wrong_token_is_refused(identity: Identity) -> None:
    right = identity.admin_token
    wrong = ("", "dapi", "dapi" + "0" * 64, right[:-1], right + " ", right.upper(), right + "\0", "é", "x " + right)
    assert all(refused(identity.service, token) for token in wrong)


def test_an_expired_token_is_refused_and_not_listed(identity: Identity, bob: Principal) -> None:
    issued = identity.service.create_token(bob, lifetime=timedelta(minutes=5))
    assert identity.service.authenticate(issued.secret).name == bob.name
    age(identity, bob, timedelta(minutes=6))
    assert refused(identity.service, issued.secret)
    assert issued.token.id not in [token.id for token in identity.service.list_tokens(bob)]


def test_a_revoked_token_is_refused(identity: Identity, bob: Principal) -> None:
    issued = identity.service.create_token(bob)
    identity.service.revoke_token(bob, issued.token.id)
    assert refused(identity.service, issued.secret)


def test_nobody_revokes_anothers_token_but_an_administrator(identity: Identity, bob: Principal) -> None:
    eve = identity.user("eve@example.com")
    issued = identity.service.create_token(bob)
    for token_id in (issued.token.id, "nothing", "\0", "' OR 1=1 --"):
        with pytest.raises(NotFound):
            identity.service.revoke_token(eve, token_id)
    assert identity.service.authenticate(issued.secret).name == bob.name
    identity.service.revoke_token(identity.admin, issued.token.id)
    assert refused(identity.service, issued.secret)


def test_every_credential_of_a_deleted_or_inactive_user_stops(identity: Identity) -> None:
    for ending in ("delete", "deactivate"):
        user = identity.user(f"{ending}@example.com", password="a password")
        token = identity.token_of(user.name)
        minted = identity.service.mint(user, 60)
        _, session = identity.service.sign_in(user_name=user.name, password="a password")
        if ending == "delete":
            identity.directory.delete(identity.admin, USER, user.id)
        else:
            deactivate(identity, user)
        assert refused(identity.service, token)
        assert refused(identity.service, minted)
        with pytest.raises(Unauthenticated):
            identity.service.authenticate_session(session)
        with pytest.raises(Unauthenticated):
            identity.service.authenticate_password(user.name, "a password")


def test_a_lifetime_must_make_sense(identity: Identity, bob: Principal) -> None:
    for seconds in (0, -1, 10**10):
        with pytest.raises(InvalidArgument, match="lifetime"):
            identity.service.create_token(bob, lifetime=timedelta(seconds=seconds))


def test_a_comment_is_bounded_text(identity: Identity, bob: Principal) -> None:
    for comment in ("x" * 1001, "a\0b"):
        with pytest.raises(InvalidArgument, match="comment"):
            identity.service.create_token(bob, comment=comment)


def test_tokens_of_one_user_are_bounded(identity: Identity, bob: Principal, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_TOKENS == 600
    monkeypatch.setattr("millpond.identity.service.MAX_TOKENS", 3)
    identity.token_of(bob.name)
    identity.token_of(bob.name)
    with pytest.raises(FailedPrecondition, match="delete some"):
        identity.service.create_token(bob)


def test_a_lent_token_ends_with_what_it_is_for_or_at_the_servers_next_start(identity: Identity, bob: Principal) -> None:
    service = identity.service
    shown = service.list_tokens(bob)
    with service.lent(bob, 60, paths=["/api"], by="here") as token:
        assert service.authenticate(token, path="/api/2.0/mlflow").name == bob.name
        assert service.list_tokens(bob) == shown
        with pytest.raises(PermissionDenied):
            service.authenticate(token, path="/other")
    assert refused(service, token)
    with service.lent(bob, -1, paths=["/api"], by="here") as token:
        assert refused(service, token)
    with (
        service.lent(bob, 60, paths=["/api"], by="here") as mine,
        service.lent(bob, 60, paths=["/api"], by="b") as not_mine,
    ):
        service.end_lent("here")
        assert refused(service, mine)
        assert service.authenticate(not_mine, path="/api") is not None


def test_a_minted_token_is_its_principal_for_a_while(identity: Identity, bob: Principal) -> None:
    assert identity.service.authenticate(identity.service.mint(bob, 60)) == bob
    assert refused(identity.service, identity.service.mint(bob, -1))
    assert identity.service.authenticate(identity.service.mint(SYSTEM, 60)) == SYSTEM


def test_a_token_for_users_code_is_good_for_its_paths_only(identity: Identity, bob: Principal) -> None:
    token = identity.service.mint(bob, 60, paths=["/api/2.0/mlflow"])
    narrowed = replace(bob, paths=("/api/2.0/mlflow",))
    assert identity.service.authenticate(token, path="/api/2.0/mlflow/runs/get") == narrowed
    for path in (None, "/api/2.0/token/create", "/api/2.0/mlflow/../token/create", "/api/2.0/mlflow-artifacts/x"):
        with pytest.raises(PermissionDenied, match="mlflow only"):
            identity.service.authenticate(token, path=path)


def test_nobody_signs_in_as_the_system(identity: Identity) -> None:
    with pytest.raises(Unauthenticated):
        identity.service.authenticate_password("system", "")
    with pytest.raises(InvalidArgument):
        identity.user("system")


# Passwords and sessions


def test_a_password_opens_a_session_and_closing_ends_it(identity: Identity) -> None:
    principal, secret = identity.service.sign_in(user_name="ADA@example.com", password=PASSWORD)
    assert principal.name == ADMIN
    assert identity.service.authenticate_session(secret) == principal
    assert refused(identity.service, secret)  # it is no access token
    identity.service.close_session(secret)
    identity.service.close_session(secret)
    with pytest.raises(Unauthenticated, match="sign in again"):
        identity.service.authenticate_session(secret)


def test_an_access_token_is_no_session(identity: Identity) -> None:
    with pytest.raises(Unauthenticated):
        identity.service.authenticate_session(identity.admin_token)


def test_wrong_names_and_passwords_get_one_answer(identity: Identity) -> None:
    answers = set()
    wrong = [(ADMIN, "wrong"), ("nobody", PASSWORD), ("", ""), ("admins", ""), (ADMIN, "x" * 5000), ("\0", "\0")]
    for name, password in wrong:
        with pytest.raises(Unauthenticated) as caught:
            identity.service.sign_in(user_name=name, password=password)
        answers.add(caught.value.message)
    assert answers == {"User name or password is wrong."}


def test_a_session_opened_with_a_token_ends_with_it(identity: Identity, bob: Principal) -> None:
    issued = identity.service.create_token(bob, lifetime=timedelta(hours=1))
    _, session = identity.service.sign_in(token=f" {issued.secret}\n")
    assert identity.service.authenticate_session(session).name == bob.name
    identity.service.revoke_token(bob, issued.token.id)
    with pytest.raises(Unauthenticated):
        identity.service.authenticate_session(session)


def test_a_session_opened_with_a_token_expires_with_it(identity: Identity, bob: Principal) -> None:
    issued = identity.service.create_token(bob, lifetime=timedelta(hours=1))
    _, session = identity.service.sign_in(token=issued.secret)
    age(identity, bob, timedelta(hours=2))
    with pytest.raises(Unauthenticated):
        identity.service.authenticate_session(session)


def test_a_short_lived_token_opens_no_session(identity: Identity, bob: Principal) -> None:
    with pytest.raises(Unauthenticated):
        identity.service.sign_in(token=identity.service.mint(bob, 60))


def test_a_session_ends_after_a_week(identity: Identity, bob: Principal) -> None:
    _, session = identity.service.sign_in(user_name=bob.name, password="bobs password")
    age(identity, bob, timedelta(days=7, seconds=1))
    with pytest.raises(Unauthenticated):
        identity.service.authenticate_session(session)


def test_guessing_a_password_is_stopped_while_tokens_go_on(identity: Identity, bob: Principal) -> None:
    for _ in range(MAX_FAILURES_OF_PAIR):
        with pytest.raises(Unauthenticated):
            identity.service.authenticate_password(bob.name, "guess", address="10.0.0.1")
    for password in ("guess", "bobs password"):
        with pytest.raises(ResourceExhausted):
            identity.service.authenticate_password(bob.name, password, address="10.0.0.1")
    assert identity.service.authenticate_password(bob.name, "bobs password", address="10.0.0.2").name == bob.name
    assert identity.service.authenticate(identity.token_of(bob.name)).name == bob.name


def test_a_right_password_is_checked_slowly_once(
    identity: Identity, bob: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity.service.authenticate_password(bob.name, "bobs password")

    def too_slow(password: str, stored: str) -> bool:
        raise AssertionError("hashed again")

    monkeypatch.setattr("millpond.identity.service.password_matches", too_slow)
    assert identity.service.authenticate_password(bob.name, "bobs password").name == bob.name
    deactivate(identity, bob)
    with pytest.raises((Unauthenticated, AssertionError)):
        identity.service.authenticate_password(bob.name, "bobs password")


def test_a_changed_password_ends_the_old_one_and_its_sessions(identity: Identity, bob: Principal) -> None:
    _, session = identity.service.sign_in(user_name=bob.name, password="bobs password")
    with pytest.raises(PermissionDenied):
        identity.service.change_password(bob, current="wrong", new="another one")
    with pytest.raises(InvalidArgument):
        identity.service.change_password(bob, current="bobs password", new="short")
    identity.service.change_password(bob, current="bobs password", new="another one")
    with pytest.raises(Unauthenticated):
        identity.service.authenticate_session(session)
    with pytest.raises(Unauthenticated):
        identity.service.authenticate_password(bob.name, "bobs password")
    assert identity.service.authenticate_password(bob.name, "another one").name == bob.name


def test_an_administrator_sets_a_password_and_ends_the_sessions(identity: Identity, bob: Principal) -> None:
    _, session = identity.service.sign_in(user_name=bob.name, password="bobs password")
    draft = Draft(name=bob.name, display_name="Bob", password="set by ada")
    identity.directory.update(identity.admin, USER, bob.id, lambda _entry: draft)
    assert identity.service.authenticate_password(bob.name, "set by ada").name == bob.name
    with pytest.raises(Unauthenticated):
        identity.service.authenticate_session(session)


def test_only_users_have_passwords(identity: Identity) -> None:
    draft = Draft(name="team", display_name="team", password="a password")
    with pytest.raises(InvalidArgument, match="no password"):
        identity.directory.create(identity.admin, PrincipalKind.GROUP, draft)


def test_what_expired_long_ago_is_removed(identity: Identity, bob: Principal) -> None:
    identity.service.create_token(bob, lifetime=timedelta(hours=1))
    age(identity, bob, timedelta(days=40))
    assert identity.service.purge_expired() == 1
    with identity.database.read() as connection:
        assert tokens.count(connection, bob.id, CredentialKind.PERSONAL) == 1


def test_an_authenticated_principal_cannot_be_altered(bob: Principal) -> None:
    with pytest.raises(AttributeError):
        bob.is_admin = True  # type: ignore[misc]
    assert not replace(bob).is_admin
