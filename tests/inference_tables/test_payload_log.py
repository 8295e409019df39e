"""The payload log: what was appended is read back as it was, whoever was cut off where."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond.inference_tables.payload_log import PayloadLog, Segment
from millpond.inference_tables.segments import HEAD_BYTES, Damage, Record, encoded, read_segment
from millpond.kernel.errors import StorageFull

SOME = [Record(about={"n": n}, request=b"q" * n, response=b"a" * 3, features=b"") for n in range(3)]


def found_in(segments: list[Segment] | tuple[Segment, ...]) -> list[Record]:
    return [each for segment in segments for each in read_segment(segment.path) if isinstance(each, Record)]


@given(records=st.lists(st.builds(Record, about=st.fixed_dictionaries({"id": st.text()}), request=st.binary(),
                                  response=st.binary(), features=st.binary()), max_size=5),
       cut=st.integers(min_value=0))  # fmt: skip
def test_whole_records_are_found_wherever_the_writer_was_cut_off(
    tmp_path_factory: pytest.TempPathFactory, records: list[Record], cut: int
) -> None:
    whole = [b"".join(encoded(each)) for each in records]
    kept = min(cut, sum(map(len, whole)))
    path = tmp_path_factory.getbasetemp() / "cut"
    path.write_bytes(b"".join(whole)[:kept])
    ends = [sum(map(len, whole[: n + 1])) for n in range(len(whole))]
    found = list(read_segment(path))
    assert [each for each in found if isinstance(each, Record)] == records[: sum(end <= kept for end in ends)]
    assert all(each.cut_off for each in found if isinstance(each, Damage))


def test_a_damaged_record_is_told_and_those_behind_it_are_found(tmp_path: Path) -> None:
    path, pieces = tmp_path / "segment", [b"".join(encoded(each)) for each in SOME]
    broken = bytearray(b"".join(pieces))
    broken[len(pieces[0]) + HEAD_BYTES] ^= 1
    path.write_bytes(broken)
    first, damage, last = read_segment(path)
    assert (first, last) == (SOME[0], SOME[2])
    assert damage == Damage(position=len(pieces[0]), size_bytes=len(pieces[1]), cut_off=False)


@pytest.mark.parametrize("durable", [False, True])
def test_segments_are_sealed_when_asked_and_when_full_and_count_until_they_are_removed(
    tmp_path: Path, durable: bool
) -> None:
    log = PayloadLog(tmp_path, durable=durable, full_bytes=150)
    for record in (*SOME, *SOME):
        log.append("a", record)
    log.append("b", SOME[0])
    sealed = log.seal("a")
    assert [each.number for each in sealed] == [1, 2]
    assert found_in(list(sealed)) == [*SOME, *SOME]
    assert log.waiting_bytes("a") == sum(each.size_bytes for each in sealed)
    assert log.seal("a") == sealed, "what nobody removed is there again"
    log.remove("a", sealed)
    assert (log.waiting_bytes("a"), log.seal("a"), log.ids()) == (0, [], ["a", "b"])
    assert PayloadLog(tmp_path).waiting_bytes("b") == log.waiting_bytes("b") > 0


def test_what_a_killed_process_wrote_is_there_and_what_a_living_one_writes_is_left_alone(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from millpond.inference_tables.payload_log import PayloadLog\n"
        "from millpond.inference_tables.segments import Record\n"
        "log = PayloadLog(Path(sys.argv[1])); log.append('a', Record(about={'n': 7}, request=b'whole'))\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
        mine = PayloadLog(tmp_path)
        assert mine.seal("a") == []
        other.kill()
        other.wait()
    assert found_in(list(mine.seal("a"))) == [Record(about={"n": 7}, request=b"whole")]


def test_one_at_a_time_commits_a_log(tmp_path: Path) -> None:
    mine, other = PayloadLog(tmp_path), PayloadLog(tmp_path)
    mine.append("a", SOME[0])
    with mine.alone("a") as first, other.alone("a") as second:
        assert (first, second) == (True, False)
    with other.alone("a") as third:
        assert third


def test_what_cannot_be_written_whole_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = PayloadLog(tmp_path)
    log.append("a", SOME[0])
    whole = os.writev
    monkeypatch.setattr(os, "writev", lambda file, pieces: whole(file, pieces[:1]))  # the disk is full after the head
    with pytest.raises(StorageFull, match="No space left"):
        log.append("a", SOME[1])
    monkeypatch.undo()
    log.append("a", SOME[2])
    assert found_in(list(log.seal("a"))) == [SOME[0], SOME[2]]
