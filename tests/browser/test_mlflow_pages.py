"""MLflow's own pages, under our sign-in."""

import uuid

import pytest
from playwright.sync_api import Page, Response, expect

from tests.clients.mlflow_session import signed_in
from tests.servers import Server

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore")]  # the client's warnings are not ours


@pytest.fixture(scope="module")
def places(server: Server) -> dict[str, str]:
    """Addresses of pages, and a text that each must show."""
    model = f"main.default.pages_{uuid.uuid4().hex[:8]}"
    with signed_in(server) as client:
        experiment_id = client.create_experiment(f"pages-{uuid.uuid4().hex}")
        run = client.create_run(experiment_id, run_name="a-run-to-see")
        run_id = run.info.run_id
        for step in range(3):
            client.log_metric(run_id, "auc_to_see", step / 10, step=step)
        client.log_text(run_id, "flavors: {}", "model/MLmodel")
        client.create_registered_model(model)
        client.create_model_version(model, f"{run.info.artifact_uri}/model", run_id)
    return {
        "/ml/": "Experiments",
        "/ml/#/experiments": "Default",
        f"/ml/#/experiments/{experiment_id}/runs": "a-run-to-see",
        f"/ml/#/experiments/{experiment_id}/runs/{run_id}": "auc_to_see",
        f"/ml/#/experiments/{experiment_id}/runs/{run_id}/model-metrics": "auc_to_see",
        f"/ml/#/experiments/{experiment_id}/runs/{run_id}/artifacts": "Select a file to preview",
        f"/ml/experiments/{experiment_id}/runs/{run_id}": "auc_to_see",
        "/ml/#/models": model,
        f"/ml/#/models/{model}": "Version 1",
        f"/ml/#/models/{model}/versions/1": "Version 1",
    }


def test_every_page_shows_its_contents_without_a_complaint(browser, server: Server, places: dict[str, str]) -> None:  # type: ignore[no-untyped-def]
    problems: list[str] = []

    def watch(page: Page, path: str) -> None:
        def refused(response: Response) -> None:
            if response.status >= 400:
                problems.append(f"{path}: {response.status} {response.url}")

        page.on("response", refused)
        page.on("pageerror", lambda error: problems.append(f"{path}: {error}"))
        page.on("console", lambda m: problems.append(f"{path}: {m.text}") if m.type == "error" else None)

    headers = {"Authorization": f"Bearer {server.token}"}
    with browser.new_context(extra_http_headers=headers, viewport={"width": 1280, "height": 900}) as context:
        for path, text in places.items():
            page = context.new_page()
            watch(page, path)
            page.goto(server.url + path)
            expect(page.get_by_text(text).first).to_be_visible()
            page.close()
    assert problems == []


def test_without_sign_in_there_is_no_page(browser, server: Server) -> None:  # type: ignore[no-untyped-def]
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{server.url}/ml/")
        assert "/sign-in" in page.url
