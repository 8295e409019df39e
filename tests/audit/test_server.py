"""The audit of a running server: every door writes down, and the command line checks."""

import json
import sqlite3
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Server, run_cli, running_server, wait_until

WRONG_TOKEN = "dapi" + "0123456789abcdef" * 2


def events(server: Server, **filters: str) -> list[dict[str, Any]]:
    query = "&".join(f"{key}={value}" for key, value in filters.items())
    status, answer = server.call("GET", f"/api/millpond/audit?max_results=1000&{query}")
    assert status == 200, answer
    return answer["events"]


def awaited(server: Server, *, path: str | None = None, **filters: str) -> dict[str, Any]:
    """The newest event that the filters let through, of a request to `path` where given; the drain needs a second."""

    def found() -> list[dict[str, Any]]:
        told = events(server, **filters)
        return [event for event in told if path is None or event["request_params"].get("path") == path]

    return wait_until(found, what=f"an event with {filters}")[0]


def test_a_change_makes_one_event_under_databricks_names(any_server: Server) -> None:
    """Who, from where, with what client and what result; the request itself is not told a second time."""
    assert any_server.call("POST", "/api/2.1/unity-catalog/schemas", {"catalog_name": "main", "name": "told"})[0] == 200
    event = awaited(any_server, object_name="main.told")
    assert (event["service_name"], event["action_name"]) == ("unityCatalog", "createSchema")
    assert event["user_identity"]["email"] == any_server.user
    assert (event["source_ip_address"], event["response"]["status_code"]) == ("127.0.0.1", 200)
    assert event["user_agent"].startswith("Python-urllib")
    assert len([one for one in events(any_server) if one["request_id"] == event["request_id"]]) == 1


def test_a_read_names_what_it_reached(any_server: Server) -> None:
    """Also where the path does not: MLflow names a run's experiment by number."""
    any_server.call("GET", "/api/2.1/unity-catalog/schemas/main.default")
    assert awaited(any_server, action_name="getSchema", object_name="main.default")["response"]["status_code"] == 200
    reader = any_server.new_user("reader@example.org")
    any_server.call("GET", "/api/2.0/mlflow/experiments/get?experiment_id=0", token=reader)
    event = awaited(any_server, action_name="getMlflowExperiment", user="reader@example.org")
    assert (event["request_params"]["object_kind"], event["request_params"]["experiment_id"]) == ("experiment", "0")


def test_refusals_of_attacks_are_written_down(any_server: Server) -> None:
    """A guessed token, another user's object, a path that climbs, an API for administrators, a foreign page."""
    mallory = any_server.new_user("mallory@example.org")
    any_server.call("POST", "/api/2.1/unity-catalog/schemas", {"catalog_name": "main", "name": "private"})
    any_server.call("GET", "/api/2.1/unity-catalog/schemas/main.guess", token=WRONG_TOKEN)
    any_server.call("GET", "/api/2.1/unity-catalog/schemas/main.private", token=mallory)
    any_server.call("GET", "/api/2.0/fs/files/Volumes/main/default/v/../../../../etc/passwd", token=mallory)
    any_server.call("GET", "/api/2.0/token-management/tokens", token=mallory)
    guessed = awaited(any_server, object_name="main.guess")
    assert (guessed["response"]["status_code"], guessed["response"]["error_message"]) == (401, "UNAUTHENTICATED")
    assert guessed["user_identity"]["email"] is None
    seen = awaited(any_server, object_name="main.private", failed="true")
    assert (seen["response"]["status_code"], seen["request_params"]["refused"]) == (404, "see")
    assert seen["user_identity"]["email"] == "mallory@example.org"
    assert awaited(any_server, service_name="filesystem", user="mallory@example.org")["response"]["status_code"] >= 400
    tokens = awaited(any_server, action_name="listTokens", user="mallory@example.org")
    assert tokens["response"]["status_code"] == 403


def test_a_sign_in_with_a_wrong_password_is_written_down(any_server: Server) -> None:
    """With the name that was tried, and no password; a page without a session is a refusal too."""
    _post_form(any_server, "/sign-in", "user=eve%40example.com&password=hunter2hunter2")
    failed = awaited(any_server, action_name="login", object_name="eve@example.com")
    assert failed["response"]["status_code"] == 401
    _post_form(any_server, "/sign-in", f"user={any_server.user.replace('@', '%40')}&password={any_server.password}")
    assert awaited(any_server, action_name="login", user=any_server.user)["response"]["status_code"] == 200
    request = urllib.request.Request(any_server.url + "/catalog", headers={"Accept": "text/html"})
    urllib.request.urlopen(request).close()
    page = awaited(any_server, action_name="viewPage", failed="true", path="/catalog")
    assert page["response"]["status_code"] == 401
    assert "hunter2" not in json.dumps(events(any_server))


def test_secrets_that_a_client_plants_do_not_appear(any_server: Server) -> None:
    """In the path, in the query, as the agent, in a header: neither in the API nor in the files and the database."""
    request = urllib.request.Request(
        f"{any_server.url}/api/2.1/unity-catalog/schemas/main.x{WRONG_TOKEN}?name={any_server.token}&password=pw-4711",
        headers={"User-Agent": f"curl Bearer {any_server.token}", "Authorization": f"Bearer {any_server.token}"},
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    refused.value.close()
    wait_until(lambda: [e for e in events(any_server) if (e["user_agent"] or "").startswith("curl")])
    exported = run_cli("audit", "export", "--data-dir", str(any_server.data_dir), env=_database_of(any_server)).stdout
    for secret in (WRONG_TOKEN, any_server.token, any_server.password, "pw-4711"):
        assert secret not in exported
    assert not [path for path in any_server.data_dir.glob("audit/*") if any_server.token in path.read_text()]


def test_only_who_may_reads_it_and_page_by_page(any_server: Server) -> None:
    """For others the audit does not exist; a page's token leads to older events."""
    stranger = any_server.new_user("stranger@example.org")
    status, answer = any_server.call("GET", "/api/millpond/audit", token=stranger)
    assert (status, answer["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert any_server.call("GET", "/api/millpond/audit", token="")[0] == 401
    awaited(any_server, user="stranger@example.org", service_name="audit", failed="true")
    _, first = any_server.call("GET", "/api/millpond/audit?max_results=2")
    _, second = any_server.call("GET", f"/api/millpond/audit?max_results=2&page_token={first['next_page_token']}")
    numbers = [event["chain"]["sequence"] for event in (*first["events"], *second["events"])]
    assert numbers == sorted(numbers, reverse=True)
    assert len(set(numbers)) == 4


def test_the_command_line_verifies_and_exports(any_server: Server) -> None:
    """Every exported line has its place in the chain; a range of days that lies in the past is empty."""
    any_server.call("GET", "/api/2.1/unity-catalog/catalogs/main")
    where = ("--data-dir", str(any_server.data_dir))
    lines = run_cli("audit", "export", *where, env=_database_of(any_server)).stdout.splitlines()
    assert [json.loads(line)["sequence"] for line in lines] == list(range(1, len(lines) + 1))
    assert "exportAuditLog" in [json.loads(line)["event"]["action"] for line in lines]
    assert run_cli("audit", "verify", *where, env=_database_of(any_server)).stdout.startswith("ok: ")
    old = run_cli("audit", "export", *where, "--to", "2020-01-01", "--format", "jsonl", env=_database_of(any_server))
    assert old.stdout == ""
    wrong = run_cli("audit", "export", *where, "--from", "yesterday", check=False, env=_database_of(any_server))
    assert "is no date" in wrong.stderr


def test_a_chain_that_was_tampered_with_is_named(tmp_path: Path) -> None:
    """The command ends with 1 and says which link."""
    data_dir = tmp_path / "data"
    with running_server(data_dir) as server:
        for number in range(5):
            server.call("GET", f"/api/2.1/unity-catalog/schemas/main.s{number}")
        awaited(server, object_name="main.s4")
    with sqlite3.connect(data_dir / "millpond.db") as connection:
        connection.execute("UPDATE audit_entries SET body = replace(body, 'main.s2', 'main.xx') WHERE name = 'main.s2'")
        (number,) = connection.execute("SELECT sequence FROM audit_entries WHERE name = 'main.s2'").fetchone()
    done = run_cli("audit", "verify", "--data-dir", str(data_dir), check=False)
    assert done.returncode == 1
    assert f"BROKEN at link {number} (changed)" in done.stdout


def _post_form(server: Server, path: str, form: str) -> None:
    request = urllib.request.Request(server.url + path, data=form.encode(), method="POST")
    request.add_header("Content-Type", "application/x-www-form-urlencoded")
    request.add_header("Origin", server.url)
    try:
        urllib.request.urlopen(request).close()
    except urllib.error.HTTPError as error:
        error.close()


def _database_of(server: Server) -> dict[str, str]:
    """The setting with which the server was started, where it is not SQLite."""
    url = _environment(server.state["pid"]).get("MILLPOND_DATABASE_URL")
    return {"MILLPOND_DATABASE_URL": url} if url else {}


def _environment(pid: int) -> dict[str, str]:
    pairs = (Path("/proc") / str(pid) / "environ").read_text().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)
