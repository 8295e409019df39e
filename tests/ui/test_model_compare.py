"""What a comparison of versions says."""

from typing import Any

from millpond.ui.model_files import Field, ModelCard
from millpond.ui.pages.model_compare import Row, Side, compared, requirements_of
from millpond.ui.tracking import Version


def side(number: str, **values: Any) -> Side:
    version = Version(
        version=number, stage="None", description="", run_id="", user="ada", created_ms=None, status="READY",
        source="", tags=values.pop("tags", {}),
    )  # fmt: skip
    return Side(**{"version": version, "aliases": (), "run": None, "card": None, "requirements": None,
                   "evaluated": {}, **values})  # fmt: skip


def card(*inputs: Field) -> ModelCard:
    return ModelCard(inputs=inputs, outputs=(), params=(), flavors=("sklearn",), mlflow_version="3")


def test_each_part_tells_what_each_version_says_and_where_they_differ() -> None:
    age = Field(name="age", type="long", required=True)
    parts = dict(compared([
        side("2", card=card(age, Field(name="city", type="string", required=False)), evaluated={"f1": 0.5},
             tags={"team": "x", "mlflow.own": "y"}, requirements={"pandas": "==2.1"}),
        side("1", card=card(age), requirements={"pandas": "==2.1", "scipy": "any"}),
    ]))  # fmt: skip
    assert parts["Inputs"] == (Row(label="age", values=("long", "long")),
                               Row(label="city", values=("string, optional", None)))  # fmt: skip
    assert [row.differs for row in parts["Inputs"]] == [False, True]
    assert parts["Newest evaluation"] == (Row(label="f1", values=("0.5", None)),)
    assert parts["Tags"] == (Row(label="team", values=("x", None)),)
    assert parts["Requirements"] == (Row(label="pandas", values=("==2.1", "==2.1")),
                                     Row(label="scipy", values=(None, "any")))  # fmt: skip
    assert {row.label: row.differs for row in parts["About"]}["Made by"] is False


def test_requirements_are_read_by_name_and_nothing_is_left_out() -> None:
    text = "# made by mlflow\nScikit_Learn==1.6\npandas  # any\n-r more.txt\n\n"
    assert requirements_of(text) == {"-r more.txt": "yes", "pandas": "any", "scikit-learn": "==1.6"}
