"""Signing in at an identity provider: who comes in, who does not, and what a dishonest answer achieves."""

import base64
import json
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import httpx
import jwt
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.core import Config
from fastapi import FastAPI
from fastapi.responses import JSONResponse, RedirectResponse, Response

from millpond.identity import routes
from millpond.identity.domain import Draft, Principal, PrincipalKind
from millpond.identity.federation import Federation
from millpond.identity.middleware import current_principal, guarded
from millpond.identity.oauth import OAuthService
from millpond.identity.provider import IdentityProvider
from millpond.kernel.database import Database
from millpond.kernel.errors import MillpondError
from millpond.kernel.http import install_error_handlers
from millpond.kernel.settings import OidcSettings
from millpond.ui import sign_in, single_sign_on
from millpond.ui.assets import Assets
from tests.applications import served
from tests.databases import BACKENDS, Databases
from tests.identity.conftest import Identity, build_identity, build_site_app
from tests.identity.provider import CLIENT, SECRET, Provider, running_provider

TLS = ssl.create_default_context()  # made once: each client would load the certificates anew
ONE_DATABASE = pytest.mark.parametrize("running", ["sqlite"], indirect=True)
START, CALLBACK = "/sign-in/sso", "/sign-in/sso/callback"


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@dataclass(frozen=True, kw_only=True)
class SsoSite:
    """A running server whose people sign in at a provider."""

    url: str
    identity: Identity
    provider: Provider
    client: IdentityProvider
    federation: Federation
    clock: Clock

    def browser(self) -> httpx.Client:
        """A browser of somebody's own, which follows no redirect by itself."""
        return httpx.Client(base_url=self.url, timeout=30, verify=TLS)

    def sign_in(self, browser: httpx.Client, target: str = "/act") -> httpx.Response:
        """Go to the provider and back; the answer of the callback."""
        begun = browser.get(START, params={"next": target})
        assert begun.status_code == 303, begun.text
        sent_back = httpx.get(begun.headers["location"], verify=TLS)
        return browser.get(sent_back.headers["location"])

    def set(self, **settings: Any) -> None:
        """Change the settings under the running server."""
        changed = self.client.settings.model_copy(update=settings)
        self.client.settings = self.federation._settings = changed

    def user(self, name: str) -> Principal:
        """Somebody as the directory has them."""
        return self.identity.service.active_principal(name)


@pytest.fixture(scope="module")
def honest() -> Iterator[Provider]:
    with running_provider() as provider:
        yield provider


@pytest.fixture(scope="module", params=BACKENDS)
def running(
    request: pytest.FixtureRequest,
    databases: Databases,
    tmp_path_factory: pytest.TempPathFactory,
    honest: Provider,
) -> Iterator[SsoSite]:
    """One server for the tests of this module, on each kind of database."""
    with databases.new(request.param, tmp_path_factory.mktemp("sso")) as database:
        identity, clock = build_identity(database), Clock()
        settings = OidcSettings(issuer=honest.url, client_id=CLIENT, client_secret=SECRET)
        client = IdentityProvider(settings, clock=clock)
        federation = Federation(database, identity.service, identity.directory, client, key=b"k" * 32)
        with served(site_app(identity, federation)) as url:
            yield SsoSite(
                url=url, identity=identity, provider=honest, client=client, federation=federation, clock=clock
            )


@pytest.fixture
def site(running: SsoSite) -> SsoSite:
    """The server with an honest provider, Ann unknown to both, and default settings."""
    running.provider.reset()
    running.set(
        create_users=False, groups_claim=None, group_mapping={}, exchange_audiences=(), user_claim="email",
        client_secret=SECRET, client_secret_file=None,
    )  # fmt: skip
    running.client._metadata = running.client._keys = None
    for name in ("ann@example.com", "bob@example.com"):
        found = running.identity.directory.find_principal(name)
        if found is not None:
            running.identity.directory.delete(running.identity.admin, PrincipalKind.USER, found.id)
    return running


def site_app(identity: Identity, federation: Federation) -> Any:
    app = FastAPI()
    install_error_handlers(app)
    oauth = OAuthService(identity.database, identity.signer, identity.service, federation)
    app.include_router(routes.router(identity.service, identity.directory, identity.custody, oauth))
    assets = Assets(style="", script="")
    app.include_router(sign_in.router(identity.service, assets, public_url=None, federation=federation))
    app.include_router(single_sign_on.router(federation, assets, public_url=None))

    @app.get("/act")
    def act() -> dict[str, str]:
        return {"name": current_principal().name}

    return guarded(app, identity=identity.service)


# Coming in


def test_a_new_user_comes_in_where_that_is_allowed(site: SsoSite) -> None:
    """With a session that scripts and other sites cannot reach, on the page that was wanted."""
    site.set(create_users=True)
    with site.browser() as browser:
        done = site.sign_in(browser, "/act?x=1")
        assert (done.status_code, done.headers["location"]) == (303, "/act?x=1")
        cookies = done.headers.get_list("set-cookie")
        session = next(text for text in cookies if text.startswith("millpond_session="))
        assert "HttpOnly" in session
        assert "SameSite=lax" in session
        assert any('millpond_sign_in=""' in text for text in cookies)
        assert browser.get("/act").json() == {"name": "ann@example.com"}
    assert site.identity.directory.find_principal("ann@example.com").display_name == "Ann"  # type: ignore[union-attr]


def test_who_is_not_known_stays_out(site: SsoSite) -> None:
    """And one who is a program or a group, or not active, hears the same."""
    identity = site.identity
    identity.user("bob@example.com")
    bob = identity.directory.find_principal("bob@example.com")
    robot = identity.directory.create(
        identity.admin, PrincipalKind.SERVICE_PRINCIPAL, Draft(name=str(uuid4()), display_name="robot")
    ).account
    off = Draft(name="bob@example.com", display_name="Bob", active=False)
    identity.directory.update(identity.admin, PrincipalKind.USER, bob.id, lambda _entry: off)  # type: ignore[union-attr]
    wide_ada = "ａda@example.com"  # which the directory takes for the administrator's name, and is not it
    for number, name in enumerate(("ann@example.com", "bob@example.com", robot.name, "admins", wide_ada)):
        site.provider.claims |= {"email": name, "sub": f"new-{number}"}
        with site.browser() as browser:
            done = site.sign_in(browser)
            assert done.status_code == 401
            assert f"Nobody may sign in here as &#x27;{name}&#x27;" in done.text
            assert "millpond_session" not in browser.cookies
    identity.directory.delete(identity.admin, PrincipalKind.SERVICE_PRINCIPAL, robot.id)


def test_the_tie_counts_and_not_the_address(site: SsoSite) -> None:
    """A new address is the same user; who gets the old address is not."""
    site.identity.user("ann@example.com")
    with site.browser() as browser:
        assert site.sign_in(browser).status_code == 303
    site.provider.claims |= {"email": "ann.new@example.com"}
    with site.browser() as browser:
        site.sign_in(browser)
        assert browser.get("/act").json() == {"name": "ann@example.com"}
    site.provider.claims |= {"email": "ann@example.com", "sub": "somebody-else"}
    with site.browser() as browser:
        assert site.sign_in(browser).status_code == 401


def test_groups_follow_the_provider(site: SsoSite) -> None:
    """Those of the mapping, in and out; all others stay as they are."""
    ann = site.identity.user("ann@example.com")
    own = site.identity.directory.create(
        site.identity.admin, PrincipalKind.GROUP, Draft(name="own", display_name="own", member_ids=frozenset({ann.id}))
    )
    site.set(groups_claim="groups", group_mapping={"it": "operators", "ds": "science"})
    site.provider.claims |= {"groups": ["it", "others", "admins"]}
    with site.browser() as browser:
        assert site.sign_in(browser).status_code == 303
    assert site.user("ann@example.com").groups == {"users", "own", "operators"}
    site.provider.claims |= {"groups": ["ds"]}
    with site.browser() as browser:
        site.sign_in(browser)
    assert site.user("ann@example.com").groups == {"users", "own", "science"}
    del site.provider.claims["groups"]
    with site.browser() as browser:
        site.sign_in(browser)
    assert site.user("ann@example.com").groups == {"users", "own"}
    site.identity.directory.delete(site.identity.admin, PrincipalKind.GROUP, own.account.id)


def test_a_client_without_a_header_sends_its_secret_in_the_form(site: SsoSite, tmp_path: Path) -> None:
    """Where the provider wants it so; the honest one here wants a header, and refuses."""
    site.identity.user("ann@example.com")
    (tmp_path / "secret").write_text(SECRET + "\n")
    site.set(client_secret=None, client_secret_file=tmp_path / "secret")
    with site.browser() as browser:
        assert site.sign_in(browser).status_code == 303
    site.provider.discovery = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    site.client._metadata = None
    with site.browser() as browser:
        assert "did not confirm the sign-in" in site.sign_in(browser).text


# Dishonest tokens

NOW = int(time.time())


def unsigned(provider: Provider, claims: dict[str, Any]) -> str:
    return jwt.encode(claims, "", algorithm="none", headers={"kid": "one"})


def signed_with_the_public_key(provider: Provider, claims: dict[str, Any]) -> str:
    """The oldest trick: the published key as a shared secret."""
    public = json.dumps(provider.public_key("one")).encode()
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"one","typ":"JWT"}').rstrip(b"=")
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=")
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(head + b"." + body, public)
    return b".".join([head, body, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


def altered(provider: Provider, claims: dict[str, Any]) -> str:
    head, body, signature = provider.signed(claims).split(".")
    changed = json.loads(base64.urlsafe_b64decode(body + "==")) | {"email": "ada@example.com"}
    return ".".join([head, base64.urlsafe_b64encode(json.dumps(changed).encode()).rstrip(b"=").decode(), signature])


def by_another_key(provider: Provider, claims: dict[str, Any]) -> str:
    provider.keys["other"] = jwt.algorithms.RSAAlgorithm.from_jwk(json.dumps(PRIVATE))  # type: ignore[assignment]
    token = provider.signed(claims, key_id="other")
    del provider.keys["other"]
    return token


def said(**changes: Any) -> Callable[[Provider, dict[str, Any]], str]:
    return lambda provider, claims: provider.signed(
        {name: value for name, value in (claims | changes).items() if value is not None}
    )


DISHONEST: dict[str, tuple[Callable[[Provider, dict[str, Any]], str], str]] = {
    "unsigned": (unsigned, "algorithm"),
    "signed with the public key": (signed_with_the_public_key, "algorithm"),
    "altered": (altered, "signature"),
    "by another key": (by_another_key, "does not have"),
    "of another key's name": (lambda provider, claims: by_another_key(provider, claims), "does not have"),
    "for another client": (said(aud="another"), "audience"),
    "for nobody": (said(aud=None), "aud"),
    "for several, to another": (said(aud=[CLIENT, "another"], azp="another"), "another client"),
    "for several, to nobody": (said(aud=[CLIENT, "another"]), "another client"),
    "of another issuer": (said(iss="https://evil.example"), "issuer"),
    "expired": (said(exp=NOW - 3600), "expired"),
    "without end": (said(exp=None), "exp"),
    "from the future": (said(iat=NOW + 7200), "not yet valid"),
    "of another sign-in": (said(nonce="another"), "another sign-in"),
    "without a nonce": (said(nonce=None), "another sign-in"),
    "without a subject": (said(sub=None), "sub"),
    "of an empty subject": (said(sub=""), "subject"),
    "of a number": (said(sub=7), "subject"),
    "of a subject with a NUL": (said(sub="a\0"), "subject"),
    "without a name": (said(email=None), "no claim"),
    "of a list of names": (said(email=["ada@example.com"]), "no claim"),
    "of an address not verified": (said(email="ada@example.com", email_verified=False), "not verified"),
    "no token": (lambda _provider, _claims: "nonsense", "not valid"),
    "three dots": (lambda _provider, _claims: "a.b.c", "not valid"),
}
PRIVATE: dict[str, Any] = {}


@pytest.fixture(scope="module", autouse=True)
def another_key() -> None:
    """A key that no provider here publishes."""
    from cryptography.hazmat.primitives.asymmetric import rsa

    PRIVATE.update(json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 2048))))


@ONE_DATABASE
@pytest.mark.parametrize("kind", DISHONEST)
def test_a_dishonest_token_opens_nothing(site: SsoSite, kind: str) -> None:
    """The page says why, and there is no session."""
    make, said_why = DISHONEST[kind]
    site.identity.user("ann@example.com")
    site.provider.sign = lambda claims: make(site.provider, claims)
    with site.browser() as browser:
        done = site.sign_in(browser)
        assert done.status_code == 401, done.text
        assert said_why in done.text
        assert "millpond_session" not in browser.cookies


# Dishonest answers


def test_an_answer_counts_in_the_browser_that_asked(site: SsoSite) -> None:
    """Not in another's, not without a start, not twice, not with another state."""
    site.identity.user("ann@example.com")
    with site.browser() as evil, site.browser() as victim:
        begun = evil.get(START)
        answer = httpx.get(begun.headers["location"], verify=TLS).headers["location"]
        assert victim.get(answer).status_code == 401  # a sign-in that somebody else began, never: login CSRF
        victim.get(START)
        assert "belongs to another sign-in" in victim.get(answer).text
        assert evil.get(answer).status_code == 303
        assert evil.get(answer).status_code == 401


@ONE_DATABASE
@pytest.mark.parametrize(
    ("change", "said_why"),
    [
        ({"state": ""}, "belongs to another sign-in"),
        ({"iss": "https://evil.example"}, "another identity provider"),
        ({"code": "", "error": "access_denied"}, "(access_denied)"),
        ({"code": "", "error": "<script>hurt()</script>"}, "(scripthurtscript)"),
        ({"code": "guessed"}, "did not confirm"),
        ({"code": ["a", "b"]}, "parameter twice"),
    ],
)
def test_a_changed_answer_is_refused(site: SsoSite, change: dict[str, Any], said_why: str) -> None:
    with site.browser() as browser:
        begun = browser.get(START)
        answer = urlsplit(httpx.get(begun.headers["location"], verify=TLS).headers["location"])
        query = parse_qs(answer.query) | change
        done = browser.get(CALLBACK, params=query)
        assert done.status_code == 401
        assert said_why in done.text
        assert "<script>hurt" not in done.text


@ONE_DATABASE
@pytest.mark.parametrize(
    "target", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:x", "/sign-in/sso", "/a\tb"]
)
def test_signing_in_leads_to_no_other_site(site: SsoSite, target: str) -> None:
    site.identity.user("ann@example.com")
    with site.browser() as browser:
        assert site.sign_in(browser, target).headers["location"] == "/"


def test_what_the_browser_carries_tells_and_allows_nothing(site: SsoSite) -> None:
    """The cookie of a start is no credential, and is sent to its two addresses only."""
    with site.browser() as browser:
        cookie = browser.get(START).headers["set-cookie"]
        assert "Path=/sign-in/sso" in cookie
        assert "HttpOnly" in cookie
        value = cookie.partition("=")[2].partition(";")[0]
        assert httpx.get(f"{site.url}/act", headers={"Authorization": f"Bearer {value}"}).status_code == 401
        assert httpx.get(f"{site.url}/act", cookies={"millpond_session": value}).status_code == 401


# Keys and addresses of the provider


def test_keys_are_asked_for_again_when_they_change(site: SsoSite) -> None:
    """But not for each token with a key that nobody has."""
    site.identity.user("ann@example.com")
    with site.browser() as browser:
        assert site.sign_in(browser).status_code == 303
        site.provider.keys["two"] = site.provider.keys.pop("one")
        site.provider.sign = lambda claims: site.provider.signed(claims, key_id="two")
        site.provider.asked.clear()
        for _ in range(3):
            assert site.sign_in(browser).status_code == 401
        assert site.provider.asked.count("/keys") == 0
        site.clock.now_s += 31
        assert site.sign_in(browser).status_code == 303
        assert site.provider.asked.count("/keys") == 1
    site.provider.keys["one"] = site.provider.keys.pop("two")


@ONE_DATABASE
@pytest.mark.parametrize(
    ("discovery", "keys_answer"),
    [
        ({"issuer": "https://evil.example"}, None),
        ({"jwks_uri": "http://169.254.169.254/latest/meta-data"}, None),
        ({"jwks_uri": "file:///etc/passwd"}, None),
        ({"jwks_uri": "https://user:pw@evil.example/keys"}, None),
        ({"jwks_uri": 7}, None),
        ({}, RedirectResponse("/.well-known/openid-configuration")),
        ({}, Response(b"x" * (2 << 20))),
        ({}, Response(b"not json")),
        ({}, JSONResponse({"keys": [{"kty": "oct", "kid": "one", "k": "c2VjcmV0", "alg": "HS256"}]})),
        ({}, JSONResponse({"keys": "none"})),
    ],
)
def test_an_odd_provider_is_not_followed(
    site: SsoSite, discovery: dict[str, Any], keys_answer: Response | None
) -> None:
    """Neither to other addresses nor into memory; nobody comes in, and nothing breaks."""
    site.identity.user("ann@example.com")
    site.provider.discovery, site.provider.keys_answer = discovery, keys_answer
    with site.browser() as browser:
        begun = browser.get(START)
        done = begun
        if begun.status_code == 303:
            done = browser.get(httpx.get(begun.headers["location"], verify=TLS).headers["location"])
        assert done.status_code in {401, 500, 503}
        assert 'role="alert"' in done.text
        assert "millpond_session" not in browser.cookies


@pytest.mark.parametrize("issuer", ["http://idp.example.com", "ftp://x", "idp.example.com", "https://u:p@idp.example"])
def test_an_issuer_must_be_reached_by_https(issuer: str) -> None:
    with pytest.raises(MillpondError, match="is not https"):
        IdentityProvider(OidcSettings(issuer=issuer, client_id="x"))


# Programs


def exchange(site: SsoSite, token: str, **form: str) -> httpx.Response:
    body = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "subject_token": token,
        **form,
    }
    return httpx.post(f"{site.url}/oidc/v1/token", data=body, verify=TLS)


def sdk(site: SsoSite, **options: Any) -> WorkspaceClient:
    """The unmodified SDK, which finds the provider's token in a variable."""
    return WorkspaceClient(
        config=Config(
            host=site.url, auth_type="env-oidc", oidc_token_env="IDP_TOKEN", config_file="/nowhere", **options
        )
    )


def test_the_sdk_exchanges_a_token_for_its_user(site: SsoSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Databricks' federation does, with a token for an audience of the settings."""
    site.identity.user("ann@example.com")
    site.set(exchange_audiences=("millpond-api",))
    monkeypatch.setenv("IDP_TOKEN", site.provider.signed(site.provider.said(aud="millpond-api")))
    client = sdk(site)
    assert client.current_user.me().user_name == "ann@example.com"


def test_the_sdk_exchanges_a_token_for_its_service_principal(site: SsoSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one whose external id is the token's subject, and no other."""
    directory, admin = site.identity.directory, site.identity.admin
    draft = Draft(name=str(uuid4()), display_name="ci", external_id="repo:acme/churn")
    robots = [
        directory.create(admin, PrincipalKind.SERVICE_PRINCIPAL, each).account
        for each in (
            draft,
            replace(draft, name=str(uuid4()), external_id="repo:acme/other"),
            replace(draft, name=str(uuid4()), external_id=None),
        )
    ]
    site.set(exchange_audiences=("millpond-api",))
    token = site.provider.signed(site.provider.said(aud="millpond-api", sub="repo:acme/churn"))
    monkeypatch.setenv("IDP_TOKEN", token)
    client = sdk(site, client_id=robots[0].name)
    assert client.current_user.me().user_name == robots[0].name
    for robot in (*robots[1:], "ada@example.com", "admins", "nobody"):
        name = robot if isinstance(robot, str) else robot.name
        refused = exchange(site, token, client_id=name)
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")


def test_an_exchanged_token_lives_no_longer_than_its_origin(site: SsoSite) -> None:
    ann = site.identity.user("ann@example.com")
    site.set(exchange_audiences=("millpond-api",))
    issued = exchange(site, site.provider.signed(site.provider.said(aud="millpond-api", exp=int(time.time()) + 90)))
    assert issued.json()["expires_in"] <= 90
    assert issued.json()["issued_token_type"] == "urn:ietf:params:oauth:token-type:access_token"
    headers = {"Authorization": f"Bearer {issued.json()['access_token']}"}
    assert httpx.get(f"{site.url}/act", headers=headers, verify=TLS).json() == {"name": ann.name}
    site.identity.directory.delete(site.identity.admin, PrincipalKind.USER, ann.id)
    assert httpx.get(f"{site.url}/act", headers=headers, verify=TLS).status_code == 401


def test_what_is_for_the_pages_is_not_exchanged(site: SsoSite) -> None:
    """Nor anything before audiences are set, nor for whom nobody made a user."""
    site.set(create_users=True)
    of_pages = site.provider.signed(site.provider.said())
    assert "are not exchanged here" in exchange(site, of_pages).json()["error_description"]
    site.set(exchange_audiences=("millpond-api",))
    for token in (
        of_pages,
        site.provider.signed(site.provider.said(aud="millpond-api")),
        "x",
        unsigned(site.provider, {}),
    ):
        refused = exchange(site, token)
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    assert site.identity.directory.find_principal("ann@example.com") is None
    for form in (
        {"subject_token_type": "x"},
        {"subject_token": ""},
        {"requested_token_type": "x"},
        {"assume_group": "a"},
    ):
        assert exchange(site, of_pages, **form).json()["error"] == "invalid_request"


@pytest.mark.parametrize(("public_url", "told"), [("https://m.example.com", True), ("http://m.example.com", False)])
def test_browsers_are_told_to_stay_with_https(public_url: str, told: bool, database: Database) -> None:
    """Where the address that is public says so, and nowhere else: other servers may share a plain host name."""
    with served(build_site_app(build_identity(database), public_url=public_url)) as url:
        headers = httpx.get(f"{url}/health", verify=TLS).headers
    assert ("strict-transport-security" in headers) is told
