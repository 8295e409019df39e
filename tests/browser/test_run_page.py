"""The page that says how a run was made, with a run of a real program, and the button that makes it again."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Tab
from tests.browser.markup import MARKUP
from tests.servers import Server

pytestmark = pytest.mark.browser

_PROGRAM = """
import sys

import mlflow

mlflow.set_experiment("/made")
with mlflow.start_run(run_name="first") as run:
    mlflow.log_metric("m", 1.0)
print("RUN", run.info.run_id)
"""


@pytest.fixture
def made(stocked: Server, tmp_path: Path) -> str:
    """A run of a program in a repository with a change that was not committed; its id."""
    (tmp_path / "program.py").write_text(_PROGRAM)
    (tmp_path / "notes.txt").write_text("committed\n")
    who = ("-c", "user.name=Ann", "-c", "user.email=ann@example.org")
    for words in (("init", "-q"), ("add", "-A"), (*who, "commit", "-q", "-m", "first")):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    (tmp_path / "notes.txt").write_text("not committed\n")
    done = subprocess.run(
        [sys.executable, "program.py", MARKUP], cwd=tmp_path, env=stocked.client_env(), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split("RUN ")[1].split()[0]


def test_a_run_shows_what_it_was_made_of_and_is_made_again(tab: Tab, made: str) -> None:
    tab.open(f"/runs/{made}")
    expect(tab.page.get_by_text(f"program.py {MARKUP}")).to_be_visible()
    expect(tab.page.get_by_text("1 files changed")).to_be_visible()
    expect(tab.page.get_by_text("+not committed")).to_be_visible()
    tab.page.get_by_role("link", name="Environment").click()
    expect(tab.page.get_by_text(re.compile("mlflow==3"))).to_be_visible()
    tab.page.get_by_role("button", name="Reproduce").click()
    expect(tab.page).to_have_url(re.compile("tab=reproductions"))
    expect(tab.page.get_by_text(re.compile("by the server"))).to_be_visible()
    assert not tab.is_hurt()


def test_an_experiment_leads_to_how_a_run_was_made(tab: Tab) -> None:
    tab.open("/experiments")
    tab.page.get_by_role("link", name="/churn").click()
    tab.page.get_by_role("row").filter(has_text="depth-6").get_by_role("link", name="Details").click()
    expect(tab.page.get_by_role("row").filter(has_text="shop.silver.customers")).to_contain_text("version 1")


def test_a_run_without_a_capture_says_why(tab: Tab, stocked: Server) -> None:
    _, made = stocked.call("POST", "/api/2.0/mlflow/runs/create", {"experiment_id": "0"})
    tab.open(f"/runs/{made['run']['info']['run_id']}")
    expect(tab.page.get_by_text("Nothing was captured")).to_be_visible()
