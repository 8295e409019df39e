"""Versions of a model side by side, as a tab of its page; and what evaluations found about one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from millpond.kernel.clock import epoch_ms
from millpond.kernel.errors import InvalidArgument, MillpondError, NotFound
from millpond.registry.evaluations import SeenEvaluation
from millpond.ui import urls
from millpond.ui.elements import Cell, DataTable, Rows, Tab, TableColumn, card, el, empty_state, filter_form
from millpond.ui.model_files import Field, ModelCard, read_card
from millpond.ui.tracking import RegisteredModel, Run, Version
from millpond.ui.visit import Visit

TAB = "compare"
MAX_VERSIONS = 6
_MAX_REQUIREMENTS = 1 << 20
_MAX_ROWS = 500

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Side:
    """A version, and what is known of it; None where it cannot be read."""

    version: Version
    aliases: tuple[str, ...]
    run: Run | None
    card: ModelCard | None
    requirements: Mapping[str, str] | None
    """What is asked for of each package."""
    evaluated: Mapping[str, float]
    """Metrics of its newest evaluation."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line: what each version says; None where it says nothing."""

    label: str
    values: tuple[str | None, ...]

    @property
    def differs(self) -> bool:
        """Whether the versions do not agree."""
        return len(set(self.values)) > 1


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What the tab shows."""

    sides: tuple[Side, ...]
    parts: tuple[tuple[str, tuple[Row, ...]], ...]


def compare_tab(visit: Visit) -> Tab:
    """The tab itself."""
    return Tab(key=TAB, label="Compare", href=visit.link(tab=TAB, page=None))


def load_comparison(visit: Visit, model: RegisteredModel, known: Sequence[Version]) -> Comparison | None:
    """What the tab needs, when it is the open one. Raises NotFound, InvalidArgument."""
    if visit.query.get("tab") != TAB:
        return None
    sides = tuple(_side(visit, model, number) for number in _asked(visit, model, known))
    return Comparison(sides=sides, parts=compared(sides))


def compared(sides: Sequence[Side]) -> tuple[tuple[str, tuple[Row, ...]], ...]:
    """The parts of a comparison with their lines."""
    cards = [side.card for side in sides]
    return (
        ("About", _about(sides)),
        ("Metrics", _rows([_numbers(side.run.metrics) if side.run else None for side in sides])),
        ("Newest evaluation", _rows([_numbers(side.evaluated) for side in sides])),
        ("Parameters", _rows([side.run.params if side.run else None for side in sides])),
        ("Tags", _rows([_shown_tags(side.version.tags) for side in sides])),
        ("Inputs", _rows([_fields(found.inputs) if found else None for found in cards])),
        ("Outputs", _rows([_fields(found.outputs) if found else None for found in cards])),
        ("Inference parameters", _rows([_fields(found.params) if found else None for found in cards])),
        ("Requirements", _rows([side.requirements for side in sides])),
    )


def _about(sides: Sequence[Side]) -> tuple[Row, ...]:
    says: Mapping[str, Callable[[Side], str]] = {
        "Stage": lambda side: side.version.stage,
        "Aliases": lambda side: ", ".join(f"@{alias}" for alias in side.aliases),
        "Made by": lambda side: side.version.user,
        "Run": lambda side: side.run.name if side.run else side.version.run_id,
        "Trained on": lambda side: ", ".join(name for name, _ in side.run.inputs) if side.run else "",
        "Flavors": lambda side: ", ".join(side.card.flavors) if side.card else "",
        "Description": lambda side: side.version.description[:300],
    }
    return tuple(Row(label=label, values=tuple(say(side) or None for side in sides)) for label, say in says.items())


def _rows(columns: Sequence[Mapping[str, str] | None]) -> tuple[Row, ...]:
    """One line for each name that any has, in the order in which they name them."""
    names = dict.fromkeys(name for column in columns for name in column or ())
    return tuple(Row(label=name, values=tuple((column or {}).get(name) for column in columns)) for name in names)


def _numbers(metrics: Mapping[str, float]) -> dict[str, str]:
    return {name: f"{value:.6g}" for name, value in sorted(metrics.items())}


def _shown_tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in sorted(tags.items()) if not key.startswith("mlflow.")}


def _fields(fields: Sequence[Field]) -> dict[str, str]:
    return {field.name or "–": f"{field.type}{'' if field.required else ', optional'}" for field in fields}


def requirements_of(text: str) -> dict[str, str]:
    """What is asked for of each package, from a requirements file; a line that is no requirement stands for itself."""
    found: dict[str, str] = {}
    for line in filter(None, (line.partition("#")[0].strip() for line in text.splitlines())):
        try:
            requirement = Requirement(line)
            found[str(canonicalize_name(requirement.name))] = str(requirement.specifier) or "any"
        except InvalidRequirement:
            found[line] = "yes"
    return dict(sorted(found.items()))


def _asked(visit: Visit, model: RegisteredModel, known: Sequence[Version]) -> list[str]:
    """The versions of the address; else the newest, and the one that has an alias or came before."""
    said = [part.strip() for part in visit.query.get("versions", "").split(",") if part.strip()]
    if len(said) > MAX_VERSIONS:
        raise InvalidArgument(f"At most {MAX_VERSIONS} versions are compared at once.")
    if said:
        return list(dict.fromkeys(said))
    newest = [version.version for version in known[:2]]
    aliased = [version for version in model.aliases.values() if version not in newest[:1]]
    return [*newest[:1], *(aliased or newest[1:])[:1]]


def _side(visit: Visit, model: RegisteredModel, number: str) -> Side:
    who, services = visit.principal, visit.services
    version = services.tracking.get_version(who, model.name, number)
    evaluations = services.registry.evaluations.list(who, model.name, number, limit=1)
    return Side(
        version=version,
        aliases=model.aliases_of(number),
        run=_or_none(lambda: services.tracking.get_run(who, version.run_id)) if version.run_id else None,
        card=_or_none(lambda: read_card(services.model_files, who, model.name, number)),
        requirements=_or_none(lambda: _requirements(visit, model.name, number)),
        evaluated=evaluations[0].evaluation.metrics if evaluations else {},
    )


def _requirements(visit: Visit, name: str, number: str) -> dict[str, str]:
    files = visit.services.model_files
    raw = files.read(visit.principal, name, number, "requirements.txt", max_bytes=_MAX_REQUIREMENTS)
    return requirements_of(raw.decode(errors="replace"))


def _or_none(read: Callable[[], T]) -> T | None:
    """What may be gone, or another's."""
    try:
        return read()
    except MillpondError:
        return None


def draw_comparison(data: Comparison) -> None:
    """The tab's content."""
    with el("div", cls="mp-stack"):
        shown = ", ".join(side.version.version for side in data.sides)
        filter_form(
            label="Versions to compare", value=shown, name="versions", keep=[("tab", TAB)], placeholder="such as 3, 2"
        )
        if len(data.sides) < 2:
            empty_state("One version", "Name another one to see what is different.", symbol="compare")
            return
        for title, rows in data.parts:
            if rows:
                with card(title):
                    _draw_part(title, data.sides, rows)


def _draw_part(title: str, sides: Sequence[Side], rows: Sequence[Row]) -> None:
    lines: Rows = [
        [
            Cell(text=row.label, badges=(("differs", "warn"),) if row.differs else ()),
            *(Cell(text=value if value is not None else "–") for value in row.values),
        ]
        for row in sorted(rows, key=lambda row: not row.differs)[:_MAX_ROWS]
    ]
    heads = [TableColumn(label=f"Version {side.version.version}", grow=True) for side in sides]
    DataTable(label=title, columns=(TableColumn(label="Name"), *heads), rows=lines)


def load_evaluations(visit: Visit, name: str, version: str) -> Sequence[SeenEvaluation]:
    """The newest evaluations of a version that the person may read."""
    try:
        return visit.services.registry.evaluations.list(visit.principal, name, version, limit=10)
    except NotFound:
        return ()


def draw_evaluations(found: Sequence[SeenEvaluation]) -> None:
    """Which runs evaluated a version, on what, and what came out."""
    rows: Rows = [
        [
            Cell(
                text=each.evaluation.run_name,
                href=urls.mlflow_run_url(each.evaluation.experiment_id, each.evaluation.run_id),
            ),
            each.evaluation.maker,
            Cell(text=", ".join(data.table or data.name for data in each.evaluation.datasets)),
            Cell(text=", ".join(f"{name} {value}" for name, value in _numbers(each.evaluation.metrics).items())[:400]),
            Cell(text=f"{len(each.artifacts)} files"),
            Cell(time_ms=epoch_ms(each.evaluation.at)),
        ]
        for each in found
    ]
    columns = (
        TableColumn(label="Run"),
        TableColumn(label="By", short=True),
        TableColumn(label="Data"),
        TableColumn(label="Metrics", grow=True),
        TableColumn(label="Plots and tables", optional=True),
        TableColumn(label="When"),
    )
    DataTable(label="Evaluations", columns=columns, rows=rows)
