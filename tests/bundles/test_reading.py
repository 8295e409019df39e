"""A bundle's files are merged for a target, and what is not of the subset is refused by its name."""

from pathlib import Path

import pytest

from millpond.bundles.planning import Act, Deployed, Names, digest_of, plan, wanted_in
from millpond.bundles.reading import Bundle, read_bundle
from millpond.kernel.errors import InvalidArgument, MillpondError, NotFound, NotImplementedHere

MAIN = """
bundle: {name: churn}
include: [resources/*.yml]
workspace: {root_path: "/Volumes/main/ml/bundles/${bundle.name}/${bundle.target}"}
variables:
  catalog: {default: main}
  runs: {description: at once, default: 2}
targets:
  dev: {mode: development, default: true}
  prod:
    mode: production
    variables: {catalog: gold}
    resources:
      jobs:
        retrain:
          max_concurrent_runs: 1
          tasks:
            - {task_key: train, max_retries: 3}
"""
RESOURCES = """
resources:
  jobs:
    retrain:
      name: retrain ${var.catalog}
      max_concurrent_runs: ${var.runs}
      trigger: {periodic: {interval: 1, unit: DAYS}}
      tasks:
        - task_key: train
          spark_python_task: {python_file: ../src/train.py, parameters: ["${resources.registered_models.model.id}"]}
    after:
      tasks:
        - {task_key: call, run_job_task: {job_id: "${resources.jobs.retrain.id}"}}
        - {task_key: look, notebook_task: {notebook_path: ../src/look.ipynb}}
  registered_models:
    model: {name: churn, catalog_name: "${var.catalog}", schema_name: "${resources.schemas.ml.name}"}
  schemas:
    ml: {name: ml, catalog_name: "${var.catalog}"}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    (tmp_path / "resources").mkdir()
    (tmp_path / "src" / "train.py").write_text("print(1)")
    (tmp_path / "src" / "look.ipynb").write_text("{}")
    (tmp_path / "databricks.yml").write_text(MAIN)
    (tmp_path / "resources" / "jobs.yml").write_text(RESOURCES)
    return tmp_path


def names_of(bundle: Bundle) -> Names:
    return Names(bundle, "ann.b@example.com", wanted_in(bundle, "ann.b@example.com"))


def test_a_target_is_laid_over_and_references_lead_to_values_of_any_type(root: Path) -> None:
    bundle = read_bundle(root, "prod", {})
    wanted = {each.name: each.declared for each in wanted_in(bundle, "ann@example.com")}
    assert list(wanted) == ["schemas.ml", "registered_models.model", "jobs.retrain", "jobs.after"]
    job = names_of(bundle).resolved(wanted["jobs.retrain"], {})
    assert (job["name"], job["max_concurrent_runs"]) == ("retrain gold", 1)
    script = "/Volumes/main/ml/bundles/churn/prod/files/src/train.py"
    task = {"task_key": "train", "max_retries": 3}
    told = {"python_file": script, "parameters": ["gold.ml.churn"]}
    assert job["tasks"] == [{**task, "spark_python_task": told}]
    look = names_of(bundle).resolved(wanted["jobs.after"]["tasks"][1]["notebook_task"], {})
    assert look == {"notebook_path": "/Volumes/main/ml/bundles/churn/prod/files/src/look.ipynb"}
    assert names_of(read_bundle(root, "prod", {"runs": "7"})).resolved("${var.runs}", {}) == "7"


def test_development_is_named_after_its_developer_and_starts_nothing(root: Path) -> None:
    bundle = read_bundle(root, None, {})
    names = names_of(bundle)
    wanted = {each.name: names.resolved(each.declared, {}) for each in wanted_in(bundle, "ann.b@example.com")}
    job = wanted["jobs.retrain"]
    assert (job["name"], job["tags"]) == ("[dev ann_b] retrain main", {"dev": "ann_b"})
    assert job["trigger"]["pause_status"] == "PAUSED"
    assert wanted["registered_models.model"]["name"] == "dev_ann_b_churn"
    assert wanted["registered_models.model"]["schema_name"] == "dev_ann_b_ml"


@pytest.mark.parametrize(
    ("where", "text", "error", "words"),
    [
        ("databricks.yml", "artifacts: {a: {}}", NotImplementedHere, "databricks.yml has artifacts"),
        ("databricks.yml", "resources: {dashboards: {}}", NotImplementedHere, "resources has dashboards"),
        ("databricks.yml", "resources: {schemas: {s: {name: a, catalog_name: b, lifecycle: {}}}}", NotImplementedHere,
         "schemas.s has lifecycle"),
        ("databricks.yml", "resources: {volumes: {v: {name: a, catalog_name: b}}}", InvalidArgument, "no schema_name"),
        ("databricks.yml", "resources: {jobs: {a: {name: '${resources.jobs.a.id}'}}}", InvalidArgument, "circle"),
        ("databricks.yml", "resources: {jobs: {a: {name: '${resources.jobs.b.id}'}}}", InvalidArgument, "jobs.b"),
        ("databricks.yml", "workspace: {root_path: /Workspace/x}", InvalidArgument, "directory of a volume"),
        ("databricks.yml", "targets: {qa: {run_as: {}}}", NotImplementedHere, "run_as"),
        ("databricks.yml", "targets: {qa: {mode: fast}}", InvalidArgument, "mode fast"),
        ("databricks.yml", "variables: {catalog: {default: a}, x: {}}", InvalidArgument, "--var x="),
        ("databricks.yml", "variables: {catalog: {default: a}, x: {lookup: {}}}", NotImplementedHere,
         "Variable 'x' has lookup"),
        ("databricks.yml", "include: [none/*.yml]", NotFound, "none/"),
        ("databricks.yml", "bundle: [", InvalidArgument, "not YAML"),
        ("resources/jobs.yml", "include: [x]", NotImplementedHere, "jobs.yml has include"),
        ("resources/jobs.yml", "resources: {jobs: {j: {tasks: [{spark_python_task: {python_file: no.py}}]}}}",
         InvalidArgument, "no.py"),
        ("resources/jobs.yml", "resources: {jobs: {j: {tasks: [{spark_python_task: {python_file: ../../etc}}]}}}",
         InvalidArgument, "no file of the bundle"),
    ],
)  # fmt: skip
def test_what_is_not_of_the_subset_or_not_whole_is_named(
    root: Path, where: str, text: str, error: type[MillpondError], words: str
) -> None:
    import yaml

    path = root / where
    told = yaml.safe_load(path.read_text())
    try:
        path.write_text(yaml.safe_dump({**told, **yaml.safe_load(text)}))
    except yaml.YAMLError:
        path.write_text(text)
    target = "qa" if "qa" in text else "prod" if "targets" not in text else None
    with pytest.raises(error, match=words):
        wanted_in(read_bundle(root, target, {}), "ann@example.com")


def test_a_plan_tells_what_is_new_changed_elsewhere_and_no_more_declared(root: Path) -> None:
    bundle = read_bundle(root, "prod", {})
    wanted, names = wanted_in(bundle, "ann@example.com"), names_of(bundle)
    schema = names.resolved({each.name: each for each in wanted}["schemas.ml"].declared, {})
    state = {
        "schemas.ml": Deployed(id="gold.ml", digest=digest_of(schema)),
        "registered_models.model": Deployed(id="silver.ml.churn", digest="other"),
        "jobs.old": Deployed(id="5", digest="x"),
        "jobs.retrain": Deployed(id="7", digest="x"),
    }
    steps = plan(wanted, names, state, frozenset())
    assert [(step.act, step.name) for step in steps] == [
        (Act.KEEP, "schemas.ml"), (Act.REPLACE, "registered_models.model"), (Act.CHANGE, "jobs.retrain"),
        (Act.CREATE, "jobs.after"), (Act.DELETE, "jobs.old"),
    ]  # fmt: skip
    again = plan(wanted, names, state, frozenset({"jobs.retrain", "schemas.ml"}))
    assert [step.act for step in again][:3] == [Act.CREATE, Act.REPLACE, Act.CREATE]
