"""Where tasks stand in the picture of a job, and what an attempt's time was spent on."""

from datetime import UTC, datetime, timedelta

from millpond.jobs.domain import Need, Result, Run, State, TaskRun
from millpond.jobs.viewing import RunView
from millpond.ui.job_graph import Node, layers_of, picture_of
from millpond.ui.job_states import trigger_text
from millpond.ui.job_timeline import ready_moments, spans_of
from millpond.ui.pages.job_runs import advice

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def node(key: str, *needs: str) -> Node:
    return Node(key=key, needs=tuple(Need(key=each) for each in needs), words="", tone="good", href="")


def at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def number(seconds: float) -> int:
    return int(at(seconds).timestamp() * 1_000_000)


def run(**more: object) -> Run:
    tasks = [{"task_key": "a"}, {"task_key": "b", "depends_on": [{"task_key": "a"}]}]
    known = {
        "id": 1, "job_id": 2, "name": "job", "creator": "ann", "run_as": "ann", "settings": {"tasks": tasks},
        "parameters": {}, "trigger": "ONE_TIME", "state": State.ENDED, "result": Result.FAILED, "message": "",
        "cancelled": False, "depth": 0, "parent_run_id": None, "created_at": BEGAN, "started_at": BEGAN,
        "ended_at": at(9),
    }  # fmt: skip
    return Run(**{**known, **more})


def test_each_task_is_to_the_right_of_all_that_it_depends_on() -> None:
    nodes = [node("d", "b", "c"), node("a"), node("b", "a"), node("c", "b"), node("gone", "not here")]
    assert [[each.key for each in layer] for layer in layers_of(nodes)] == [["a", "gone"], ["b"], ["c"], ["d"]]


def test_a_thousand_tasks_have_places_of_their_own_in_a_picture_of_bounded_height() -> None:
    inner = [f"t{number}" for number in range(998)]
    picture = picture_of([node("first"), *(node(key, "first") for key in inner), node("last", *inner)])
    assert len({(each.x, each.y) for each in picture.nodes}) == 1000
    assert not picture.boxes
    assert picture.height < 800
    assert max(each.x for each in picture.nodes) < picture.width
    assert [each.key for each in picture.nodes][0::999] == ["first", "last"]


def test_time_is_spent_queued_set_up_and_run_from_when_an_attempt_could_have_begun() -> None:
    ended = {"run_id": 1, "state": State.ENDED}
    a = TaskRun(id=number(0), key="a", started_at=at(1), began_at=at(2), ended_at=at(4), result=Result.FAILED, **ended)
    again = TaskRun(
        id=number(4), key="a", attempt=1, due_at=at(5), started_at=at(5), ended_at=at(6), result=Result.SUCCESS, **ended
    )
    b = TaskRun(id=number(0) + 1, run_id=1, key="b", state=State.QUEUED)
    ready = ready_moments(run(), [a, again, b])
    assert ready == {a.id: at(0), again.id: at(5), b.id: at(6)}
    assert spans_of(a, ready[a.id], at(9)) == [
        ("wait", "queued", at(0), at(1)), ("setup", "set up", at(1), at(2)), ("bad", "ran", at(2), at(4)),
    ]  # fmt: skip
    assert spans_of(again, ready[again.id], at(9)) == [("good", "ran", at(5), at(6))]
    assert spans_of(b, ready[b.id], at(9)) == [("wait", "waits", at(6), at(9))]


def test_a_run_says_what_to_do_about_it() -> None:
    task = TaskRun(id=1, run_id=1, key="a", state=State.ENDED, result=Result.FAILED, message="ValueError: x")
    view = RunView(run=run(), tasks=(task,), job_exists=True, may_run=True)
    assert advice(view)[0].startswith("Failed. Task a failed: ValueError: x")
    late = run(result=Result.TIMED_OUT, settings={"timeout_seconds": 60})
    told = advice(RunView(run=late, tasks=(), job_exists=True, may_run=True))
    assert told == ("Timed out: it may take 1 min 0 s. Repair it to do what was left.", "bad")


def test_what_starts_a_job_is_said_in_words() -> None:
    assert trigger_text({}) == "By hand"
    assert trigger_text({"trigger": {"periodic": {"interval": 1, "unit": "DAYS"}}}) == "Every day"
    paused = {"trigger": {"periodic": {"interval": 3, "unit": "WEEKS"}, "pause_status": "PAUSED"}}
    assert trigger_text(paused) == "Every 3 weeks, paused"
    cron = {"schedule": {"quartz_cron_expression": "0 0 8 * * ?", "timezone_id": "Europe/Vienna"}}
    assert trigger_text(cron) == "At 0 0 8 * * ? (Europe/Vienna)"
