"""Who is told of what: the rules, without anybody being told."""

from typing import Any

import pytest

from millpond.jobs.domain import Result
from millpond.jobs.notices import SLOW, targets, told_of_end
from millpond.jobs.settings import checked
from millpond.kernel.errors import InvalidArgument, NotImplementedHere

MAIL = {"email_notifications": {"on_success": ["s@x.org"], "on_failure": ["f@x.org"], SLOW: ["w@x.org"]}}
TASK = {"task_key": "a", "condition_task": {"op": "EQUAL_TO", "left": "1", "right": "1"}}


def told(result: Result, *, tried_again: bool = False, **settings: Any) -> list[str]:
    return [str(target) for target in told_of_end({**MAIL, "notification_settings": settings}, result,
                                                  tried_again=tried_again)]  # fmt: skip


@pytest.mark.parametrize(
    ("result", "settings", "expected"),
    [
        (Result.SUCCESS, {}, ["s@x.org"]),
        (Result.SUCCESS_WITH_FAILURES, {}, ["s@x.org"]),
        (Result.FAILED, {}, ["f@x.org"]),
        (Result.TIMED_OUT, {"no_alert_for_canceled_runs": True}, ["f@x.org"]),
        (Result.CANCELED, {}, ["f@x.org"]),
        (Result.CANCELED, {"no_alert_for_canceled_runs": True}, []),
        (Result.TOO_MANY, {}, ["f@x.org"]),
        (Result.TOO_MANY, {"no_alert_for_skipped_runs": True}, []),
        (Result.EXCLUDED, {}, []),
        (Result.UPSTREAM_FAILED, {}, []),
    ],
)
def test_an_end_is_told_to_whom_the_settings_name(
    result: Result, settings: dict[str, Any], expected: list[str]
) -> None:
    assert told(result, **settings) == expected


def test_only_the_last_attempt_is_told_where_the_settings_say_so() -> None:
    assert told(Result.FAILED, tried_again=True) == ["f@x.org"]
    assert told(Result.FAILED, tried_again=True, alert_on_last_attempt=True) == []
    assert told(Result.FAILED, alert_on_last_attempt=True) == ["f@x.org"]


def test_mail_alone_knows_the_old_way_not_to_be_told_of_skipped_runs() -> None:
    part = {
        "email_notifications": {"on_failure": ["f@x.org"], "no_alert_for_skipped_runs": True},
        "webhook_notifications": {"on_failure": [{"id": "d"}]},
    }
    assert [str(each) for each in told_of_end(part, Result.TOO_MANY)] == ["d"]
    assert [str(each) for each in targets(MAIL, SLOW)] == ["w@x.org"]


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"email_notifications": {"on_streaming_backlog_exceeded": ["a@x.org"]}}, NotImplementedHere, "on_streaming"),
        ({"webhook_notifications": {"on_maintenance_start": [{"id": "d"}]}}, NotImplementedHere, "on_maintenance"),
        ({"webhook_notifications": {"on_start": [{"id": str(n)} for n in range(4)]}}, InvalidArgument, "on_start"),
        (
            {"health": {"rules": [{"metric": "STREAMING_BACKLOG_BYTES", "op": "GREATER_THAN", "value": 1}]}},
            NotImplementedHere, "STREAMING_BACKLOG_BYTES",
        ),
        (
            {"health": {"rules": [{"metric": "RUN_DURATION_SECONDS", "op": "LESS_THAN", "value": 1}]}},
            InvalidArgument, "GREATER_THAN",
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("of_task", [False, True], ids=["job", "task"])
def test_what_is_not_here_is_refused_by_name(
    settings: dict[str, Any], error: type[Exception], match: str, of_task: bool
) -> None:
    asked = {"tasks": [{**TASK, **settings}]} if of_task else {"tasks": [TASK], **settings}
    with pytest.raises(error, match=match):
        checked(asked)
