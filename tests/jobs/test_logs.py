"""Logs are read in parts, of which none cuts a line that is being written, and searched within a bound."""

from pathlib import Path

from millpond.jobs.logs import FileLog, Line, lines_with, part


def test_a_growing_log_is_read_in_parts_of_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    assert part(FileLog(path), 0, 100, whole=False).text == ""
    path.write_text("one\ntw")
    first = part(FileLog(path), 0, 100, whole=False)
    assert (first.text, first.next, first.cut) == ("one\n", 4, False)
    path.write_text("one\ntwo ü\nthr")
    second = part(FileLog(path), first.next, 100, whole=False)
    assert second.text == "two ü\n"
    assert part(FileLog(path), second.next, 100, whole=True).text == "thr"


def test_of_a_long_log_the_end_is_read_and_that_is_told(tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    path.write_text("a" * 50 + "\nend")
    found = part(FileLog(path), 0, 10, whole=True)
    assert (found.text, found.cut, found.next) == ("aaaaaa\nend", True, 54)


def test_lines_are_found_in_either_case_up_to_a_bound(tmp_path: Path) -> None:
    path = tmp_path / "1.log"
    assert list(lines_with(FileLog(path), "x", 100)) == []
    path.write_bytes(b"Loss 1\nother\nthe LOSS \xff\nloss 3\n")
    assert list(lines_with(FileLog(path), "loss", 100)) == [
        Line(number=1, text="Loss 1"), Line(number=3, text="the LOSS �"), Line(number=4, text="loss 3"),
    ]  # fmt: skip
    assert [line.number for line in lines_with(FileLog(path), "loss", 15)] == [1, 3]
