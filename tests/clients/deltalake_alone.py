"""How often delta-rs opens a `uc://` address when the catalog is forty lines of the standard library.

`python -m tests.clients.deltalake_alone` prints it. Run it after each upgrade of deltalake: when nothing hangs any
more, test_deltalake.py can start delta-rs once, and docs/catalog.md lose its warning.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import deltalake
import pyarrow as pa

_STARTS = 12
_PATIENCE_S = 30.0
_OPEN = "import deltalake; deltalake.DeltaTable('uc://lake.default.t')"


class _Catalog(BaseHTTPRequestHandler):
    """Answers the two questions that delta-rs asks; `place` is where the one table is."""

    protocol_version = "HTTP/1.1"
    place = ""

    def do_GET(self) -> None:
        self._answer({
            "name": "t", "catalog_name": "lake", "schema_name": "default", "full_name": "lake.default.t",
            "table_type": "MANAGED", "data_source_format": "DELTA", "columns": [], "storage_location": self.place,
            "table_id": "0b9b2b4e-64a5-4d7f-a1a3-1a6a8a3a4a5a", "created_at": 1, "updated_at": 1, "owner": "a",
            "created_by": "a", "updated_by": "a", "properties": {}, "comment": "", "securable_type": "TABLE",
            "securable_kind": "TABLE_DELTA", "browse_only": False, "metastore_version_id": 1, "generation": 0,
            "metastore_id": "m", "data_access_configuration_id": "0", "enable_auto_maintenance": "",
            "enable_predictive_optimization": "",
            "effective_predictive_optimization_flag": {
                "value": "", "inherited_from_type": "", "inherited_from_name": "",
            },
            "delta_runtime_properties_kvpairs": {"delta_runtime_properties": {}},
        })  # fmt: skip

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        keys = {"access_key_id": "", "secret_access_key": "", "session_token": ""}
        until = int((time.time() + 3600) * 1000)
        self._answer({"aws_temp_credentials": keys, "url": self.place, "expiration_time": until})

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, content: dict[str, object]) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Start delta-rs several times and count those that neither open the table nor fail."""
    with tempfile.TemporaryDirectory() as directory:
        deltalake.write_deltalake(directory, pa.table({"id": [1]}))
        _Catalog.place = f"file://{directory}"
        server = ThreadingHTTPServer(("127.0.0.1", 0), _Catalog)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host = f"http://127.0.0.1:{server.server_address[1]}"
        env = {**os.environ, "DATABRICKS_HOST": host, "DATABRICKS_TOKEN": "t", "UNITY_ALLOW_HTTP_URL": "true"}
        started = [_start(env) for _ in range(_STARTS)]
        deadline = time.monotonic() + _PATIENCE_S
        hung = sum(_hangs(process, deadline) for process in started)
        server.shutdown()
    print(f"deltalake {deltalake.__version__}: {hung} of {_STARTS} starts were still waiting after {_PATIENCE_S} s")


def _start(env: dict[str, str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", _OPEN], env=env, stderr=subprocess.DEVNULL)


def _hangs(process: "subprocess.Popen[bytes]", deadline: float) -> bool:
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    return False


if __name__ == "__main__":
    main()
