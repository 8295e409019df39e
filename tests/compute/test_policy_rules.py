"""What cluster policies allow, fill in and refuse."""

import json

import pytest

from millpond.compute.policy_rules import Verdict, evaluate, merged, parse
from millpond.kernel.errors import InvalidArgument, NotImplementedHere


def judged(rules: dict[str, object], given: dict[str, object], *, job: bool = False, defaults: bool = True) -> Verdict:
    return evaluate(parse(json.dumps(rules)), given, cluster_type="job" if job else "all-purpose", defaults=defaults)


def told(verdict: Verdict) -> list[str]:
    return [violation.message for violation in verdict.violations]


@pytest.mark.parametrize(
    ("rule", "good", "bad", "words"),
    [
        ({"type": "fixed", "value": 20}, 20, 30, "autotermination_minutes is fixed to 20 and is 30 (fixed)"),
        ({"type": "range", "maxValue": 60}, 60, 61, "autotermination_minutes must be at most 60 and is 61 (range)"),
        ({"type": "range", "minValue": 5, "maxValue": 9}, 5, 4, "must be at least 5 and at most 9 and is 4 (range)"),
        ({"type": "allowlist", "values": [10, 20]}, 10, 15, "must be one of 10, 20 and is 15 (allowlist)"),
        ({"type": "blocklist", "values": [0]}, 10, 0, "must not be one of 0 and is 0 (blocklist)"),
        ({"type": "regex", "pattern": "[1-9]0"}, 30, 35, "must match the pattern [1-9]0 and is 35 (regex)"),
        ({"type": "forbidden"}, None, 35, "autotermination_minutes must not be set (forbidden)"),
        ({"type": "unlimited"}, 1, None, "autotermination_minutes must be set (unlimited)"),
        ({"type": "range", "maxValue": 6}, 6, None, "must be set, and must be at most 6 (range)"),
    ],
)
def test_each_rule_admits_and_refuses_by_name(rule: dict, good: object, bad: object, words: str) -> None:
    rules = {"autotermination_minutes": rule}
    assert told(judged(rules, {"autotermination_minutes": good} if good is not None else {})) == []
    [message] = told(judged(rules, {"autotermination_minutes": bad} if bad is not None else {}))
    assert words in message


def test_fixed_values_are_filled_in_always_and_defaults_when_asked_for() -> None:
    rules = {
        "spark_version": {"type": "fixed", "value": "1.0"},
        "num_workers": {"type": "range", "maxValue": 4, "defaultValue": 2},
        "custom_tags.team": {"type": "fixed", "value": "ml"},
    }
    assert judged(rules, {}).attributes == {"spark_version": "1.0", "num_workers": 2, "custom_tags": {"team": "ml"}}
    without = judged(rules, {}, defaults=False)
    assert without.attributes == {"spark_version": "1.0", "custom_tags": {"team": "ml"}}
    assert told(without) == ["num_workers must be set, and must be at most 4 (range)"]
    assert judged(rules, {"num_workers": 0}).attributes["num_workers"] == 0


def test_what_is_optional_may_be_left_out_but_not_be_wrong() -> None:
    rules = {"instance_pool_id": {"type": "allowlist", "values": ["p"], "isOptional": True}}
    assert told(judged(rules, {})) == []
    assert len(told(judged(rules, {"instance_pool_id": "q"}))) == 1


def test_keys_of_maps_have_dots_and_a_star_stands_for_all_others() -> None:
    rules = {
        "spark_conf.spark.sql.ansi.enabled": {"type": "fixed", "value": "true"},
        "spark_conf.*": {"type": "forbidden"},
        "custom_tags.*": {"type": "regex", "pattern": "[a-z]+"},
    }
    assert told(judged(rules, {"spark_conf": {"spark.sql.ansi.enabled": "true"}})) == []
    [message] = told(judged(rules, {"spark_conf": {"spark.other": "1"}}))
    assert message == "spark_conf.spark.other must not be set (forbidden by the rule of spark_conf.*)"
    assert len(told(judged(rules, {"custom_tags": {"a": "x", "b": "Y"}}))) == 1


def test_a_rule_of_an_object_or_of_elements_of_a_list_counts_for_what_is_in_it() -> None:
    assert len(told(judged({"autoscale": {"type": "forbidden"}}, {"autoscale": {"min_workers": 1}}))) == 1
    scripts = {"init_scripts": [{"workspace": {"destination": "/ok/a.sh"}}, {"volumes": {"destination": "/no"}}]}
    rules = {
        "init_scripts.*.workspace.destination": {"type": "regex", "pattern": "/ok/.*"},
        "init_scripts.*.volumes.destination": {"type": "forbidden"},
    }
    assert [each.path for each in judged(rules, scripts).violations] == ["init_scripts.1.volumes.destination"]
    first = {"init_scripts.0.workspace.destination": {"type": "fixed", "value": "/other"}}
    assert [each.path for each in judged(first, scripts).violations] == ["init_scripts.0.workspace.destination"]
    assert told(judged(first, {})) == []


def test_the_type_of_a_cluster_is_a_path_of_its_own() -> None:
    rules = {"cluster_type": {"type": "fixed", "value": "job"}}
    assert told(judged(rules, {}, job=True)) == []
    assert told(judged(rules, {})) == ["cluster_type is fixed to job and is all-purpose (fixed)"]


def test_a_refusal_does_not_tell_what_is_in_variables() -> None:
    [message] = told(judged({"spark_env_vars.KEY": {"type": "fixed", "value": "a"}}, {"spark_env_vars": {"KEY": "s3"}}))
    assert message == "spark_env_vars.KEY is fixed to a (fixed)"


@pytest.mark.parametrize(
    "definition",
    [
        "[]", "{", '{"a": 1}', '{"a": {"type": "odd"}}', '{"a": {"type": "fixed"}}', '{"a": {"type": "range"}}',
        '{"a": {"type": "regex", "pattern": "("}}', '{"a": {"type": "regex", "pattern": "(a+)+b"}}',
        '{"a": {"type": "allowlist", "values": []}}', '{"a": {"type": "fixed", "value": 1, "isOptional": true}}',
        '{"a": {"type": "range", "maxValue": "x"}}', '{"a": {"type": "range", "maxValue": 3, "defaultValue": 4}}',
    ],
)  # fmt: skip
def test_a_definition_that_is_none_is_refused(definition: str) -> None:
    with pytest.raises(InvalidArgument):
        parse(definition)


def test_what_there_is_not_is_refused_by_name() -> None:
    with pytest.raises(NotImplementedHere, match="DBU"):
        parse('{"dbus_per_hour": {"type": "range", "maxValue": 10}}')


def test_overrides_of_a_family_replace_rules_path_by_path() -> None:
    family = '{"num_workers": {"type": "fixed", "value": 0}, "node_type_id": {"type": "unlimited"}}'
    assert merged(family, '{"num_workers": {"type": "range", "maxValue": 2}}') == {
        "num_workers": {"type": "range", "maxValue": 2},
        "node_type_id": {"type": "unlimited"},
    }
    with pytest.raises(InvalidArgument):
        merged(family, "[]")


def test_every_rule_that_is_broken_is_named_at_once() -> None:
    verdict = judged({"num_workers": {"type": "range", "maxValue": 1}, "a": {"type": "unlimited"}}, {"num_workers": 2})
    with pytest.raises(InvalidArgument, match=r"policy 'small' allows: num_workers .*; a must be set"):
        verdict.require("small")
