"""Stores of models on a database that has MLflow's tables, and models of all kinds in it."""

from mlflow.entities.model_registry import ModelVersionTag, RegisteredModelTag
from mlflow.store.model_registry.abstract_store import AbstractStore
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

from millpond.kernel.database import Database
from millpond.tracking.stores.session import SessionMaker


def store_on(kind: type[SqlAlchemyStore], database: Database) -> SqlAlchemyStore:
    """A store on a database that has its tables already."""
    store = object.__new__(kind)
    AbstractStore.__init__(store)
    store.db_type = "sqlite" if database.is_sqlite else "postgresql"
    store.engine = database.engine
    store.ManagedSessionMaker = SessionMaker(database, lambda _writes: ())
    return store


def fill(store: SqlAlchemyStore) -> None:
    """Models with versions, tags, aliases and stages, and prompts."""
    for number in range(5):
        name = f"model-{number}"
        tags = [RegisteredModelTag("team", "ab"[number % 2]), RegisteredModelTag("empty", "")]
        store.create_registered_model(name, tags, "described" if number % 2 else None)
        for version in range(number):
            store.create_model_version(
                name, f"mlflow-artifacts:/m/{version}", f"run{version}",
                [ModelVersionTag("q", str(version % 2)), ModelVersionTag("of", f"'{name}'")],
                description="" if version else None,
            )  # fmt: skip
    store.transition_model_version_stage("model-4", 2, "Production", False)
    store.transition_model_version_stage("model-4", 4, "Staging", False)
    for alias, version in (("production", "2"), ("champion", "2"), ("candidate", "3")):
        store.set_registered_model_alias("model-4", alias, version)
    store.delete_model_version("model-4", 1)
    prompt = "mlflow.prompt.is_prompt"
    store.create_registered_model("a-prompt", [RegisteredModelTag(prompt, "true")])
    for version in range(2):  # a prompt's name is one as soon as one of its versions says so
        store.create_model_version("a-prompt", "prompt", None, [ModelVersionTag(prompt, "true")] * (1 - version))
    store.create_registered_model("no-prompt", [RegisteredModelTag(prompt, "false"), RegisteredModelTag("team", "a")])
    store.create_model_version("no-prompt", "m", None, [ModelVersionTag(prompt, "false"), ModelVersionTag("q", "1")])
