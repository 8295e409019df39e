"""A model's page asks for a parity check, and a check's page shows what was compared and where it differs."""

import pathlib

import pytest
from mlflow import MlflowClient
from playwright.sync_api import expect

from millpond.features import FeatureLookup
from millpond.features.spec import FILE, FeatureSpec
from millpond.online.backends.lmdb import LmdbBackend
from tests.browser.conftest import Tab
from tests.browser.test_online_page import done, sql
from tests.clients.mlflow_session import signed_in
from tests.servers import Server, wait_until

pytestmark = pytest.mark.filterwarnings("ignore")  # the clients' warnings are not ours
MODEL = "shop.silver.seen_twice"
ONLINE = "/api/millpond/online-tables/shop.silver.spent_online"
HOSTILE = "<b>Ulm</b>"


def test_a_check_is_asked_for_and_looked_at(tab: Tab, stocked: Server, tmp_path: pathlib.Path) -> None:
    sql(stocked, "CREATE TABLE shop.silver.spent (id BIGINT NOT NULL, city STRING, CONSTRAINT s PRIMARY KEY (id))")
    sql(stocked, f"INSERT INTO shop.silver.spent VALUES (1, 'Bonn'), (2, '{HOSTILE}')")
    done(stocked.call("POST", "/api/2.0/feature-store/online-stores", {"name": "parity", "capacity": "CU_1"}))
    spec = {"online_store": "parity", "online_table_name": "shop.silver.spent_online", "publish_mode": "TRIGGERED"}
    done(stocked.call("POST", "/api/2.0/feature-store/tables/shop.silver.spent/publish", {"publish_spec": spec}))
    wait_until(lambda: stocked.call("GET", ONLINE)[1]["state"] == "ONLINE", timeout_s=60, what="the table online")
    with signed_in(stocked) as client:
        register(client, tmp_path)
    tab.open(f"/models/{MODEL}?tab=record")
    expect(tab.page.get_by_text("No keys have been replayed yet")).to_be_visible()
    ask(tab, 1)
    check(tab, "passed", "values of 1 features are the same offline and online")
    tamper(stocked)
    ask(tab, 2)
    check(tab, "failed", "city differs in 1 of")
    tab.page.get_by_role("region", name="Parity checks").get_by_role("link", name="Version 1").first.click()
    row = tab.page.get_by_role("region", name="Mismatches").get_by_role("row").filter(has_text="id = 2")
    expect(row).to_contain_text(f'"{HOSTILE}"')
    expect(row).to_contain_text('"Bonn"')
    expect(tab.page.get_by_role("region", name="Feature tables")).to_contain_text("in parity (embedded)")
    expect(tab.page.get_by_role("link", name=MODEL)).to_be_visible()
    assert not tab.is_hurt()


def ask(tab: Tab, count: int) -> None:
    """Press the button; the page comes again with one check more."""
    tab.page.get_by_role("button", name="Check parity").click()
    expect(tab.page.get_by_role("region", name="Parity checks").get_by_role("row")).to_have_count(count + 1)


def check(tab: Tab, state: str, message: str) -> None:
    """Load the page again until the newest check has ended, as its reader would."""
    newest = tab.page.get_by_role("region", name="Parity checks").get_by_role("row").nth(1)

    def ended() -> bool:
        tab.open(f"/models/{MODEL}?tab=record")
        expect(newest).to_be_visible()
        return state in newest.inner_text()

    wait_until(ended, timeout_s=60, what=f"a check that has {state}")
    expect(newest).to_contain_text(message)


def register(client: MlflowClient, tmp_path: pathlib.Path) -> None:
    """A version with a feature spec; nobody loads its model."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "MLmodel").write_text("flavors: {}")
    made = FeatureSpec(wanted=(FeatureLookup("shop.silver.spent", "id", feature_names="city"),))
    (tmp_path / "model" / FILE).write_text(made.to_yaml())
    run = client.create_run("0").info.run_id
    client.log_artifacts(run, str(tmp_path / "model"), "model")
    client.create_registered_model(MODEL)
    client.create_model_version(MODEL, f"runs:/{run}/model", run)


def tamper(server: Server) -> None:
    """Another value in the store than was published."""
    table_id = server.call("GET", ONLINE)[1]["id"]
    backend = LmdbBackend(server.data_dir / "online")
    state = backend.published(table_id)
    assert state is not None
    backend.write(table_id, state.generation, [(state.shape.key({"id": 2}), state.shape.row(["Bonn"], None))])
    backend.close()
