"""How the gateway reads the count of rows from an answer that it only hands on."""

from hypothesis import example, given
from hypothesis import strategies as st

from millpond.engine import proto
from millpond.engine.history import rows_in, text_of


@given(rows=st.integers(0, 1 << 40), data=st.binary(max_size=300), session=st.text(max_size=50))
def test_rows_are_read_from_the_bytes(rows: int, data: bytes, session: str) -> None:
    response = proto.base.ExecutePlanResponse(session_id=session, response_id="r")
    response.arrow_batch.row_count = rows
    response.arrow_batch.data = data
    assert rows_in(response.SerializeToString()) == rows


@given(data=st.binary(max_size=200))
@example(b"\x12\x7f")  # a batch that says it is longer than the message
def test_any_bytes_are_read_without_failing(data: bytes) -> None:
    assert rows_in(data) >= 0


def test_a_length_beyond_the_bytes_ends_with_them() -> None:
    number = proto.base.ExecutePlanResponse.DESCRIPTOR.fields_by_name["arrow_batch"].number
    assert rows_in(bytes([number << 3 | 2, 100])) == 0


def test_an_answer_without_rows_has_none() -> None:
    response = proto.base.ExecutePlanResponse(session_id="s")
    response.result_complete.SetInParent()
    assert rows_in(response.SerializeToString()) == 0


def test_the_text_of_a_plan_is_found_below_what_shows_it() -> None:
    plan = proto.base.Plan()
    plan.root.show_string.input.with_relations.root.sql.query = "SELECT 1"
    assert text_of(plan) == "SELECT 1"
    plan.root.filter.input.sql.query = "SELECT 1"
    assert text_of(plan) == ""
