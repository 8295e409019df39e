"""Keeps known secrets out of what users' code prints, and out of error texts.

Replaced are the value, each of its lines, and the forms in which programs commonly print it: base64 (also in the
middle of a longer text, as in a Basic header), percent-encoding, JSON. A program that wants to tell a secret can;
this is against accidents. The cost is one search of the text for each form, some ten for each value.

Standard library only: it runs in workers too.
"""

import base64
import json
import os
import threading
from collections.abc import Iterable, Iterator
from urllib.parse import quote

MARK = "[REDACTED]"
_SHORTEST_BYTES = 4
"""What is shorter would mark every other word."""
_SHORTEST_LINE_BYTES = 8
_LONGEST_LINE_BYTES = 64 << 10
_CHUNK_BYTES = 64 << 10


class Redactor:
    """Replaces the values that it was given by a mark."""

    def __init__(self, values: Iterable[str]) -> None:
        forms = {form for value in values for form in _forms(value.encode("utf-8", "surrogatepass"))}
        self._forms = sorted((form for form in forms if len(form) >= _SHORTEST_BYTES), key=len, reverse=True)
        self.longest_bytes = len(self._forms[0]) if self._forms else 0

    def add(self, value: str) -> None:
        """Replace one more value from now on; while others read, as the list is another one."""
        forms = {form for form in _forms(value.encode("utf-8", "surrogatepass")) if len(form) >= _SHORTEST_BYTES}
        self._forms = sorted(forms.union(self._forms), key=len, reverse=True)
        self.longest_bytes = len(self._forms[0]) if self._forms else 0

    def clean(self, text: str) -> str:
        """The text without the values."""
        return self.clean_bytes(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")

    def clean_bytes(self, data: bytes) -> bytes:
        """The same for bytes of UTF-8."""
        for form in self._forms:
            data = data.replace(form, MARK.encode())
        return data


class RedactedOutput:
    """Takes the place of this process's stdout and stderr, also for what it starts, until `close`.

    Goes on line by line; a line of more than 64 KiB is cut.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._kept = {number: os.dup(number) for number in (1, 2)}
        self.descriptor = self._kept[2]
        """The stderr from before, for what must be written while the process dies."""
        reading, writing = os.pipe()
        for number in self._kept:
            os.dup2(writing, number)
        os.close(writing)
        self._thread = threading.Thread(target=self._pass_on, args=(reading,), name="redaction", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float = 1.0) -> None:
        """Put the old ones back when all that was printed is written; a child that still prints is not waited for."""
        for number, kept in self._kept.items():
            os.dup2(kept, number)
        self._thread.join(timeout_s)

    def _pass_on(self, reading: int) -> None:
        held = b""
        while chunk := os.read(reading, _CHUNK_BYTES):
            held += chunk
            end = held.rfind(b"\n") + 1
            if not end and len(held) > _LONGEST_LINE_BYTES + self._redactor.longest_bytes:
                held = self._redactor.clean_bytes(held)
                end = len(held) - self._redactor.longest_bytes
            if end > 0:
                self._write(held[:end])
                held = held[end:]
        self._write(held)
        os.close(reading)

    def _write(self, data: bytes) -> None:
        data = self._redactor.clean_bytes(data)
        while data:
            data = data[os.write(self.descriptor, data) :]


def _forms(value: bytes) -> Iterator[bytes]:
    yield value
    yield quote(value, safe="").encode()
    text = value.decode("utf-8", "replace")
    for ascii_only in (True, False):
        yield json.dumps(text, ensure_ascii=ascii_only)[1:-1].encode("utf-8", "replace")
    yield repr(text)[1:-1].encode("utf-8", "replace")
    for part in value.splitlines():
        if len(part.strip()) >= _SHORTEST_LINE_BYTES:
            yield part.strip()
    yield from _base64_forms(value)


def _base64_forms(value: bytes) -> Iterator[bytes]:
    """The characters that depend on the value alone, for each of the three ways in which it can be aligned."""
    for before in range(3):
        first = -(-before * 8 // 6)
        last = (before + len(value)) * 8 // 6
        for alphabet in (None, b"-_"):
            encoded = base64.b64encode(b"\0" * before + value, alphabet)[first:last]
            if len(encoded) >= _SHORTEST_LINE_BYTES:
                yield encoded
