"""What SQL over HTTP adds to the same statement over Spark Connect, and how fast a large result comes through links."""

import http.client
import json
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[1]))

from pyspark.sql import SparkSession

from bench.peers import Peer, cpu_s, millpond
from bench.report import heading, line, median, row

CALLS = 100
ROWS = 4_000_000
"""Of 64 bytes each: 256 MB of Arrow."""


class Api:
    """One kept HTTP connection, as clients have it."""

    def __init__(self, server: Peer) -> None:
        address = urlsplit(server.url)
        self._connection = http.client.HTTPConnection(str(address.hostname), address.port)
        self._headers = {"Authorization": f"Bearer {server.token}", "Content-Type": "application/json"}

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON that a call answers."""
        self._connection.request(method, path, json.dumps(body) if body else None, self._headers)
        return json.loads(self._connection.getresponse().read())

    def run(self, text: str, **options: Any) -> Any:
        """A statement that has succeeded."""
        body = {"statement": text, "warehouse_id": "starter", "wait_timeout": "50s", **options}
        answer = self.call("POST", "/api/2.0/sql/statements", body)
        assert answer["status"]["state"] == "SUCCEEDED", answer
        return answer


def main() -> None:
    """Run the same statements in turn, one on each side, so that a drift of the machine hits both."""
    with tempfile.TemporaryDirectory() as directory, millpond(Path(directory) / "data") as server:
        spark, api = SparkSession.builder.remote(server.spark_remote).create(), Api(server)
        spark.range(1000).write.saveAsTable("main.default.numbers")
        heading(f"A statement over HTTP against Spark Connect, same gateway (medians of {CALLS} calls in turn)")
        for text in ("SELECT 1", "SELECT count(*), max(id) FROM main.default.numbers WHERE id > 10"):
            _compare(text, spark, api)
        heading("A large result: Arrow through external links against toArrow()")
        _stream(spark, api, server)
        spark.stop()


def _compare(text: str, spark: SparkSession, api: Api) -> None:
    ours, peer = [], []
    for round_number in range(CALLS + 10):
        for act, kept in ((lambda: api.run(text), ours), (lambda: spark.sql(text).collect(), peer)):
            began = time.perf_counter()
            act()
            if round_number >= 10:
                kept.append((time.perf_counter() - began) * 1000)
    row(text[:44], median(ours), median(peer), "ms")
    line("    added: HTTP, history, result on disk", median(ours) - median(peer), "ms")


def _stream(spark: SparkSession, api: Api, server: Peer) -> None:
    columns = ", ".join(f"id * {number} AS c{number}" for number in range(8))
    text = f"SELECT {columns} FROM range({ROWS})"
    run, fetch, direct, cpu = [], [], [], []
    for _ in range(3):
        before, began = cpu_s(server.pid), time.perf_counter()
        found = api.run(text, disposition="EXTERNAL_LINKS", format="ARROW_STREAM")
        ran = time.perf_counter()
        size = _fetch(api, found)
        run.append(size / (ran - began))
        fetch.append(size / (time.perf_counter() - ran))
        cpu.append((cpu_s(server.pid) - before) / (size / 1e9))
        began = time.perf_counter()
        table = spark.sql(text).toArrow()
        direct.append(table.nbytes / (time.perf_counter() - began))
        del table
    both = [1 / (1 / made + 1 / got) for made, got in zip(run, fetch, strict=True)]
    row("MB/s, from the statement to the last byte", median(both) / 1e6, median(direct) / 1e6, "")
    line("    MB/s of the links alone", median(fetch) / 1e6, "")
    line("    server CPU seconds per GB", median(cpu), "s")


def _fetch(api: Api, found: Any) -> int:
    """Read each chunk through its link, one after the other; how many bytes."""
    size, link = 0, found["result"]["external_links"][0]
    while True:
        with urllib.request.urlopen(link["external_link"]) as answer:
            while block := answer.read(1 << 20):
                size += len(block)
        if "next_chunk_internal_link" not in link:
            return size
        link = api.call("GET", link["next_chunk_internal_link"])["external_links"][0]


if __name__ == "__main__":
    main()
