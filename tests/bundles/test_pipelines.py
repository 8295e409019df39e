"""Pipelines in bundles: their sources are deployed with them, they run, change, and go."""

import uuid
from pathlib import Path

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.catalog import VolumeType

from millpond.bundles.deploying import Deployment
from millpond.bundles.planning import Act, wanted_in
from millpond.bundles.reading import read_bundle
from millpond.cli.api import Api
from millpond.kernel.errors import InvalidArgument, NotImplementedHere, Unavailable
from tests.bundles.test_deploying import Breaking, quiet, yes
from tests.servers import Server, run_cli

BUNDLE = """
bundle: {name: lake}
workspace: {root_path: "VOLUME/${bundle.target}"}
include: [resources/*.yml]
targets:
  prod: {default: true}
  dev: {mode: development}
"""
RESOURCES = """
resources:
  pipelines:
    orders:
      name: NAME orders
      catalog: main
      schema: NAME
      root_path: ../src
      libraries:
        - glob: {include: ../src/transformations/**}
        - file: {path: ../src/one.sql}
      permissions: [{level: CAN_RUN, group_name: users}]
  jobs:
    nightly:
      name: NAME nightly
      tasks: [{task_key: refresh, pipeline_task: {pipeline_id: "${resources.pipelines.orders.id}"}}]
"""
SOURCE = "CREATE OR REFRESH MATERIALIZED VIEW {} AS SELECT 1 AS one"


@pytest.fixture
def root(server: Server, tmp_path: Path) -> tuple[Path, str]:
    """A bundle's directory, and what everything is called."""
    w = WorkspaceClient(host=server.url, token=server.token, auth_type="pat")
    name = f"l{uuid.uuid4().hex[:8]}"
    w.schemas.create(name, "main")
    w.volumes.create("main", name, "v", VolumeType.MANAGED)
    (tmp_path / "resources").mkdir()
    (tmp_path / "src" / "transformations").mkdir(parents=True)
    (tmp_path / "src" / "transformations" / "a.sql").write_text(SOURCE.format("below"))
    (tmp_path / "src" / "one.sql").write_text(SOURCE.format("named"))
    (tmp_path / "databricks.yml").write_text(BUNDLE.replace("VOLUME", f"/Volumes/main/{name}/v"))
    (tmp_path / "resources" / "all.yml").write_text(RESOURCES.replace("NAME", name))
    return tmp_path, name


def test_a_pipeline_is_deployed_run_changed_and_removed(server: Server, root: tuple[Path, str]) -> None:
    place, name = root
    w = WorkspaceClient(host=server.url, token=server.token, auth_type="pat")
    api = Api(url=server.url, token=server.token)

    def deployment() -> Deployment:
        return Deployment(read_bundle(place, None, {}), api)

    def found() -> list[str]:
        return [str(each.pipeline_id) for each in w.pipelines.list_pipelines(filter=f"name LIKE '{name}%'")]

    with pytest.raises(Unavailable):  # once it is made, and nobody was told
        Deployment(read_bundle(place, None, {}), Breaking(api, 8)).deploy(quiet, yes, force_lock=True)
    assert len(found()) == 1
    assert deployment().deploy(quiet, yes, force_lock=True)
    assert not deployment().plan().changes
    [made] = found()
    spec = w.pipelines.get(made).spec
    files = f"/Volumes/main/{name}/v/prod/files/src"
    assert (spec.root_path, spec.libraries[0].glob.include) == (files, f"{files}/transformations/**")
    assert spec.libraries[1].file.path == f"{files}/one.sql"
    assert "CAN_RUN" in str(w.pipelines.get_permissions(made).as_dict())
    [job] = w.jobs.list(name=f"{name} nightly")
    assert w.jobs.get(job.job_id).settings.tasks[0].pipeline_task.pipeline_id == made
    done = run_cli("bundle", "run", "orders", "--directory", str(place), "--data-dir", str(server.data_dir))
    assert "update: SUCCESS" in done.stdout
    assert {each.name for each in w.tables.list("main", name)} == {"below", "named"}

    resources = place / "resources" / "all.yml"
    resources.write_text(resources.read_text().replace("      root_path: ../src\n", "      tags: {a: b}\n"))
    acts = {step.name: step.act for step in deployment().plan().steps}
    assert acts == {"pipelines.orders": Act.CHANGE, "jobs.nightly": Act.KEEP}
    assert deployment().deploy(quiet, yes)
    assert found() == [made]
    after = w.pipelines.get(made).spec
    assert (after.root_path, after.tags) == (None, {"a": "b"})
    assert deployment().destroy(quiet, yes)
    assert found() == []


def test_what_is_no_pipeline_is_refused_before_anything_is_done(server: Server, root: tuple[Path, str]) -> None:
    place, name = root
    resources = place / "resources" / "all.yml"
    text = resources.read_text()
    api = Api(url=server.url, token=server.token)
    for old, new, error, words in (
        ("one.sql", "none.sql", InvalidArgument, "no file of the bundle"),
        ("../src/transformations/**", "../src/none/**", InvalidArgument, "no directory of the bundle"),
        ("- file: {path: ../src/one.sql}", "- ../src/one.sql", InvalidArgument, "a library is not a mapping"),
        (f"schema: {name}", "schema: a\n      target: b", InvalidArgument, "pipelines.orders: A pipeline has one of"),
        (
            "root_path: ../src",
            "event_log: {name: x}",
            NotImplementedHere,
            "pipelines.orders: The pipeline has event_log",
        ),
    ):
        resources.write_text(text.replace(old, new))
        with pytest.raises(error, match=words):
            Deployment(read_bundle(place, None, {}), api)


def test_one_of_a_developer_is_named_after_them_and_in_development(root: tuple[Path, str]) -> None:
    place, name = root
    bundle = read_bundle(place, "dev", {})
    declared = {each.name: each.declared for each in wanted_in(bundle, "ann.b@x.org")}["pipelines.orders"]
    assert (declared["name"], declared["development"]) == (f"[dev ann_b] {name} orders", True)
    assert declared["tags"] == {"dev": "ann_b"}
