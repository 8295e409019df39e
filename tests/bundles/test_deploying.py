"""Bundles on a real server: deployed, changed, taken up after a break at any step, and removed."""

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.service.catalog import VolumeType

from millpond.bundles.deploying import Deployment
from millpond.bundles.planning import Act
from millpond.bundles.reading import read_bundle
from millpond.cli.api import Api
from millpond.kernel.errors import Conflict, FailedPrecondition, MillpondError, Unavailable
from tests.servers import Server, run_cli

BUNDLE = """
bundle: {name: shop}
workspace: {root_path: "VOLUME/${bundle.target}"}
variables: {comment: {default: first}}
resources:
  schemas:
    ml:
      name: NAME_${bundle.target}
      catalog_name: main
      comment: ${var.comment}
      grants: [{principal: account users, privileges: [USE_SCHEMA]}]
  volumes:
    raw: {name: raw, catalog_name: main, schema_name: "${resources.schemas.ml.name}"}
  registered_models:
    model: {name: churn, catalog_name: main, schema_name: "${resources.schemas.ml.name}", comment: "${var.comment}"}
  jobs:
    first:
      name: NAME first
      tasks: [{task_key: a, spark_python_task: {python_file: src/a.py, parameters: ["${resources.volumes.raw.id}"]}}]
      permissions: [{level: CAN_VIEW, group_name: users}]
    second:
      name: NAME second ${var.comment}
      tasks: [{task_key: call, run_job_task: {job_id: "${resources.jobs.first.id}"}}]
targets:
  one: {default: true}
  three: {}
"""


@dataclass(frozen=True)
class Shop:
    """A bundle in a directory, and the volume that it goes to."""

    server: Server
    w: WorkspaceClient
    root: Path
    name: str

    @property
    def api(self) -> Api:
        """The administrator's."""
        return Api(url=self.server.url, token=self.server.token)

    def deployment(self, server: Any = None, target: str = "one", **variables: str) -> Deployment:
        """The bundle as it is now."""
        return Deployment(read_bundle(self.root, target, variables), server or self.api)

    def jobs(self) -> list[str]:
        """Names of the bundle's jobs that there are."""
        found = [str(job.settings.name) for job in self.w.jobs.list() if job.settings]
        return sorted(name for name in found if name.startswith(self.name))


@pytest.fixture
def shop(server: Server, tmp_path: Path) -> Shop:
    w = WorkspaceClient(host=server.url, token=server.token, auth_type="pat")
    name = f"b{uuid.uuid4().hex[:8]}"
    w.schemas.create(name, "main")
    w.volumes.create("main", name, "v", VolumeType.MANAGED)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("print('from the bundle')")
    (tmp_path / ".secret").write_text("stays here")
    text = BUNDLE.replace("VOLUME", f"/Volumes/main/{name}/v").replace("NAME", name)
    (tmp_path / "databricks.yml").write_text(text)
    return Shop(server, w, tmp_path, name)


def yes(_: object) -> bool:
    return True


def quiet(_: str) -> None:
    return


def test_what_is_declared_is_made_changed_and_removed_and_its_files_run(shop: Shop) -> None:
    assert shop.deployment().deploy(quiet, yes)
    assert not shop.deployment().plan().changes
    schema, files = f"main.{shop.name}_one", f"/Volumes/main/{shop.name}/v/one/files"
    assert shop.w.schemas.get(schema).comment == "first"
    assert shop.w.grants.get("schema", schema).privilege_assignments[0].principal == "account users"
    assert [each.name for each in shop.w.files.list_directory_contents(files)] == ["databricks.yml", "src"]
    first, second = (next(iter(shop.w.jobs.list(name=f"{shop.name} {name}"))) for name in ("first", "second first"))
    assert "CAN_VIEW" in str(shop.w.jobs.get_permissions(str(first.job_id)).as_dict())
    assert shop.w.jobs.get(second.job_id).settings.tasks[0].run_job_task.job_id == first.job_id
    run = shop.w.jobs.run_now_and_wait(second.job_id)
    assert run.state.result_state.value == "SUCCESS"

    text = (shop.root / "databricks.yml").read_text()
    (shop.root / "databricks.yml").write_text(text.replace("USE_SCHEMA", "SELECT").replace("raw", "pure"))
    (shop.root / "src" / "b.py").write_text("1")
    planned = shop.deployment(comment="second").plan()
    assert {step.name: step.act for step in planned.steps} == {
        "schemas.ml": Act.CHANGE, "registered_models.model": Act.CHANGE, "volumes.pure": Act.CREATE,
        "volumes.raw": Act.DELETE, "jobs.first": Act.CHANGE, "jobs.second": Act.CHANGE,
    }  # fmt: skip
    assert planned.uploads == ["databricks.yml", "src/b.py"]
    assert not shop.deployment(comment="second").deploy(quiet, lambda planned: False)
    shop.w.jobs.delete(second.job_id)
    assert shop.deployment(comment="second").deploy(quiet, yes)
    assert shop.w.registered_models.get(f"{schema}.churn").comment == "second"
    assert [each.name for each in shop.w.volumes.list("main", schema.partition(".")[2])] == ["pure"]
    assert shop.w.grants.get("schema", schema).privilege_assignments[0].privileges[0].value == "SELECT"
    assert len(shop.w.grants.get("schema", schema).privilege_assignments[0].privileges) == 1
    assert shop.jobs() == [f"{shop.name} first", f"{shop.name} second second"]
    assert next(iter(shop.w.jobs.list(name=f"{shop.name} first"))).job_id == first.job_id

    assert shop.deployment().destroy(quiet, yes)
    assert shop.jobs() == []
    assert schema not in [each.full_name for each in shop.w.schemas.list("main")]
    assert shop.deployment().state().resources == {}
    assert shop.deployment().deploy(quiet, yes)


@dataclass
class Breaking:
    """The server, to which the connection breaks once so many calls that change something were done."""

    api: Api
    most: int

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        return self.api.call(method, path) if method == "GET" else self._do(lambda: self.api.call(method, path, body))

    def read_file(self, path: str) -> bytes:
        return self.api.read_file(path)

    def write_file(self, path: str, content: bytes, *, overwrite: bool) -> None:
        self._do(lambda: self.api.write_file(path, content, overwrite=overwrite))

    def remove_file(self, path: str) -> None:
        self._do(lambda: self.api.remove_file(path))

    def _do(self, work: Callable[[], Any]) -> Any:
        self.most -= 1
        if self.most < 0:
            raise Unavailable("The connection broke.")
        done = work()
        if self.most == 0:  # it was done, and nobody was told
            raise Unavailable("The connection broke.")
        return done


SMALL = """
bundle: {name: small}
workspace: {root_path: "VOLUME/small"}
targets: {only: {}}
resources:
  schemas:
    ml: {name: NAME_small, catalog_name: main, grants: [{principal: account users, privileges: [USE_SCHEMA]}]}
  jobs:
    only: {name: NAME only, permissions: [{level: CAN_VIEW, group_name: users}]}
"""


def test_a_deployment_that_broke_off_anywhere_is_taken_up_by_the_next(shop: Shop) -> None:
    text = SMALL.replace("VOLUME", f"/Volumes/main/{shop.name}/v").replace("NAME", shop.name)
    (shop.root / "databricks.yml").write_text(text)
    broken = 0
    for most in range(1, 40):
        try:
            shop.deployment(Breaking(shop.api, most), "only").deploy(quiet, yes)
            break
        except Unavailable:
            broken += 1
        assert shop.deployment(target="only").deploy(quiet, yes, force_lock=True)
        assert not shop.deployment(target="only").plan().changes
        assert shop.jobs() == [f"{shop.name} only"]
        assert shop.deployment(target="only").destroy(quiet, yes)
    assert broken > 14


def test_what_others_made_is_not_taken_and_two_do_not_deploy_at_once(shop: Shop) -> None:
    shop.w.schemas.create(f"{shop.name}_three", "main", comment="ann's")
    for _ in range(2):
        with pytest.raises(FailedPrecondition, match="this bundle did not make it"):
            shop.deployment(target="three").deploy(quiet, yes)
    assert shop.w.schemas.get(f"main.{shop.name}_three").comment == "ann's"
    lock = f"/Volumes/main/{shop.name}/v/three/state/deploy.lock"
    shop.api.write_file(lock, b'{"by": "ann", "at": "noon"}', overwrite=False)
    with pytest.raises(Conflict, match="ann deploys this target since noon"):
        shop.deployment(target="three").deploy(quiet, yes)
    stranger = Api(url=shop.server.url, token=shop.server.new_user(f"{shop.name}@example.com"))
    with pytest.raises(MillpondError, match=r"does not exist|may not"):
        shop.deployment(stranger).deploy(quiet, yes)


@pytest.mark.long
def test_the_command_says_what_it_does_and_asks_before_it_removes(shop: Shop) -> None:
    options = ("--directory", str(shop.root), "--data-dir", str(shop.server.data_dir))
    assert f"+ create schemas.ml: main.{shop.name}_one" in run_cli("bundle", "plan", *options).stdout
    assert run_cli("bundle", "deploy", *options).stdout.endswith("Deployed.\n")
    refused = run_cli("bundle", "destroy", *options, check=False)
    assert refused.returncode == 1
    assert f"- delete schemas.ml: main.{shop.name}_one, with all data in it" in refused.stdout
    assert len(shop.jobs()) == 2
    path = shop.root / "databricks.yml"
    path.write_text(path.read_text().replace("tasks: [{task_key: a,", "warehouse: [1]\n      tasks: [{task_key: a,"))
    wrong = run_cli("bundle", "validate", *options, check=False)
    assert "jobs.first: The job has warehouse" in wrong.stderr


def test_what_others_made_is_not_taken_for_what_a_change_that_broke_off_is_replaced_by(shop: Shop) -> None:
    text = SMALL.replace("VOLUME", f"/Volumes/main/{shop.name}/v").replace("NAME", shop.name)
    text = text[: text.index("  jobs:")]
    (shop.root / "databricks.yml").write_text(text)
    assert shop.deployment(target="only").deploy(quiet, yes)
    path = f"/Volumes/main/{shop.name}/v/small/state/resources.json"
    state = json.loads(shop.api.read_file(path))
    state["resources"]["schemas.ml"]["digest"] = ""  # as a change that broke off leaves it
    shop.api.write_file(path, json.dumps(state).encode(), overwrite=True)
    shop.w.schemas.create(f"{shop.name}_anns", "main", comment="ann's")
    (shop.root / "databricks.yml").write_text(text.replace("_small,", "_anns,"))
    with pytest.raises(FailedPrecondition, match="this bundle did not make it"):
        shop.deployment(target="only").deploy(quiet, yes)
    assert shop.deployment(target="only").destroy(quiet, yes)
    assert shop.w.schemas.get(f"main.{shop.name}_anns").comment == "ann's"
