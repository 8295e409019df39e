"""What the form of a job shows of its settings, and what of them it changes. Pure; the rest of the settings stays."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from millpond.kernel.errors import InvalidArgument

MOST_TEXT = 500_000

Look = Literal["text", "number", "lines", "pairs", "warehouse", "query", "alert", "job", "pipeline", "operator"]


@dataclass(frozen=True, kw_only=True)
class Field:
    """A field of a task's body, by its path there, and how it is written."""

    path: str
    label: str
    look: Look = "text"
    hint: str = ""
    optional: bool = False
    """Whether it may be left out, where it is a choice."""


@dataclass(frozen=True, kw_only=True)
class Does:
    """A kind of task as the form has it: some bodies of one kind of the Jobs API."""

    key: str
    label: str
    kind: str
    fields: tuple[Field, ...]


_PARAMETERS = Field(path="parameters", label="Parameters, one a line", look="lines")
_WAREHOUSE = Field(path="warehouse_id", label="Warehouse", look="warehouse")
_SQL_PARAMETERS = Field(path="parameters", label="Parameters, name = value", look="pairs")
DOES: tuple[Does, ...] = (
    Does(key="notebook", label="Notebook", kind="notebook_task", fields=(
        Field(path="notebook_path", label="Notebook", hint="/Users/ann@example.com/train"),
        Field(path="base_parameters", label="Parameters, name = value", look="pairs"),
    )),
    Does(key="script", label="Python script", kind="spark_python_task", fields=(
        Field(path="python_file", label="Script", hint="/Volumes/main/ml/scripts/train.py"), _PARAMETERS,
    )),
    Does(key="wheel", label="Python wheel", kind="python_wheel_task", fields=(
        Field(path="package_name", label="Package"), Field(path="entry_point", label="Entry point"), _PARAMETERS,
    )),
    Does(key="query", label="Saved query", kind="sql_task", fields=(
        Field(path="query.query_id", label="Query", look="query"), _WAREHOUSE, _SQL_PARAMETERS,
    )),
    Does(key="file", label="SQL file", kind="sql_task", fields=(
        Field(path="file.path", label="File", hint="/Users/ann@example.com/load.sql"), _WAREHOUSE, _SQL_PARAMETERS,
    )),
    Does(key="alert", label="SQL alert (older form)", kind="sql_task", fields=(
        Field(path="alert.alert_id", label="Alert", look="alert"), _WAREHOUSE,
    )),
    Does(key="alert_task", label="Alert", kind="alert_task", fields=(
        Field(path="alert_id", label="Alert", look="alert"),
        Field(path="warehouse_id", label="Warehouse", look="warehouse", optional=True),
        Field(path="parameters", label="Parameters, name = value", look="pairs"),
    )),
    Does(key="dbt", label="dbt", kind="dbt_task", fields=(
        Field(path="project_directory", label="Project", hint="/Volumes/main/ml/project"),
        Field(path="commands", label="Commands, one a line", look="lines", hint="dbt run"),
        Field(path="warehouse_id", label="Warehouse", look="warehouse", optional=True),
    )),
    Does(key="job", label="Another job", kind="run_job_task", fields=(
        Field(path="job_id", label="Job", look="job"),
        Field(path="job_parameters", label="Parameters, name = value", look="pairs"),
    )),
    Does(key="pipeline", label="Pipeline", kind="pipeline_task", fields=(
        Field(path="pipeline_id", label="Pipeline", look="pipeline"),
    )),
    Does(key="condition", label="Condition", kind="condition_task", fields=(
        Field(path="left", label="Left"), Field(path="op", label="Is", look="operator"),
        Field(path="right", label="Right"),
    )),
)  # fmt: skip
OTHER = "other"
"""What has no form: its body is written as YAML."""


def does_of(task: Mapping[str, Any]) -> Does | None:
    """The form that holds all of what a task does; None where it takes YAML."""
    kind = kind_of(task)
    body = _leaves(task.get(kind) or {})
    for each in DOES:
        known = {field.path for field in each.fields}
        first = each.fields[0].path.split(".")[0]
        if each.kind == kind and set(body) <= known and (each.kind != "sql_task" or first in task[kind]):
            return each if _comes_back(each, task) else None
    return None


def _comes_back(does: Does, task: Mapping[str, Any]) -> bool:
    """Whether the form says what it was shown, as it does not of a parameter of two lines."""
    texts = {field.path: text_of(field, task, does) for field in does.fields}
    try:
        return body_of(does, texts) == (task.get(does.kind) or {})
    except InvalidArgument:
        return False


def kind_of(task: Mapping[str, Any]) -> str:
    """The field of the Jobs API that says what a task does; empty for none."""
    return next((name for name in task if name.endswith("_task")), "")


def _leaves(body: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Values by their paths; those of free names are one value."""
    found: dict[str, Any] = {}
    for name, value in body.items():
        inner = f"{before}{name}"
        nested = isinstance(value, Mapping) and inner in ("query", "file", "alert")
        found |= _leaves(value, f"{inner}.") if nested else {inner: value}
    return found


def text_of(field: Field, task: Mapping[str, Any], does: Does) -> str:
    """What a task's body has in a field, as the form shows it."""
    value = _leaves(task.get(does.kind) or {}).get(field.path)
    if value is None:
        return ""
    if field.look == "lines":
        return "\n".join(map(str, value))
    return pairs_text(value.items()) if field.look == "pairs" else str(value)


def body_of(does: Does, texts: Mapping[str, str]) -> dict[str, Any]:
    """The body that the form says. Raises InvalidArgument."""
    body: dict[str, Any] = {}
    for field in does.fields:
        value = _value(field, texts.get(field.path, ""))
        if value in ("", [], {}):
            continue
        *outer, name = field.path.split(".")
        place = body
        for each in outer:
            place = place.setdefault(each, {})
        place[name] = value
    return body


def _value(field: Field, text: str) -> Any:
    match field.look:
        case "lines":
            return [line for line in text.splitlines() if line]
        case "pairs":
            return dict(pairs(text, field.label))
        case "number" | "job":
            return whole(text, field.label) if text.strip() else ""
    return text.strip()


# -- texts ------------------------------------------------------------------------------------------------------------


def pairs(text: str, what: str) -> Sequence[tuple[str, str]]:
    """Names and values, one pair a line. Raises InvalidArgument."""
    found = []
    for line in filter(str.strip, text.splitlines()):
        name, sign, value = line.partition("=")
        if not sign or not name.strip():
            raise InvalidArgument(f"{what}: '{line[:80]}' is not name = value.")
        found.append((name.strip(), value.strip()))
    return found


def pairs_text(items: Iterable[tuple[str, Any]]) -> str:
    """The same as text."""
    return "\n".join(f"{name} = {value}" for name, value in items)


def shown_pairs(items: Sequence[tuple[str, Any]]) -> str | None:
    """The same, where it reads as the same pairs; else None, as for a value of two lines."""
    text = pairs_text(items)
    try:
        return text if pairs(text, "") == [*items] else None
    except InvalidArgument:
        return None


def names(text: str) -> list[str]:
    """Names with commas or blanks between them."""
    return text.replace(",", " ").replace(";", " ").split()


def whole(text: str, what: str) -> int:
    """A whole number. Raises InvalidArgument."""
    digits = text.strip().removeprefix("-")
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > 18:
        raise InvalidArgument(f"{what}: '{text.strip()[:40]}' is no whole number.")
    return int(text)


def put(settings: dict[str, Any], name: str, value: Any) -> None:
    """Set a field, or leave it out where the value is empty."""
    settings.pop(name, None)
    if value is not False and value not in ("", None, [], {}):
        settings[name] = value


def as_yaml(told: Mapping[str, Any]) -> str:
    """Settings as YAML."""
    import yaml  # type: ignore[import-untyped]  # ships no types; here, because few pages need it

    return str(yaml.safe_dump(dict(told), sort_keys=False, allow_unicode=True))


def from_yaml(text: str, what: str = "The settings") -> dict[str, Any]:
    """Settings that were written as YAML, or as JSON, which is some. Raises InvalidArgument saying what is wrong."""
    import yaml

    if len(text) > MOST_TEXT:
        raise InvalidArgument(f"{what} have more than {MOST_TEXT:,} characters.")
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise InvalidArgument(f"{what} have an alias (*name); write it out.")  # a few of which may mean gigabytes
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise InvalidArgument(f"{what} cannot be read{where}: {getattr(error, 'problem', None) or error}.") from error
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{what} cannot be read: {str(error)[:200]}.") from error
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise InvalidArgument(f"{what} are names and values, such as `name: nightly`.")
    return found


# -- what starts a job ------------------------------------------------------------------------------------------------

BY_HAND, CRON, EVERY, ALWAYS, AS_IT_IS = "hand", "cron", "every", "always", "as it is"
UNITS = ("MINUTES", "HOURS", "DAYS", "WEEKS")


def starts_of(settings: Mapping[str, Any]) -> str:
    """What starts a job, as the form has it."""
    if settings.get("schedule"):
        return CRON
    if settings.get("continuous"):
        return ALWAYS
    trigger = settings.get("trigger") or {}
    return EVERY if trigger.get("periodic") else AS_IT_IS if trigger else BY_HAND


def with_start(settings: dict[str, Any], start: str, texts: Mapping[str, str], *, paused: bool) -> None:
    """Have a job started so; what stays as it was is written as it was. Raises InvalidArgument."""
    before = {field: settings.pop(field, None) or {} for field in ("schedule", "continuous", "trigger")}

    def status(field: str) -> dict[str, str]:
        said = before[field].get("pause_status")
        if (said == "PAUSED") is paused:
            return {"pause_status": said} if said else {}
        return {"pause_status": "PAUSED" if paused else "UNPAUSED"}

    if start == CRON:
        settings["schedule"] = {
            "quartz_cron_expression": texts["cron"].strip(), "timezone_id": texts["zone"].strip(), **status("schedule"),
        }  # fmt: skip
    elif start == EVERY:
        periodic = {"interval": whole(texts["interval"], "Every"), "unit": texts["unit"]}
        settings["trigger"] = {"periodic": periodic, **status("trigger")}
    elif start == ALWAYS:
        settings["continuous"] = {**before["continuous"], **status("continuous")}
    elif start == AS_IT_IS:
        settings["trigger"] = {**before["trigger"], **status("trigger")}


# -- who is told ------------------------------------------------------------------------------------------------------

EVENTS = {"on_start": "starts", "on_success": "succeeds", "on_failure": "fails"}


def with_told(settings: dict[str, Any], event: str, addresses: Sequence[str], destinations: Sequence[str]) -> None:
    """Have addresses and destinations told of an event."""
    told = {"email_notifications": [*addresses], "webhook_notifications": [{"id": each} for each in destinations]}
    for field, value in told.items():
        part = dict(settings.get(field) or {})
        put(part, event, value)
        put(settings, field, part)
