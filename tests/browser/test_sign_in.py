"""Signing in and out in a browser."""

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import Tab, new_tab, signed_in, watched
from tests.servers import Server

pytestmark = pytest.mark.browser


@pytest.fixture
def stranger(browser: Browser, stocked: Server) -> Iterator[Tab]:
    """A tab of nobody."""
    context = browser.new_context()
    with watched(context, stocked) as tab:
        yield tab
    context.close()


def fill_form(tab: Tab, user: str, password: str, path: str = "/sign-in") -> None:
    """Fill the form of the sign-in page and send it."""
    tab.page.goto(tab.url + path)
    tab.page.get_by_label("User name").fill(user)
    tab.page.get_by_label("Password").fill(password)
    tab.page.get_by_role("button", name="Sign in", exact=True).click()
    tab.page.wait_for_selector("main")


def test_a_stranger_is_led_to_the_sign_in_page_and_then_where_he_wanted_to_go(stranger: Tab, stocked: Server) -> None:
    stranger.page.goto(f"{stocked.url}/catalog/shop/silver?tab=volumes")
    expect(stranger.page).to_have_title("Sign in · Millpond")
    stranger.page.get_by_label("User name").fill(stocked.user)
    stranger.page.get_by_label("Password").fill(stocked.password)
    stranger.page.get_by_role("button", name="Sign in", exact=True).click()
    expect(stranger.page).to_have_url(f"{stocked.url}/catalog/shop/silver?tab=volumes")


def test_a_wrong_password_says_so_and_keeps_the_name(stranger: Tab, stocked: Server) -> None:
    stranger.expected.append("401")
    fill_form(stranger, stocked.user, "not-the-password")
    expect(stranger.page.get_by_role("alert")).to_have_text("User name or password is wrong.")
    expect(stranger.page.get_by_label("User name")).to_have_value(stocked.user)
    assert not stranger.page.context.cookies()


def test_an_access_token_signs_in_and_its_session_is_out_of_reach_of_scripts(stranger: Tab, stocked: Server) -> None:
    stranger.page.goto(f"{stocked.url}/sign-in")
    stranger.page.get_by_text("Use an access token").click()
    stranger.page.get_by_label("Access token").fill(stocked.token)
    stranger.page.get_by_role("button", name="Sign in with token").click()
    expect(stranger.page.get_by_role("heading", level=1)).to_contain_text("Welcome")
    cookie = stranger.page.context.cookies()[0]
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Lax"
    assert stranger.page.evaluate("document.cookie") == ""


@pytest.mark.parametrize("target", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_signing_in_leads_to_no_other_site(stranger: Tab, stocked: Server, target: str) -> None:
    fill_form(stranger, stocked.user, stocked.password, f"/sign-in?next={quote(target, safe='')}")
    expect(stranger.page).to_have_url(f"{stocked.url}/")


def test_the_sign_in_page_does_not_reflect_markup(stranger: Tab, stocked: Server) -> None:
    stranger.expected.append("401")
    fill_form(
        stranger,
        '"><script>window.hurt=1</script>',
        "x" * 8,
        "/sign-in?next=/%22%3E%3Cscript%3Ewindow.hurt=1%3C/script%3E",
    )
    expect(stranger.page.get_by_role("alert")).to_be_visible()
    assert not stranger.is_hurt()


def test_signing_out_ends_the_session_and_other_tabs_leave(browser: Browser, stocked: Server) -> None:
    with signed_in(browser, stocked, stocked.token) as context, watched(context, stocked) as first:
        second = new_tab(context, stocked)
        second.open("/connect")
        second.page.wait_for_function("window.did_handshake")
        first.open("/")
        first.page.get_by_label("Signed in as").click()
        first.page.get_by_role("button", name="Sign out").click()
        expect(first.page).to_have_title("Sign in · Millpond")
        expect(second.page).to_have_title("Sign in · Millpond")  # told by the server
        first.page.goto(f"{stocked.url}/catalog")
        expect(first.page).to_have_title("Sign in · Millpond")


def test_an_open_page_does_nothing_once_its_owner_is_inactive(browser: Browser, stocked: Server) -> None:
    token = stocked.new_user("carol@example.com")
    with signed_in(browser, stocked, token) as context:
        tab = new_tab(context, stocked)
        tab.open("/connect")
        found = stocked.call("GET", "/api/2.0/preview/scim/v2/Users?filter=userName+eq+%22carol%40example.com%22")[1]
        path = f"/api/2.0/preview/scim/v2/Users/{found['Resources'][0]['id']}"
        deactivate = {
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
            "Operations": [{"op": "replace", "path": "active", "value": False}],
        }
        assert stocked.call("PATCH", path, deactivate)[0] < 300
        tab.page.get_by_label("What the token is for").fill("too late")
        tab.page.get_by_role("button", name="Create token").click()
        expect(tab.page).to_have_title("Sign in · Millpond")


def test_the_pages_socket_needs_a_session(browser: Browser, stocked: Server) -> None:
    context = browser.new_context()
    address = stocked.url.replace("http", "ws") + "/_nicegui_ws/socket.io/?client_id=x&EIO=4&transport=websocket"
    page = context.new_page()
    page.goto(f"{stocked.url}/sign-in")
    opened = page.evaluate(
        """(address) => new Promise((done) => {
            const socket = new WebSocket(address);
            socket.onopen = () => done(true);
            socket.onerror = () => done(false);
        })""",
        address,
    )
    context.close()
    assert not opened
    assert stocked.call("GET", "/_nicegui_ws/socket.io/?EIO=4&transport=polling", token="")[0] == 401
