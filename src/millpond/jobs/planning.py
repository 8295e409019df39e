"""What happens next in a run: pure functions of its settings, its rows and the time.

`plan` says what can be done now; whoever does it (`advancing.py`) asks again until there is nothing left.
Source of `run_if`: "Configure task dependencies" of the Databricks documentation; of results, the Jobs API's reference.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from millpond.jobs.domain import UNLIMITED, Need, Result, Run, RunIf, State, TaskRun, TaskSpec

_FAILURES = frozenset({Result.FAILED, Result.TIMED_OUT, Result.UPSTREAM_FAILED})
_CANCELS = frozenset({Result.CANCELED, Result.UPSTREAM_CANCELED})
_SKIPS = frozenset({Result.EXCLUDED, Result.DISABLED})
_FOR_FAILURES = frozenset({RunIf.AT_LEAST_ONE_FAILED, RunIf.ALL_FAILED})


@dataclass(frozen=True, kw_only=True)
class Begin:
    """The task's turn has come."""

    task: TaskRun


@dataclass(frozen=True, kw_only=True)
class End:
    """The task is over without a process."""

    task: TaskRun
    result: Result
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class Retry:
    """The task is tried again, not before a moment."""

    task: TaskRun
    due_at: datetime


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Look whether the run that the task started has ended."""

    task: TaskRun


@dataclass(frozen=True, kw_only=True)
class Finish:
    """The run is over."""

    result: Result
    message: str = ""


Step = Begin | End | Retry | Watch | Finish


def plan(run: Run, specs: Sequence[TaskSpec], tasks: Iterable[TaskRun], now: datetime) -> list[Step]:
    """What can be done now. A `Watch` may come again and again, all else once."""
    if run.state is State.ENDED:
        return []
    tasks = list(tasks)
    now_of = current(tasks)
    stop = run.stopping(now)
    over = {
        spec.key: task for spec in specs if (task := now_of[spec.key]).ended and (stop or not retries(spec, task))
    }  # fmt: skip
    steps: list[Step] = []
    for spec in specs:
        task = now_of[spec.key]
        if spec.nested is not None and task.state is State.RUNNING:
            steps += _iterate(spec, spec.nested, task, _iterations(task, tasks), stop, now)
        else:
            steps += _next(spec, task, over, stop, now)
    if not steps and all(task.ended for task in now_of.values()):
        return [Finish(result=stop or run_result(specs, now_of))]
    return steps


def spec_of(task: TaskRun, specs: Iterable[TaskSpec], tasks: Iterable[TaskRun]) -> TaskSpec:
    """What a task run does; of an iteration, what its `for_each_task` does for each input."""
    every = {spec.key: spec for spec in specs}
    if task.parent_id is None:
        return every[task.key]
    nested = every[next(each.key for each in tasks if each.id == task.parent_id)].nested
    assert nested is not None
    return nested


def current(tasks: Iterable[TaskRun]) -> dict[str, TaskRun]:
    """The last attempt at each task, iterations left out."""
    return {task.key: task for task in sorted(tasks, key=lambda task: task.attempt) if task.parent_id is None}


def _iterations(parent: TaskRun, tasks: Iterable[TaskRun]) -> list[TaskRun]:
    """The last attempt at each iteration, in order."""
    own = sorted((task for task in tasks if task.parent_id == parent.id), key=lambda task: task.attempt)
    return sorted({task.iteration: task for task in own}.values(), key=lambda task: task.iteration or 0)


def _next(spec: TaskSpec, task: TaskRun, over: Mapping[str, TaskRun], stop: Result, now: datetime) -> list[Step]:
    if task.state is State.RUNNING:
        return [Watch(task=task)] if spec.kind.starts_run else []
    if task.ended:
        return _tried_again(spec, task, stop, now)
    if stop:
        return [End(task=task, result=stop)]
    if task.state is State.WAITING:
        return [Begin(task=task)] if task.due_at is None or task.due_at <= now else []
    if task.state is not State.BLOCKED or any(need.key not in over for need in spec.needs):
        return []
    verdict = readiness(spec.run_if, [_seen_from(over[need.key], need) for need in spec.needs])
    if spec.disabled:
        verdict = Result.DISABLED
    return [End(task=task, result=verdict)] if verdict else [Begin(task=task)]


def _seen_from(task: TaskRun, need: Need) -> Result:
    """What a task's result is for who depends on one of its outcomes."""
    if need.outcome and task.result is Result.SUCCESS and task.outcome != need.outcome:
        return Result.EXCLUDED
    return task.result


def readiness(run_if: RunIf, results: Sequence[Result]) -> Result:
    """NONE for a task that may run after these, else why it is skipped."""
    failed = [result in _FAILURES for result in results]
    good = [result is Result.SUCCESS for result in results]
    bad = [result in _FAILURES | _CANCELS for result in results]
    met = {
        RunIf.ALL_SUCCESS: all(good),
        RunIf.AT_LEAST_ONE_SUCCESS: any(good),
        RunIf.NONE_FAILED: not any(bad) and any(good),
        RunIf.ALL_DONE: True,
        RunIf.AT_LEAST_ONE_FAILED: any(failed),
        RunIf.ALL_FAILED: all(failed),
    }[run_if]
    if met or not results:
        return Result.NONE
    if run_if in _FOR_FAILURES or not any(bad):
        return Result.EXCLUDED
    return Result.UPSTREAM_FAILED if any(failed) else Result.UPSTREAM_CANCELED


def _tried_again(spec: TaskSpec, task: TaskRun, stop: Result, now: datetime) -> list[Step]:
    return [Retry(task=task, due_at=now + spec.retry_pause)] if not stop and retries(spec, task) else []


def retries(spec: TaskSpec, task: TaskRun) -> bool:
    """Whether a failed attempt is followed by another one."""
    may = task.result is Result.FAILED or (task.result is Result.TIMED_OUT and spec.retry_on_timeout)
    return may and (spec.max_retries == UNLIMITED or task.retry < spec.max_retries)


def _iterate(
    spec: TaskSpec, nested: TaskSpec, parent: TaskRun, iterations: Sequence[TaskRun], stop: Result, now: datetime
) -> list[Step]:
    """Iterations in order, as many at once as may be; the whole ends with the last."""
    steps = [
        step for each in iterations if each.state is not State.BLOCKED for step in _next(nested, each, {}, stop, now)
    ]
    blocked = [each for each in iterations if each.state is State.BLOCKED]
    if stop:
        steps += [End(task=each, result=stop) for each in blocked]
    else:
        busy = sum(not each.ended or retries(nested, each) for each in iterations) - len(blocked)
        room = max(0, int(spec.body.get("concurrency") or 1) - busy)
        steps += [Begin(task=each) for each in blocked[:room]]
    if not steps and all(each.ended for each in iterations):
        failed = sum(each.result is not Result.SUCCESS for each in iterations)
        told = f"{failed} of {len(iterations)} iterations did not succeed." if failed else ""
        return [End(task=parent, result=stop or (Result.FAILED if failed else Result.SUCCESS), message=told)]
    return steps


def run_result(specs: Sequence[TaskSpec], now_of: Mapping[str, TaskRun]) -> Result:
    """How a run ended: as the tasks on which no other depends did; failures before them are told apart."""
    inner = {need.key for spec in specs for need in spec.needs}
    leaves = [now_of[spec.key].result for spec in specs if spec.key not in inner]
    if any(result in _FAILURES for result in leaves):
        return Result.FAILED
    if any(result in _CANCELS for result in leaves):
        return Result.CANCELED
    failed = any(task.result in _FAILURES for task in now_of.values())
    return Result.SUCCESS_WITH_FAILURES if failed else Result.SUCCESS


def repaired(
    specs: Sequence[TaskSpec], now_of: Mapping[str, TaskRun], wanted: Iterable[str] | None, *, dependents: bool
) -> set[str]:
    """The tasks that a repair runs again: those named, or all that did not succeed; and what depends on them: all of
    it, or what was skipped for them."""
    good = {Result.SUCCESS, *_SKIPS}
    again = {key for key, task in now_of.items() if task.result not in good} if wanted is None else set(wanted)
    found = set(again)
    while found:
        after = {spec.key for spec in specs if any(need.key in found for need in spec.needs)} - again
        found = {key for key in after if dependents or now_of[key].result is not Result.SUCCESS}
        again |= found
    return again
