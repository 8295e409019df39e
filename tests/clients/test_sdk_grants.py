"""Grants through the unmodified databricks-sdk and unitycatalog-client, on both databases."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import unitycatalog.client as uc
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import BadRequest, InvalidParameterValue, NotFound, PermissionDenied
from databricks.sdk.service.catalog import PermissionsChange, Privilege, SecurableType

from millpond.identity.domain import Draft, Principal, PrincipalKind
from tests.catalog.conftest import Site, catalog, data_dir, database, make_table, people, site

__all__ = ["catalog", "data_dir", "database", "people", "site"]

P = Privilege


@pytest.fixture
def lake(site: Site) -> Site:
    """A table, a volume and a model of alice's."""
    alice = site.people.alice
    site.catalog.create_catalog(alice, name="lake")
    make_table(site.catalog, alice, "lake.default.t")
    return site


def change(w: WorkspaceClient, kind: str, name: str, who: str, *add: Privilege, remove: tuple[P, ...] = ()) -> None:
    wish = PermissionsChange(principal=who, add=list(add), remove=list(remove))
    w.grants.update(kind, name, changes=[wish])


def let_bob_read(site: Site, bob: Principal) -> None:
    w = site.client(site.people.alice)
    change(w, "catalog", "lake", bob.name, P.USE_CATALOG, P.USE_SCHEMA)
    change(w, "TABLE", "lake.default.t", bob.name, P.SELECT)


def test_what_is_granted_is_listed_effective_and_revoked(lake: Site) -> None:
    """Direct and inherited, filtered by principal; what is revoked is gone at once."""
    w, bob = lake.client(lake.people.alice), lake.people.bob
    mine = lake.client(bob)
    with pytest.raises(NotFound):
        mine.tables.get("lake.default.t")
    let_bob_read(lake, bob)
    assert mine.tables.get("lake.default.t").name == "t"
    direct = w.grants.get("table", "lake.default.t").privilege_assignments or []
    assert [(each.principal, each.privileges) for each in direct] == [(bob.name, [P.SELECT])]
    [effective] = w.grants.get_effective("table", "lake.default.t", principal=bob.name).privilege_assignments or []
    found = {(p.privilege, p.inherited_from_type, p.inherited_from_name) for p in effective.privileges or []}
    assert found == {
        (P.SELECT, None, None), (P.USE_CATALOG, SecurableType.CATALOG, "lake"),
        (P.USE_SCHEMA, SecurableType.CATALOG, "lake"),
    }  # fmt: skip
    change(w, "table", "lake.default.t", bob.name, remove=(P.SELECT,))
    with pytest.raises(NotFound):
        mine.tables.get("lake.default.t")


def test_errors_tell_what_is_wrong_and_nothing_more(lake: Site) -> None:
    """A stranger's NotFound is that of an object that is not there; a reader is denied."""
    stranger, alice = lake.client(lake.people.bob), lake.client(lake.people.alice)
    texts = []
    for name in ("lake.default.t", "lake.default.u", "pond.default.t"):
        with pytest.raises(NotFound) as refused:
            stranger.grants.get("table", name)
        texts.append(str(refused.value).replace(name, "it"))
    assert len(set(texts)) == 1
    let_bob_read(lake, lake.people.bob)
    with pytest.raises(PermissionDenied, match="MANAGE"):
        change(stranger, "table", "lake.default.t", lake.people.bob.name, P.MODIFY)
    with pytest.raises(InvalidParameterValue, match="not applicable to a table"):
        change(alice, "table", "lake.default.t", lake.people.bob.name, P.CREATE_TABLE)
    with pytest.raises(InvalidParameterValue, match="does not exist"):
        change(alice, "table", "lake.default.t", "nobody@example.com", P.SELECT)
    with pytest.raises(BadRequest, match="Nothing can be granted"):
        alice.grants.get("share", "s")


def test_the_metastore_lets_account_users_make_catalogs(site: Site) -> None:
    """From the start, and an administrator may revoke it; others may not."""
    admin, alice = site.client(), site.client(site.people.alice)
    metastore = admin.metastores.current().metastore_id or ""
    [granted] = admin.grants.get("metastore", metastore).privilege_assignments or []
    assert (granted.principal, granted.privileges) == ("account users", [P.CREATE_CATALOG])
    with pytest.raises(PermissionDenied):
        change(alice, "metastore", metastore, site.people.alice.name, P.CREATE_CATALOG)


def test_pages_hold_all_of_a_principals_privileges(lake: Site) -> None:
    """By the SDK's rule: 0 is the server's page, less than 150 an error, and a token leads on."""
    w = lake.client(lake.people.alice)
    names = [f"p{number}" for number in range(40)]
    for name in names:
        draft = Draft(name=name, display_name=name)
        lake.people.directory.create(lake.people.admin, PrincipalKind.GROUP, draft)
    wishes = [PermissionsChange(principal=name, add=[P.SELECT, P.MODIFY, P.USE_SCHEMA, P.EXECUTE]) for name in names]
    w.grants.update("schema", "lake.default", changes=wishes)
    first = w.grants.get("schema", "lake.default", max_results=150)
    second = w.grants.get("schema", "lake.default", max_results=150, page_token=first.next_page_token)
    assert second.next_page_token is None
    pages = [first.privilege_assignments or [], second.privilege_assignments or []]
    assert [len(page) for page in pages] == [37, 3]
    assert all(len(each.privileges or []) == 4 for page in pages for each in page)
    assert len(w.grants.get("schema", "lake.default", max_results=0).privilege_assignments or []) == 40
    with pytest.raises(InvalidParameterValue, match="at least 150"):
        w.grants.get("schema", "lake.default", max_results=10)


def test_unity_catalogs_own_client_reads_and_writes_them(lake: Site) -> None:
    """It writes `USE CATALOG` with a blank and knows no other form."""

    async def work() -> None:
        made = uc.ApiClient(uc.Configuration(host=lake.url + "/api/2.1/unity-catalog"))
        made.set_default_header("Authorization", f"Bearer {lake.people.tokens[lake.people.alice.name]}")
        async with made:
            api = uc.GrantsApi(made)
            wish = uc.PermissionsChange(principal=lake.people.bob.name, add=[uc.Privilege.USE_CATALOG], remove=[])
            body = uc.UpdatePermissions(changes=[wish])
            await api.update(uc.SecurableType.CATALOG, "lake", update_permissions=body)
            found = await api.get(uc.SecurableType.CATALOG, "lake")
            [one] = found.privilege_assignments or []
            assert (one.principal, one.privileges) == (lake.people.bob.name, [uc.Privilege.USE_CATALOG])

    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work()).result()


def explained(lake: Site, query: dict[str, str]) -> Any:
    with lake.http(lake.people.alice) as http:
        return http.get("/api/millpond/access/explain", params=query).json()


def test_access_is_explained(lake: Site) -> None:
    """To the owner, by grant and place; with what is missing."""
    query = {"principal": lake.people.bob.name, "privilege": "SELECT", "securable_type": "table"}
    query["name"] = "lake.default.t"
    told = explained(lake, query)
    assert told["allowed"] is False
    assert {each["privilege"] for each in told["missing"]} == {"SELECT", "USE_CATALOG", "USE_SCHEMA"}
    let_bob_read(lake, lake.people.bob)
    told = explained(lake, query)
    assert (told["allowed"], told["missing"]) == (True, [])
    assert {(each["privilege"], each["name"]) for each in told["reasons"]} == {
        ("SELECT", "lake.default.t"), ("USE_CATALOG", "lake"), ("USE_SCHEMA", "lake"),
    }  # fmt: skip
