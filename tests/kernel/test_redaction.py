"""Known secrets are replaced in texts and in what a process prints."""

import base64
import json
import subprocess
import sys
import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millpond.kernel.redaction import MARK, Redactor

SECRET = 'pa$$ "wörd"/+?'


@given(st.text(max_size=20), st.text(min_size=4, max_size=40), st.text(max_size=20))
def test_a_value_is_in_no_text_that_was_cleaned(before: str, value: str, after: str) -> None:
    """Whatever stands around it; the rest of the text stays."""
    assert value not in Redactor([value]).clean(before + value + after) or value in MARK
    assert Redactor([value]).clean("nothing of it") == "nothing of it" or value in "nothing of it"


@pytest.mark.parametrize(
    "shown",
    [
        SECRET,
        quote(SECRET, safe=""),
        json.dumps(SECRET)[1:-1],
        repr(SECRET)[1:-1],
        base64.b64encode(SECRET.encode()).decode().rstrip("="),
        base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("="),
    ],
)
def test_the_common_forms_of_a_value_are_replaced(shown: str) -> None:
    assert Redactor([SECRET]).clean(f"a {shown} b {shown}") == f"a {MARK} b {MARK}"


@pytest.mark.parametrize("before", ["", "u:", "us:", "user:"])
def test_a_value_within_a_longer_base64_text_is_replaced(before: str) -> None:
    """However it is aligned there, nothing of it can be decoded but for the characters that it shares."""
    whole = base64.b64encode(f"{before}{SECRET}:after".encode()).decode()
    shown = Redactor([SECRET]).clean(f"Authorization: Basic {whole}")
    assert MARK in shown
    assert len(shown.replace(MARK, "")) < len("Authorization: Basic ") + len(before) + 14


def test_each_line_of_a_value_is_replaced() -> None:
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0BAQEF\n-----END KEY-----\n"
    assert Redactor([key]).clean("kqhkiG9w0BAQEF\n  MIIEvQIBADANBg") == f"{MARK}\n  {MARK}"


def test_a_longer_value_goes_before_a_shorter_one_in_it() -> None:
    assert Redactor(["secret", "secret-and-more"]).clean("secret-and-more secret") == f"{MARK} {MARK}"


def test_what_is_too_short_to_be_told_apart_stays() -> None:
    assert Redactor(["abc", ""]).clean("abc abcd") == "abc abcd"


def test_the_cost_is_bounded() -> None:
    """Twenty values of the largest size against a megabyte of output: well below a second of work."""
    redactor = Redactor([f"{number:04}" * (32 << 10) for number in range(20)])
    began = time.process_time()
    redactor.clean("x" * (1 << 20))
    assert time.process_time() - began < 5


PROGRAM = """
import os, subprocess, sys
from millpond.kernel.redaction import RedactedOutput, Redactor
output = RedactedOutput(Redactor(["hidden-value"]))
print("one hidden-value")
sys.stdout.write("hidden-")
sys.stdout.flush()
os.write(1, b"value two\\n")
subprocess.run(["echo", "three hidden-value"])
os.write(2, b"x" * 100_000 + b"hidden-value" + b"y" * 100_000)
os.write(1, b"\\nno line end hidden-value")
sys.stdout.flush()
output.close()
print("after")
"""


def test_what_a_process_prints_is_cleaned_to_its_end() -> None:
    """Its own text, raw writes, its children's, lines in pieces, lines without an end."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert "hidden" not in said
    assert said.count(MARK) == 5
    assert said.count("x") == said.count("y") == 100_000
    assert done.stdout.endswith("after\n")
