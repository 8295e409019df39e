"""A real server with something in it, and a real Chromium that signs in and reports what its console says."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.servers import Server, running_server

_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser")  # the first takes half of the time
CHROMIUM = next(filter(None, map(shutil.which, _NAMES)), None)  # else the one that Playwright installs
FLAGS = [
    "--no-sandbox", "--headless", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
TIMEOUT_MS = 30_000
expect.set_options(timeout=TIMEOUT_MS)


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


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """The system's Chromium, or Playwright's; no longer than needed, as Playwright keeps the thread's event loop."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the pages' own: they show what there is, so nobody else may add to it."""
    with running_server(tmp_path_factory.mktemp("pages") / "data") as running:
        yield running


@pytest.fixture(scope="package")
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
def signed_in(browser: Browser, server: Server, token: str, **options: Any) -> Iterator[BrowserContext]:
    """A browser of its own in which the holder of a token is signed in."""
    context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
    context.set_default_timeout(TIMEOUT_MS)
    try:
        form, origin = {"token": token}, {"Origin": server.url}
        answer = context.request.post(f"{server.url}/sign-in", form=form, headers=origin, max_redirects=0)
        assert answer.status == 303, answer.text()
        yield context
    finally:
        context.close()


@contextmanager
def watched(context: BrowserContext, server: Server) -> Iterator[Tab]:
    """One more tab, whose problems fail the test at its end."""
    tab = new_tab(context, server)
    yield tab
    tab.check()
    tab.page.close()


@contextmanager
def opened(browser: Browser, server: Server, token: str, **options: Any) -> Iterator[Tab]:
    """A watched tab in a browser of its own."""
    with signed_in(browser, server, token, **options) as context, watched(context, server) as tab:
        yield tab


def new_tab(context: BrowserContext, server: Server) -> Tab:
    """A tab that notes what its console says and whom it asks."""
    tab = Tab(page=context.new_page(), url=server.url)
    tab.page.on("console", lambda message: _note(tab, message))
    tab.page.on("pageerror", lambda error: tab.problems.append(f"page error: {error}"))
    tab.page.on("request", lambda request: tab.hosts.add(request.url.split("/")[2] if "//" in request.url else ""))
    return tab


def _note(tab: Tab, message: Any) -> None:
    if message.type in {"error", "warning"}:
        tab.problems.append(f"{message.type}: {message.text} {message.location.get('url', '')}")


@pytest.fixture(scope="package")
def admin_context(browser: Browser, stocked: Server) -> Iterator[BrowserContext]:
    """A browser in which the administrator is signed in."""
    with signed_in(browser, stocked, stocked.token) as context:
        yield context


@pytest.fixture
def tab(admin_context: BrowserContext, stocked: Server) -> Iterator[Tab]:
    """A tab of the administrator."""
    with watched(admin_context, stocked) as tab:
        yield tab


@pytest.fixture(scope="package")
def bobs_token(stocked: Server) -> str:
    """A token of a user who owns nothing."""
    return stocked.new_user("bob@example.com")


@pytest.fixture(scope="package")
def bobs_context(browser: Browser, stocked: Server, bobs_token: str) -> Iterator[BrowserContext]:
    """A browser in which somebody is signed in who may see nothing of what others made."""
    with signed_in(browser, stocked, bobs_token) as context:
        yield context


@pytest.fixture
def bobs_tab(bobs_context: BrowserContext, stocked: Server) -> Iterator[Tab]:
    """A tab of somebody who may see nothing of what others made."""
    with watched(bobs_context, stocked) as tab:
        yield tab
