"""A job made or changed in the browser: a form of what is mostly wanted, or all of its settings as YAML."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nicegui import ui
from nicegui.element import Element

from millpond.identity.access import Act, require
from millpond.identity.domain import Principal
from millpond.jobs.domain import Job
from millpond.jobs.references import OPERATIONS
from millpond.kernel.errors import Conflict, InvalidArgument
from millpond.ui import job_forms as forms
from millpond.ui import urls
from millpond.ui.elements import (
    CheckField,
    Crumb,
    SelectField,
    Tab,
    TextField,
    button,
    button_link,
    card,
    el,
    notice,
    page_header,
    tabs,
)
from millpond.ui.forms import form, labelled, submit
from millpond.ui.job_states import is_paused
from millpond.ui.pages.job import number_in
from millpond.ui.sql_completion import EditorTheme
from millpond.ui.visit import Page, Visit

_MOST = 200
_MOST_TASKS = 50
"""That the form shows: each is some twenty elements of the page."""
_YAML = "yaml"
_NEW: Mapping[str, Any] = {"name": "New job", "tasks": [{"task_key": "main"}]}
_STARTS = {forms.BY_HAND: "by hand", forms.CRON: "at times (cron)", forms.EVERY: "every so often",
           forms.ALWAYS: "always, one after the other"}  # fmt: skip
Choices = list[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class _Data:
    job: Job | None
    settings: Mapping[str, Any]
    choices: Mapping[str, Choices] = field(default_factory=dict)
    """Of fields that name something."""
    destinations: Choices = field(default_factory=list)


def _load(visit: Visit) -> _Data:
    job, who, services = None, visit.principal, visit.services
    if "job_id" in visit.path:
        job = services.jobs.service.get(who, number_in(visit.path, "job_id", "Job"))
        require(who, Act.MANAGE, job.securable)
    settings = {"name": job.name, **job.settings} if job else _NEW
    if visit.query.get("as") == _YAML:
        return _Data(job=job, settings=settings)
    sql = services.sql
    jobs = services.jobs.service.list(who, limit=_MOST).items
    choices = {
        "warehouse": [(each.id, each.spec.name) for each in sql.warehouses.list_all(who)],
        "query": [(each.id, each.draft.name) for each in sql.queries.list_page(who, max_results=_MOST).items],
        "alert": [(each.id, each.draft.name) for each in sql.alerts.list_page(who, max_results=_MOST).items],
        "job": [(str(each.id), each.name) for each in jobs if job is None or each.id != job.id],
        "pipeline": [
            (each.pipeline.id, each.pipeline.name) for each in services.pipelines.service.list(who, limit=_MOST).items
        ],
        "operator": [(each, each.replace("_", " ").lower()) for each in OPERATIONS],
    }
    destinations = [
        (each.id, each.name) for each in services.destinations.list(who, limit=_MOST, page_token=None).items
    ]
    return _Data(job=job, settings=settings, choices=choices, destinations=destinations)


def _draw(visit: Visit, data: _Data) -> None:
    crumbs = [Crumb(label="Jobs", href=urls.JOBS)]
    if data.job is not None:
        crumbs.append(Crumb(label=data.job.name, href=urls.job_url(data.job.id)))
    page_header("Edit job" if data.job else "New job", symbol="schema", crumbs=crumbs)
    items = [
        Tab(key="", label="Form", href=visit.link(**{"as": None})),
        Tab(key=_YAML, label="YAML", href=visit.link(**{"as": _YAML})),
    ]
    tabs(items, visit.query.get("as", ""), label="How it is written")
    saving = _Saving(visit, data)
    if visit.query.get("as") == _YAML:
        _draw_yaml(saving, data)
    else:
        _Form(saving, data).draw()


class _Saving:
    """Saves settings, or says why not."""

    def __init__(self, visit: Visit, data: _Data) -> None:
        self._visit = visit
        self._job = data.job

    def draw(self) -> None:
        """The buttons, and the place of what is wrong."""
        self._mistake = el("div", role="alert")
        with el("div", cls="mp-actions"):
            submit("Save")
            button_link("Cancel", urls.job_url(self._job.id) if self._job else urls.JOBS)

    async def save(self, settings: Callable[[], Mapping[str, Any]]) -> None:
        """Save what is given, and go to the job."""
        outcome = await self._visit.act(lambda who: self._saved(who, settings()))
        if outcome.value is not None:
            ui.navigate.to(urls.job_url(outcome.value))
            return
        self._mistake.clear()
        with self._mistake:
            notice(outcome.error, "bad")

    def _saved(self, who: Principal, settings: Mapping[str, Any]) -> int:
        service = self._visit.services.jobs.service
        if self._job is None:
            return service.create(who, settings).id
        now = service.get(who, self._job.id)
        if (now.settings, now.name) != (self._job.settings, self._job.name):
            raise Conflict("The job was changed meanwhile; load the page again, and change it as it is now.")
        service.reset(who, self._job.id, settings)
        return self._job.id


def _draw_yaml(saving: _Saving, data: _Data) -> None:
    async def save() -> None:
        await saving.save(lambda: forms.from_yaml(editor.value))

    with form(save, label="Settings", cls="mp-stack"):
        with card():
            el("p", "All settings, as the Jobs API has them; JSON will do too.", cls="mp-note")
            editor = ui.codemirror(forms.as_yaml(data.settings), language="YAML", theme="vscodeLight")
            editor.classes("mp-editor").style("height: 60vh")
            editor.props["aria-label"] = "Settings as YAML"
            EditorTheme(editor)
        saving.draw()


class _Form:
    """The fields of a job, and what they say."""

    def __init__(self, saving: _Saving, data: _Data) -> None:
        self._saving = saving
        self._data = data
        self._tasks: list[_Task] = []
        self._texts: dict[str, TextField | SelectField] = {}

    def draw(self) -> None:
        """Draw all."""
        settings = self._data.settings
        with form(self._save, label="Job", cls="mp-stack"):
            with card("The job"):
                self._draw_about(settings)
            with card("Tasks"):
                self._draw_tasks(settings.get("tasks") or ())
            with card("What starts it"):
                self._draw_start(settings)
            with card("Who is told"):
                self._draw_told(settings)
            self._saving.draw()

    def _text(self, name: str, label: str, value: object, **more: Any) -> TextField:
        with labelled(label):
            made = TextField(label=label, value="" if value is None else str(value), **more)
        self._texts[name] = made
        return made

    def _draw_about(self, settings: Mapping[str, Any]) -> None:
        with el("div", cls="mp-row mp-form mp-filters"):
            self._text("name", "Name", settings.get("name"))
            self._text("description", "Description", settings.get("description"))
            self._text("most", "Runs at once", settings.get("max_concurrent_runs"), placeholder="1")
            self._text("timeout", "Ended after seconds", settings.get("timeout_seconds"), placeholder="never")
        self._queue = CheckField(
            "Over that, runs wait for their turn", checked=bool((settings.get("queue") or {}).get("enabled"))
        )
        parameters = [(each["name"], each["default"]) for each in settings.get("parameters") or ()]
        with el("div", cls="mp-row mp-form mp-wide-fields"):
            self._pairs("parameters", "Parameters, name = default", parameters)
            self._pairs("tags", "Tags, name = value", [*(settings.get("tags") or {}).items()])

    def _pairs(self, name: str, label: str, items: Sequence[tuple[str, Any]]) -> None:
        """A field of names and values, where lines can hold them."""
        text = forms.shown_pairs(items)
        if text is None:
            el("p", f"The {name} do not fit on lines; they stay as they are. Change them as YAML.")
        else:
            self._text(name, label, text, lines=3)

    # -- tasks ----------------------------------------------------------------------------------------------------

    def _draw_tasks(self, tasks: Sequence[Mapping[str, Any]]) -> None:
        self._has_all = len(tasks) <= _MOST_TASKS
        if not self._has_all:
            el("p", f"There are {len(tasks)}, too many for a form; they stay as they are. Change them as YAML.")
            return
        self._place = el("div", cls="mp-stack")
        for task in tasks:
            self._add(task)
        button("Add a task", self._add_new, symbol="add").style("margin-top: 12px")

    def _add(self, task: Mapping[str, Any]) -> None:
        with self._place:
            self._tasks.append(_Task(task, self._data.choices, self._remove))

    def _add_new(self) -> None:
        before = [each.key.value for each in self._tasks]
        number = next(number for number in range(len(before) + 1, 10_000) if f"task_{number}" not in before)
        task: dict[str, Any] = {"task_key": f"task_{number}"}
        self._add({**task, "depends_on": [{"task_key": before[-1]}]} if before else task)

    def _remove(self, task: "_Task") -> None:
        self._tasks.remove(task)
        task.place.delete()

    # -- when, and who is told --------------------------------------------------------------------------------------

    def _draw_start(self, settings: Mapping[str, Any]) -> None:
        now, schedule = forms.starts_of(settings), settings.get("schedule") or {}
        periodic = (settings.get("trigger") or {}).get("periodic") or {}
        other = {forms.AS_IT_IS: "its trigger, as in YAML"} if now == forms.AS_IT_IS else {}
        parts: dict[str, Element] = {}

        def show() -> None:
            for start, part in parts.items():
                part.set_visibility(self._start.value == start)

        with el("div", cls="mp-row mp-form"):
            with labelled("It starts"):
                choices = [*{**_STARTS, **other}.items()]
                self._start = SelectField(label="It starts", choices=choices, value=now)
            self._start.element.on("change", show, args=[])
            with el("div", cls="mp-contents") as parts[forms.CRON]:
                cron = schedule.get("quartz_cron_expression", "0 0 6 * * ?")
                self._text("cron", "Quartz cron expression", cron, title="Seconds, minutes, hours, day, month, weekday")
                self._text("zone", "Time zone", schedule.get("timezone_id", "UTC"))
            with el("div", cls="mp-contents") as parts[forms.EVERY]:
                self._text("interval", "Every", periodic.get("interval", 1))
                with labelled("Of them"):
                    units = [(unit, unit.lower()) for unit in forms.UNITS]
                    unit = SelectField(label="Of them", choices=units, value=periodic.get("unit", "HOURS"))
                self._texts["unit"] = unit
        self._paused = CheckField("Paused", checked=is_paused(settings))
        show()

    def _draw_told(self, settings: Mapping[str, Any]) -> None:
        self._hooks: dict[str, dict[str, CheckField]] = {}
        mails, hooks = settings.get("email_notifications") or {}, settings.get("webhook_notifications") or {}
        with el("div", cls="mp-row mp-form"):
            for event, words in forms.EVENTS.items():
                self._text(
                    event,
                    f"By e-mail when it {words}",
                    ", ".join(mails.get(event) or ()),
                    placeholder="ann@example.com",
                )
        for event, words in forms.EVENTS.items():
            chosen = {each["id"] for each in hooks.get(event) or ()}
            if self._data.destinations:
                with el("fieldset", cls="mp-checks"):
                    el("legend", f"Destinations told when it {words}")
                    self._hooks[event] = {
                        key: CheckField(name, checked=key in chosen) for key, name in self._data.destinations
                    }

    # -- what they say --------------------------------------------------------------------------------------------

    async def _save(self) -> None:
        await self._saving.save(self._settings)

    def _settings(self) -> dict[str, Any]:
        """What the form says, over what it does not show. Raises InvalidArgument."""
        texts = {name: each.value for name, each in self._texts.items()}
        found = dict(self._data.settings)
        for name in ("name", "description"):
            forms.put(found, name, texts[name].strip())
        for name, text, what in (
            ("max_concurrent_runs", texts["most"], "Runs at once"),
            ("timeout_seconds", texts["timeout"], "Ended after seconds"),
        ):
            forms.put(found, name, forms.whole(text, what) if text.strip() else None)
        if self._queue.checked is not bool((found.get("queue") or {}).get("enabled")):
            found["queue"] = {"enabled": self._queue.checked}
        if "parameters" in texts:
            parameters = forms.pairs(texts["parameters"], "Parameters")
            forms.put(found, "parameters", [{"name": name, "default": value} for name, value in parameters])
        if "tags" in texts:
            forms.put(found, "tags", dict(forms.pairs(texts["tags"], "Tags")))
        if self._has_all:
            forms.put(found, "tasks", [each.task() for each in self._tasks])
        forms.with_start(found, self._start.value, texts, paused=self._paused.checked)
        for event in forms.EVENTS:
            shown = self._hooks.get(event, {})
            before = [each["id"] for each in (found.get("webhook_notifications") or {}).get(event) or ()]
            hooks = [key for key in before if key not in shown]
            hooks += [key for key, each in shown.items() if each.checked]
            forms.with_told(found, event, forms.names(texts[event]), hooks)
        return found


class _Task:
    """The fields of one task."""

    def __init__(
        self, task: Mapping[str, Any], choices: Mapping[str, Choices], remove: Callable[["_Task"], None]
    ) -> None:
        self._task = task
        self._choices = choices
        self._texts: dict[str, TextField | SelectField] = {}
        self._yaml: TextField | None = None
        key = task["task_key"]
        with el("section", cls="mp-task", aria_label=f"Task {key}") as self.place:
            with el("div", cls="mp-row mp-form"):
                with labelled("Task"):
                    self.key = TextField(label="Task", value=key, maxlength="100")
                with labelled("Does"):
                    does = [(each.key, each.label) for each in forms.DOES]
                    self._does = SelectField(
                        label="Does", choices=[*does, (forms.OTHER, "Other, as YAML")], value=self._now
                    )
                with labelled("After"):
                    needs = ", ".join(each["task_key"] for each in task.get("depends_on") or ())
                    self._after = TextField(label="After", value=needs, placeholder="tasks before it")
                with labelled("Retries"):
                    self._retries = TextField(
                        label="Retries", value=_number(task.get("max_retries")), placeholder="none"
                    )
                with labelled("Ended after seconds"):
                    timeout = _number(task.get("timeout_seconds"))
                    self._timeout = TextField(label="Ended after seconds", value=timeout, placeholder="never")
                button("Remove", lambda: remove(self), symbol="close", aria_label=f"Remove task {key}")
            self._body = el("div")
            self._does.element.on("change", self._draw_body, args=[])
            self._draw_body()

    @property
    def _now(self) -> str:
        """As what the form shows it."""
        does = forms.does_of(self._task) if forms.kind_of(self._task) else forms.DOES[0]
        return does.key if does else forms.OTHER

    def _draw_body(self) -> None:
        self._body.clear()
        self._texts, self._yaml = {}, None
        does = _does(self._does.value)
        with self._body:
            if does is None:
                self._draw_other()
                return
            with el("div", cls="mp-row mp-form mp-wide-fields"):
                for each in does.fields:
                    with labelled(each.label):
                        self._texts[each.path] = self._field(each, does)

    def _draw_other(self) -> None:
        kind = forms.kind_of(self._task)
        shown = {name: value for name, value in self._task.items() if name == kind}
        with el("div", cls="mp-row mp-wide-fields"), labelled("What it does, as the Jobs API has it"):
            text = forms.as_yaml(shown) if shown else ""
            hint = "python_wheel_task:\n  package_name: ..."
            self._yaml = TextField(label="What the task does", value=text, lines=5, placeholder=hint)

    def _field(self, each: forms.Field, does: forms.Does) -> TextField | SelectField:
        value = forms.text_of(each, self._task, does)
        if each.look in self._choices:
            choices = [("", "none")] * each.optional + self._choices[each.look]
            if value and value not in dict(choices):
                choices = [*choices, (value, value)]
            chosen = value or (choices[0][0] if choices else "")
            return SelectField(label=each.label, choices=choices, value=chosen)
        lines = 2 if each.look in ("lines", "pairs") else 1
        return TextField(label=each.label, value=value, lines=lines, placeholder=each.hint)

    def task(self) -> dict[str, Any]:
        """What the fields say, over what they do not show. Raises InvalidArgument."""
        found = dict(self._task)
        found.pop(forms.kind_of(found), None)
        found["task_key"] = self.key.value.strip()
        what = f"Task '{found['task_key']}'"
        before = {each["task_key"]: each for each in self._task.get("depends_on") or ()}
        needs = [before.get(key, {"task_key": key}) for key in forms.names(self._after.value)]
        forms.put(found, "depends_on", needs)
        for name, each in (("max_retries", self._retries), ("timeout_seconds", self._timeout)):
            forms.put(found, name, forms.whole(each.value, f"{what}, {name}") if each.value.strip() else None)
        does = _does(self._does.value)
        if does is not None:
            found[does.kind] = forms.body_of(does, {path: each.value for path, each in self._texts.items()})
            return found
        body = forms.from_yaml(self._yaml.value if self._yaml else "", what)
        if len(body) != 1 or not next(iter(body)).endswith("_task"):
            raise InvalidArgument(f"{what} says one thing that it does, such as python_wheel_task and its fields.")
        return found | body


def _number(value: object) -> str:
    return "" if value is None else str(value)


def _does(key: str) -> forms.Does | None:
    return next((each for each in forms.DOES if each.key == key), None)


PAGES = (
    Page(path="/jobs/new", section="jobs", load=_load, draw=_draw, title=lambda _visit, _data: "New job"),
    Page(path="/jobs/{job_id}/edit", section="jobs", load=_load, draw=_draw, title=lambda _visit, _data: "Edit job"),
)
