"""Evaluations of versions, as part of their record, and the check `evaluation`, which takes those that can be trusted.

```yaml
- evaluation: {by: [ci], metric: roc_auc, minimum: 0.9, margin: 0.0, greater_is_better: true,
               table: main.eval.churn, table_version: 12, max_age_days: 7}
```

Whoever can write a run can log any metric. So an evaluation counts only when one of `by` made its run, and nobody else
but administrators may write to it; and not when that one made the version, unless `author_may_evaluate`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from millpond.identity.access import Act, allows, require
from millpond.identity.domain import SYSTEM, Principal
from millpond.identity.grants import GrantService
from millpond.identity.privileges import Privilege
from millpond.kernel.clock import utc_now
from millpond.kernel.database import Database
from millpond.kernel.errors import InvalidArgument, NotFound
from millpond.registry import store
from millpond.registry.checks import NUMBER, Looked, PlainCheck, Subject
from millpond.registry.recorder import FindModel
from millpond.tracking.artifact_files import ArtifactFiles
from millpond.tracking.domain import canonical_model_name, experiment_securable, logged_model_of_source
from millpond.tracking.evaluations import Evaluation, EvaluationData, evaluations_of

_FINISHED = "FINISHED"


@dataclass(frozen=True, kw_only=True)
class SeenEvaluation:
    """An evaluation with what it left."""

    evaluation: Evaluation
    artifacts: tuple[str, ...]
    """Names of its files: plots, tables, explanations."""


class Evaluations:
    """Finds them."""

    def __init__(
        self, database: Database, find_model: FindModel, grants: GrantService, files: Callable[[], ArtifactFiles]
    ) -> None:
        """`files` are MLflow's artifacts, once it is loaded."""
        self._database = database
        self._find_model = find_model
        self._grants = grants
        self._files = files

    def list(self, principal: Principal, name: str, version: str, *, limit: int = 50) -> Sequence[SeenEvaluation]:
        """The newest of a version in runs that the principal may read, newest first. Raises NotFound."""
        model = canonical_model_name(name)
        with self._database.read() as connection:
            require(principal, Act.READ, self._find_model(connection, model))
            number = int(version) if version.isdecimal() and len(version) < 10 else 0
            if store.find_version(connection, model, number) is None:
                raise NotFound(f"Version '{version[:80]}' of model '{model}' does not exist.")
            found = _of_version(connection, model, number)
        readable = [each for each in found if allows(principal, Act.READ, each.securable)]
        return [SeenEvaluation(evaluation=each, artifacts=self._artifacts(each)) for each in readable[:limit]]

    def of(self, model: str, version: int) -> Sequence[Evaluation]:
        """All of a version, newest first."""
        with self._database.read() as connection:
            return _of_version(connection, model, version)

    def writers(self, evaluation: Evaluation) -> frozenset[str]:
        """Who besides administrators may write to its run."""
        experiment = experiment_securable(evaluation.experiment_id, None)
        granted = self._grants.granted(SYSTEM, lambda _connection: (experiment,))
        may = {each.grantee for each in granted if any(one.privilege is not Privilege.CAN_READ for one in each.granted)}
        return frozenset({*evaluation.securable.owners, *may})

    def _artifacts(self, evaluation: Evaluation) -> tuple[str, ...]:
        found = self._files().list(f"{evaluation.experiment_id}/{evaluation.run_id}/artifacts")
        return tuple(name for name, is_directory, _ in found if not is_directory)


def _of_version(connection: Connection, model: str, version: int) -> Sequence[Evaluation]:
    row = store.find_version(connection, model, version)
    places = (row.source, row.storage_location) if row else ()
    logged = next((found for place in places if place and (found := logged_model_of_source(place))), None)
    return evaluations_of(connection, logged) if logged else []


def _look(subject: Subject, params: Mapping[str, Any]) -> Looked:
    found, why = _trusted(subject, subject.version, params)
    if found is None:
        return False, why, {}
    name = params["metric"]
    own = found.metrics[name]
    details: dict[str, Any] = {"run_id": found.run_id, "value": own, "made_by": found.maker}
    if not params.get("minimum", own) <= own <= params.get("maximum", own):
        limits = " and ".join(f"{key} {params[key]}" for key in ("minimum", "maximum") if key in params)
        return False, f"{name} is {own:.6g} in run {found.run_id}; {limits} is asked for", details
    told = f"{name} is {own:.6g} in run {found.run_id}"
    if subject.champion is None or "margin" not in params:
        return True, told, details
    return _against_champion(subject, params, found, told, details)


def _against_champion(
    subject: Subject, params: Mapping[str, Any], found: Evaluation, told: str, details: Mapping[str, Any]
) -> Looked:
    assert subject.champion is not None
    same = {each.digest for each in _matching(found, params)}
    theirs, why = _trusted(subject, subject.champion, params, digests=same, any_age=True)
    if theirs is None:
        return False, f"version {subject.champion}, which it would replace, on the same data: {why}", details
    name = params["metric"]
    gain = found.metrics[name] - theirs.metrics[name]
    gain = gain if params["greater_is_better"] else -gain
    told = f"{told}, that of version {subject.champion} {theirs.metrics[name]:.6g}"
    details = {**details, "champion": theirs.metrics[name], "champion_run_id": theirs.run_id}
    if gain < params["margin"]:
        return False, f"{told}: it has to be better by {params['margin']}", details
    return True, told, details


def _trusted(
    subject: Subject, version: int, params: Mapping[str, Any], *, digests: set[str] | None = None, any_age: bool = False
) -> tuple[Evaluation | None, str]:
    """The newest evaluation that counts; or why there is none."""
    oldest = utc_now() - timedelta(days=params["max_age_days"]) if "max_age_days" in params and not any_age else None
    reasons = []
    for each in subject.tools.evaluations(version):
        data = {one.digest for one in _matching(each, params)}
        if params["metric"] not in each.metrics or not data or (digests is not None and not data & digests):
            continue
        why_not = _distrusted(subject, each, params)
        if not why_not and (oldest is None or each.at >= oldest):
            return each, ""
        reasons.append(f"run {each.run_id} {why_not or 'is too old'}")
    wanted = f"there is no evaluation of version {version} with {params['metric']} on the data set that counts"
    return None, "; ".join([wanted, *reasons[:5]])


def _distrusted(subject: Subject, evaluation: Evaluation, params: Mapping[str, Any]) -> str:
    by = set(params["by"])
    if evaluation.status != _FINISHED:
        return f"is {evaluation.status.lower()}"
    if evaluation.maker not in by:
        return f"was made by {evaluation.maker}"
    if evaluation.maker == subject.author and not params.get("author_may_evaluate"):
        return "was made by who made the version"
    others = sorted(subject.tools.writers(evaluation) - by)
    return f"may be written by {', '.join(others[:5])}" if others else ""


def _matching(evaluation: Evaluation, params: Mapping[str, Any]) -> list[EvaluationData]:
    table, version = params.get("table"), params.get("table_version")
    return [
        each
        for each in evaluation.datasets
        if params.get("dataset", each.name) == each.name
        and (table is None or (each.table.lower(), each.table_version) == (table.lower(), version))
    ]


def _inspect(params: Mapping[str, Any]) -> None:
    if not params["by"] or not all(isinstance(name, str) for name in params["by"]):
        raise InvalidArgument("Check 'evaluation': 'by' lists whose evaluations count.")
    if ("table" in params) != ("table_version" in params):
        raise InvalidArgument("Check 'evaluation': 'table' and 'table_version' belong together.")
    if not {"dataset", "table"} & set(params):
        raise InvalidArgument("Check 'evaluation' needs 'dataset', the name of the data set, or 'table'.")
    if "margin" in params and "greater_is_better" not in params:
        raise InvalidArgument("Check 'evaluation': 'margin' needs 'greater_is_better', true or false.")
    if not {"minimum", "maximum", "margin"} & set(params):
        raise InvalidArgument("Check 'evaluation' needs a 'minimum', a 'maximum' or a 'margin'.")


EVALUATION = PlainCheck(
    name="evaluation",
    types={
        "by": (list,), "metric": (str,), "minimum": NUMBER, "maximum": NUMBER, "margin": NUMBER,
        "greater_is_better": (bool,), "dataset": (str,), "table": (str,), "table_version": (int,),
        "max_age_days": NUMBER, "author_may_evaluate": (bool,),
    },
    look=_look,
    required=("by", "metric"),
    inspect=_inspect,
)  # fmt: skip
