"""A real server with something in it, and a real Chromium that signs in and reports what its console says."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.servers import Server

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox", "--headless", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
TIMEOUT_MS = 20_000


@dataclass(kw_only=True)
class Tab:
    """A page of somebody, and all that went wrong on it."""

    page: Page
    url: str
    problems: list[str] = field(default_factory=list)
    hosts: set[str] = field(default_factory=set)
    expected: list[str] = field(default_factory=list)
    """Patterns of problems that a test provokes on purpose."""

    def open(self, path: str) -> Any:
        """Go to a path and wait until it is drawn; the HTTP response."""
        response = self.page.goto(self.url + path)
        self.page.wait_for_selector("main")
        return response

    def check(self) -> None:
        """Fail when the console said something that no test provoked."""
        left = [text for text in self.problems if not any(re.search(pattern, text) for pattern in self.expected)]
        assert not left, left

    def is_hurt(self) -> bool:
        """Whether markup of a user ran as code."""
        return bool(self.page.evaluate("Boolean(window.hurt)"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def stocked(server: Server) -> Server:
    """The session's server, filled by `stock.py` as a user's program would fill it."""
    program = [sys.executable, "-m", "tests.browser.stock"]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        program, env=server.client_env() | {"MLFLOW_UV_AUTO_DETECT": "false"}, cwd=root, capture_output=True, text=True,
        timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return server


@contextmanager
def opened(browser: Browser, server: Server, user: str, password: str, **options: Any) -> Iterator[Tab]:
    """A tab in a browser of its own, signed in."""
    context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
    try:
        tab = new_tab(context, server)
        sign_in(tab, user, password)
        yield tab
        tab.check()
    finally:
        context.close()


def new_tab(context: BrowserContext, server: Server) -> Tab:
    """One more tab, watched."""
    context.set_default_timeout(TIMEOUT_MS)
    tab = Tab(page=context.new_page(), url=server.url)
    tab.page.on("console", lambda message: _note(tab, message))
    tab.page.on("pageerror", lambda error: tab.problems.append(f"page error: {error}"))
    tab.page.on("request", lambda request: tab.hosts.add(request.url.split("/")[2] if "//" in request.url else ""))
    return tab


def _note(tab: Tab, message: Any) -> None:
    if message.type in {"error", "warning"}:
        tab.problems.append(f"{message.type}: {message.text} {message.location.get('url', '')}")


def sign_in(tab: Tab, user: str, password: str, path: str = "/sign-in") -> None:
    """Fill the form and send it."""
    tab.page.goto(tab.url + path)
    tab.page.get_by_label("User name").fill(user)
    tab.page.get_by_label("Password").fill(password)
    tab.page.get_by_role("button", name="Sign in", exact=True).click()
    tab.page.wait_for_selector("main")


@pytest.fixture
def tab(browser: Browser, stocked: Server) -> Iterator[Tab]:
    """A tab of the administrator."""
    with opened(browser, stocked, stocked.user, stocked.password) as tab:
        yield tab


@pytest.fixture(scope="session")
def bob(stocked: Server) -> str:
    """A user who owns nothing; his password is `initial-1`."""
    stocked.new_user("bob@example.com")
    return "bob@example.com"


@pytest.fixture
def bobs_tab(browser: Browser, stocked: Server, bob: str) -> Iterator[Tab]:
    """A tab of somebody who may see nothing of what others made."""
    with opened(browser, stocked, bob, "initial-1") as tab:
        yield tab
