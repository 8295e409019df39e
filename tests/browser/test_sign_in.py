"""Signing in and out in a browser."""

from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.conftest import Tab, new_tab, opened, sign_in
from tests.servers import Server

pytestmark = pytest.mark.browser


@pytest.fixture
def stranger(browser: Browser, stocked: Server):
    """A tab of nobody."""
    context = browser.new_context()
    tab = new_tab(context, stocked)
    yield tab
    context.close()
    tab.check()


def test_a_stranger_is_led_to_the_sign_in_page_and_then_where_he_wanted_to_go(stranger: Tab, stocked: Server) -> None:
    stranger.page.goto(f"{stocked.url}/catalog/shop/silver?tab=volumes")
    expect(stranger.page).to_have_title("Sign in · Millpond")
    stranger.page.get_by_label("User name").fill(stocked.user)
    stranger.page.get_by_label("Password").fill(stocked.password)
    stranger.page.get_by_role("button", name="Sign in", exact=True).click()
    expect(stranger.page).to_have_url(f"{stocked.url}/catalog/shop/silver?tab=volumes")


def test_a_wrong_password_says_so_and_keeps_the_name(stranger: Tab, stocked: Server) -> None:
    stranger.expected.append("401")
    sign_in(stranger, stocked.user, "not-the-password")
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
    sign_in(stranger, stocked.user, stocked.password, f"/sign-in?next={quote(target, safe='')}")
    expect(stranger.page).to_have_url(f"{stocked.url}/")


def test_the_sign_in_page_does_not_reflect_markup(stranger: Tab, stocked: Server) -> None:
    stranger.expected.append("401")
    sign_in(
        stranger,
        '"><script>window.hurt=1</script>',
        "x" * 8,
        "/sign-in?next=/%22%3E%3Cscript%3Ewindow.hurt=1%3C/script%3E",
    )
    expect(stranger.page.get_by_role("alert")).to_be_visible()
    assert not stranger.is_hurt()


def test_signing_out_ends_the_session_and_other_tabs_act_no_more(browser: Browser, stocked: Server) -> None:
    with opened(browser, stocked, stocked.user, stocked.password) as first:
        second = new_tab(first.page.context, stocked)
        second.open("/connect")
        first.open("/")
        first.page.get_by_label("Signed in as").click()
        first.page.get_by_role("button", name="Sign out").click()
        expect(first.page).to_have_title("Sign in · Millpond")
        expect(second.page).to_have_title("Sign in · Millpond")  # told by the server
        first.page.goto(f"{stocked.url}/catalog")
        expect(first.page).to_have_title("Sign in · Millpond")


def test_an_open_page_of_a_session_that_ended_elsewhere_does_nothing(browser: Browser, stocked: Server) -> None:
    with opened(browser, stocked, stocked.user, stocked.password) as tab:
        tab.open("/connect")
        before = len(stocked.call("GET", "/api/2.0/token/list")[1].get("token_infos", []))
        cookie = tab.page.context.cookies()[0]
        tab.page.context.request.post(f"{stocked.url}/sign-out", headers={"Origin": stocked.url}, max_redirects=0)
        assert cookie["name"] == "millpond_session"
        expect(tab.page).to_have_title("Sign in · Millpond")
        assert len(stocked.call("GET", "/api/2.0/token/list")[1].get("token_infos", [])) == before
