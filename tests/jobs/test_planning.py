"""What happens next in a run, over all that can happen to its tasks."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond.jobs.domain import Kind, Need, Result, Run, RunIf, State, TaskRun, TaskSpec
from millpond.jobs.planning import Begin, End, Finish, Retry, current, plan, readiness, repaired
from millpond.jobs.references import holds, looking, resolved

NOW = datetime(2026, 1, 1, tzinfo=UTC)
GOOD, BAD, GONE, LEFT = Result.SUCCESS, Result.FAILED, Result.CANCELED, Result.EXCLUDED
NONE, UPSTREAM = Result.NONE, Result.UPSTREAM_FAILED


@pytest.mark.parametrize(
    ("run_if", "results", "verdict"),
    [
        (RunIf.ALL_SUCCESS, (GOOD, GOOD), NONE),
        (RunIf.ALL_SUCCESS, (GOOD, BAD), UPSTREAM),
        (RunIf.ALL_SUCCESS, (GOOD, GONE), Result.UPSTREAM_CANCELED),
        (RunIf.ALL_SUCCESS, (GOOD, LEFT), LEFT),
        (RunIf.AT_LEAST_ONE_SUCCESS, (GOOD, BAD), NONE),
        (RunIf.AT_LEAST_ONE_SUCCESS, (BAD, LEFT), UPSTREAM),
        (RunIf.NONE_FAILED, (GOOD, LEFT), NONE),
        (RunIf.NONE_FAILED, (GOOD, UPSTREAM), UPSTREAM),
        (RunIf.NONE_FAILED, (LEFT, LEFT), LEFT),
        (RunIf.ALL_DONE, (BAD, GONE, LEFT), NONE),
        (RunIf.AT_LEAST_ONE_FAILED, (GOOD, BAD), NONE),
        (RunIf.AT_LEAST_ONE_FAILED, (GOOD, GOOD), LEFT),
        (RunIf.ALL_FAILED, (BAD, Result.TIMED_OUT), NONE),
        (RunIf.ALL_FAILED, (BAD, GOOD), LEFT),
        (RunIf.ALL_FAILED, (), NONE),
    ],
)
def test_run_if_says_when_a_task_runs(run_if: RunIf, results: tuple[Result, ...], verdict: Result) -> None:
    assert readiness(run_if, results) is verdict


def run_of(**changes: object) -> Run:
    known = Run(
        id=1, job_id=1, name="", creator="", run_as="", settings={}, parameters={}, trigger="", state=State.RUNNING,
        result=NONE, message="", cancelled=False, depth=0, parent_run_id=None, created_at=NOW, started_at=NOW,
        ended_at=None,
    )  # fmt: skip
    return replace(known, **changes)


@st.composite
def graphs(draw: st.DrawFn) -> list[TaskSpec]:
    """Tasks that depend on some of those before them."""
    specs = []
    for number in range(draw(st.integers(1, 7))):
        needs = draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        specs.append(
            TaskSpec(
                key=str(number), kind=Kind.PYTHON, needs=tuple(Need(key=str(each)) for each in sorted(needs)),
                run_if=draw(st.sampled_from(RunIf)), max_retries=draw(st.integers(0, 2)),
                disabled=draw(st.integers(0, 9)) == 0,
            )
        )  # fmt: skip
    return specs


class Simulation:
    """Carries out what is planned; processes end as is drawn."""

    def __init__(self, specs: list[TaskSpec]) -> None:
        self.run, self.specs, self.now, self.ids = run_of(), specs, NOW, len(specs)
        self.tasks = [TaskRun(id=number, run_id=1, key=spec.key) for number, spec in enumerate(specs)]
        self.finished: list[Result] = []

    def put(self, task: TaskRun, **changes: object) -> None:
        self.tasks = [replace(each, **changes) if each.id == task.id else each for each in self.tasks]

    def settle(self) -> None:
        while steps := plan(self.run, self.specs, self.tasks, self.now):
            for step in steps:
                match step:
                    case Begin(task=task):
                        self.check_turn(task)
                        self.put(task, state=State.RUNNING)
                    case End(task=task, result=result):
                        assert not task.ended
                        self.put(task, state=State.ENDED, result=result)
                    case Retry(task=task):
                        self.tasks.append(replace(
                            task, id=self.ids, attempt=task.attempt + 1, retry=task.retry + 1, state=State.WAITING,
                            result=NONE, due_at=step.due_at))  # fmt: skip
                        self.ids += 1
                    case Finish(result=result):
                        self.finished.append(result)
                        self.run = replace(self.run, state=State.ENDED, result=result)

    def check_turn(self, task: TaskRun) -> None:
        now_of = current(self.tasks)
        spec = next(each for each in self.specs if each.key == task.key)
        assert all(now_of[need.key].ended for need in spec.needs)
        assert not self.run.cancelled
        assert task.retry <= spec.max_retries
        assert not spec.disabled


@given(graphs(), st.data())
def test_every_run_ends_once_and_no_task_runs_before_its_time_or_too_often(
    specs: list[TaskSpec], data: st.DataObject
) -> None:
    simulation = Simulation(specs)
    simulation.settle()
    while running := [task for task in simulation.tasks if task.state is State.RUNNING]:
        if data.draw(st.integers(0, 19)) == 0:
            simulation.run = replace(simulation.run, cancelled=True)
        task = data.draw(st.sampled_from(running))
        simulation.put(task, state=State.ENDED, result=data.draw(st.sampled_from([GOOD, BAD, Result.TIMED_OUT])))
        simulation.settle()
    assert len(simulation.finished) == 1
    assert all(task.ended for task in simulation.tasks)
    if simulation.run.cancelled:
        assert simulation.finished == [GONE]
    elif all(task.result is GOOD for task in current(simulation.tasks).values()):
        assert simulation.finished == [GOOD]


def test_a_run_over_its_time_ends_what_has_not_begun_and_waits_for_what_runs() -> None:
    specs = [TaskSpec(key=key, kind=Kind.PYTHON) for key in "ab"]
    running, queued = (TaskRun(id=number, run_id=1, key=key) for number, key in enumerate("ab"))
    running, queued = replace(running, state=State.RUNNING), replace(queued, state=State.QUEUED)
    run, late = run_of(settings={"timeout_seconds": 60}), NOW + timedelta(seconds=61)
    assert plan(run, specs, [running, queued], NOW) == []
    assert plan(run, specs, [running, queued], late) == [End(task=queued, result=Result.TIMED_OUT)]


def test_a_repair_takes_what_failed_and_what_was_skipped_for_it() -> None:
    specs = [TaskSpec(key="a", kind=Kind.PYTHON), TaskSpec(key="b", kind=Kind.PYTHON, needs=(Need(key="a"),)),
             TaskSpec(key="c", kind=Kind.PYTHON)]  # fmt: skip
    now_of = {key: TaskRun(id=0, run_id=1, key=key, state=State.ENDED, result=result)
              for key, result in (("a", BAD), ("b", UPSTREAM), ("c", GOOD))}  # fmt: skip
    assert repaired(specs, now_of, None, dependents=True) == {"a", "b"}
    assert repaired(specs, now_of, ["c"], dependents=False) == {"c"}


def test_references_are_replaced_in_all_texts_and_unknown_ones_stay() -> None:
    look = looking({"job.run_id": "7"}, {"day": "mon"}, {"t": {"rows": {"n": 3}}}, {"t": "SUCCESS"}, {"x": [1]})
    told = ["{{job.run_id}}/{{ job.parameters.day }}", {"k": "{{tasks.t.values.rows.n}} {{tasks.t.values.rows}}"},
            "{{tasks.t.result_state}} {{input.x}} {{nothing.here}}", 5]  # fmt: skip
    assert resolved(told, look) == ["7/mon", {"k": '3 {"n": 3}'}, "success [1] {{nothing.here}}", 5]


def test_conditions_compare_texts_and_numbers() -> None:
    assert [holds("EQUAL_TO", "1.0", "1"), holds("GREATER_THAN", "10", "9"), holds("NOT_EQUAL", "a", "b")] == [
        False, True, True,
    ]  # fmt: skip
