"""The token endpoint in OAuth's own words, and the end of what it issued."""

import json
from typing import Any

import pytest
from fastapi import Response
from starlette.requests import Request

from millpond.identity.custody import MAX_CLIENT_SECRETS, lifetime_of
from millpond.identity.domain import Draft, PrincipalKind
from millpond.identity.oauth import OAuthError
from millpond.identity.sessions import clear_session_cookie, local_path, set_session_cookie
from millpond.kernel.errors import FailedPrecondition, InvalidArgument, PermissionDenied, Unauthenticated
from tests.identity.conftest import Identity, Site

ROBOT = PrincipalKind.SERVICE_PRINCIPAL
ENDPOINT = "/serving-endpoints/churn"
DETAILS = json.dumps([{"type": "workspace_permission", "object_type": "serving-endpoints", "object_path": ENDPOINT}])


def robot(identity: Identity) -> tuple[str, str, str]:
    """Id, application id and secret of a new service principal."""
    name = "8f14e45f-ceea-467f-9575-6d9a3d5e9d1b"
    entry = identity.directory.create(identity.admin, ROBOT, Draft(name=name, display_name="robot"))
    secret = identity.custody.create_client_secret(identity.admin, entry.account.id)
    assert secret.value is not None
    return entry.account.id, name, secret.value


def access_token(identity: Identity, client: tuple[str, str], **form: str) -> str:
    return identity.oauth.exchange({"grant_type": "client_credentials", **form}, client).value


def test_a_secret_gets_a_token_that_acts_as_its_service_principal(identity: Identity) -> None:
    account_id, name, secret = robot(identity)
    issued = identity.oauth.exchange({"grant_type": "client_credentials", "scope": "all-apis"}, (name, secret))
    assert 3590 < issued.lifetime_s <= 3600
    principal = identity.service.authenticate(issued.value)
    assert (principal.id, principal.kind, principal.is_admin) == (account_id, ROBOT, False)
    by_form = {"grant_type": "client_credentials", "client_id": name.upper(), "client_secret": secret}
    assert identity.service.authenticate(identity.oauth.exchange(by_form, None).value) == principal


def delete_secret(identity: Identity, account_id: str) -> None:
    (secret,) = identity.custody.list_client_secrets(identity.admin, account_id)
    identity.custody.delete_client_secret(identity.admin, account_id, secret.token.id)


def delete_robot(identity: Identity, account_id: str) -> None:
    identity.directory.delete(identity.admin, ROBOT, account_id)


def deactivate_robot(identity: Identity, account_id: str) -> None:
    draft = Draft(name="x", display_name="x", active=False)
    identity.directory.update(
        identity.admin, ROBOT, account_id, lambda entry: Draft(**(vars(draft) | {"name": entry.account.name}))
    )


@pytest.mark.parametrize("end", [delete_secret, delete_robot, deactivate_robot])
def test_a_token_ends_with_its_secret_and_its_service_principal(identity: Identity, end: Any) -> None:
    account_id, name, secret = robot(identity)
    token = access_token(identity, (name, secret))
    narrowed = access_token(identity, (name, secret), authorization_details=DETAILS)
    end(identity, account_id)
    for value in (token, narrowed):
        with pytest.raises(Unauthenticated):
            identity.service.authenticate(value, path=ENDPOINT)
    with pytest.raises(OAuthError) as caught:
        access_token(identity, (name, secret))
    assert caught.value.code == "invalid_client"


def test_a_wrong_client_is_refused(identity: Identity) -> None:
    _, name, secret = robot(identity)
    other = identity.directory.create(identity.admin, ROBOT, Draft(name=name.replace("8", "9"), display_name="o"))
    wrong = [
        (name, "x"),
        ("x", secret),
        (name, ""),
        ("", ""),
        (other.account.name, secret),
        (name, secret + " "),
        ("\0", "\0"),
    ]
    wrong.append((identity.admin.name, identity.admin_token))  # an access token is no client secret
    for client in wrong:
        with pytest.raises(OAuthError) as caught:
            access_token(identity, client)
        assert caught.value.code == "invalid_client"
    with pytest.raises(Unauthenticated):  # and a client secret no access token
        identity.service.authenticate(secret)


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({}, "invalid_request"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": "authorization_code"}, "unsupported_grant_type"),
        ({"grant_type": "client_credentials", "scope": "sql"}, "invalid_scope"),
        ({"grant_type": "client_credentials", "assume_group": "admins"}, "invalid_request"),
        ({"grant_type": "client_credentials", "client_secret": "x"}, "invalid_request"),
        ({"grant_type": "client_credentials", "authorization_details": "{"}, "invalid_authorization_details"),
        ({"grant_type": "client_credentials", "authorization_details": "[]"}, "invalid_authorization_details"),
        ({"grant_type": "client_credentials", "authorization_details": "[1]"}, "invalid_authorization_details"),
        (
            {
                "grant_type": "client_credentials",
                "authorization_details": '[{"object_path": "/serving-endpoints/../api"}]',
            },
            "invalid_authorization_details",
        ),
        (
            {"grant_type": "client_credentials", "authorization_details": '[{"object_path": "/api"}]'},
            "invalid_authorization_details",
        ),
        ({"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer"}, "invalid_grant"),
        ({"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": "a.b.c"}, "invalid_grant"),
    ],
)
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_wrong_request_is_refused_by_its_oauth_name(identity: Identity, form: dict[str, str], code: str) -> None:
    _, name, secret = robot(identity)
    with pytest.raises(OAuthError) as caught:
        identity.oauth.exchange(form, (name, secret))
    assert caught.value.code == code


def test_a_narrowed_token_is_good_for_its_endpoint_only(identity: Identity) -> None:
    _, name, secret = robot(identity)
    whole = access_token(identity, (name, secret))
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": whole}
    issued = identity.oauth.exchange(form | {"authorization_details": DETAILS}, None)
    assert issued.lifetime_s <= 900 < identity.oauth.exchange(form, None).lifetime_s
    narrowed = issued.value
    for path in (ENDPOINT, f"{ENDPOINT}/invocations"):
        assert identity.service.authenticate(narrowed, path=path).name == name
    for path in (
        None,
        "/",
        "/api/2.0/token/create",
        "/serving-endpoints/churner",
        "/serving-endpoints",
        f"/x{ENDPOINT}",
        f"{ENDPOINT}/../../act",
    ):
        with pytest.raises(PermissionDenied):
            identity.service.authenticate(narrowed, path=path)
    with pytest.raises(OAuthError):  # nor does it get a wider one
        identity.oauth.exchange({**form, "assertion": narrowed}, None)


def test_secrets_of_one_service_principal_are_bounded(identity: Identity) -> None:
    account_id, _, _ = robot(identity)
    for _ in range(MAX_CLIENT_SECRETS - 1):
        identity.custody.create_client_secret(identity.admin, account_id)
    with pytest.raises(FailedPrecondition, match="delete one"):
        identity.custody.create_client_secret(identity.admin, account_id)


@pytest.mark.parametrize("text", ["", "s", "-5s", "1.5s", "x", "9" * 20 + "s"])
def test_a_lifetime_that_is_no_number_of_seconds_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        lifetime_of(text)
    assert lifetime_of(None) is None


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_endpoint_answers_as_rfc_6749_says(site: Site) -> None:
    _, name, secret = robot(site.identity)
    with site.http("") as client:
        good = client.post("/oidc/v1/token", data={"grant_type": "client_credentials"}, auth=(name, secret))
        assert good.status_code == 200
        assert good.headers["cache-control"] == "no-store"
        assert good.json()["token_type"] == "Bearer"
        bad = client.post("/oidc/v1/token", data={"grant_type": "client_credentials"}, auth=(name, "x"))
        assert (bad.status_code, bad.json()["error"]) == (401, "invalid_client")
        assert bad.headers["www-authenticate"].startswith("Basic")
        twice = client.post("/oidc/v1/token", content="grant_type=client_credentials&grant_type=x", auth=(name, secret))
        assert (twice.status_code, twice.json()["error"]) == (400, "invalid_request")
        for header in ("Basic !", "Bearer x", "Basic"):
            odd = client.post(
                "/oidc/v1/token", data={"grant_type": "client_credentials"}, headers={"Authorization": header}
            )
            assert (odd.status_code, odd.json()["error"]) == (401, "invalid_client")
        metadata = client.get("/oidc/.well-known/openid-configuration").json()
        assert metadata["token_endpoint"] == f"{site.url}/oidc/v1/token"
        narrowed = client.post(
            "/oidc/v1/token",
            data={"grant_type": "client_credentials", "authorization_details": DETAILS},
            auth=(name, secret),
        ).json()["access_token"]
    with site.http(narrowed) as client:
        assert client.post("/serving-endpoints/churn/invocations").json() == {"endpoint": "churn", "name": name}
        assert client.post("/serving-endpoints/other/invocations").status_code == 403
        assert client.get("/act").status_code == 403
        assert client.get("/serving-endpoints/churn/../../act").status_code == 403


# The browser's cookie


def request(scheme: str) -> Request:
    return Request({"type": "http", "scheme": scheme, "headers": [], "method": "GET", "path": "/"})


def test_the_session_cookie_is_out_of_reach_of_scripts_and_of_other_sites() -> None:
    for scheme, public_url, secure in [
        ("http", None, False),
        ("https", None, True),
        ("http", "https://x.example", True),
    ]:
        response = Response()
        set_session_cookie(response, "mps-1", request(scheme), public_url=public_url)
        cookie = response.headers["set-cookie"]
        assert cookie.startswith("millpond_session=mps-1; HttpOnly; Max-Age=604800; Path=/; SameSite=lax")
        assert ("; Secure" in cookie) is secure
        clear_session_cookie(response, request(scheme), public_url=public_url)
        assert 'millpond_session=""' in response.headers.getlist("set-cookie")[1]


@pytest.mark.parametrize(
    "text",
    [
        "//evil",
        "/\\evil",
        "https://evil",
        "javascript:x",
        "",
        None,
        "evil",
        "/\tx",
        "/a\nb",
        "/" + "x" * 3000,
        "/sign-in?next=/",
    ],
)
def test_signing_in_leads_nowhere_else(text: str | None) -> None:
    assert local_path(text) == "/"


def test_signing_in_leads_on() -> None:
    assert local_path("/catalog/a?tab=b#c") == "/catalog/a?tab=b#c"
