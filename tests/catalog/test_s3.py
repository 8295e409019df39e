"""A catalog whose storage root is a bucket: volumes, files in parts, credentials, and the janitor."""

import io
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import boto3
import deltalake
import pytest
from databricks.sdk.service import catalog as uc
from sqlalchemy import update

from millpond.catalog.credentials import policy
from millpond.catalog.delta import storage_options
from millpond.catalog.domain import ObjectName
from millpond.catalog.service import CatalogService
from millpond.catalog.storage import ConfiguredStorages
from millpond.catalog.store.schema import purges
from millpond.catalog.work import Janitor
from millpond.kernel.clock import utc_now
from millpond.kernel.ids import new_id
from millpond.kernel.settings import S3Settings
from tests.applications import served
from tests.catalog.conftest import People, Site, build_catalog, build_site
from tests.catalog.test_storage import MIB, s3

__all__ = ["s3"]
V = "/Volumes/lake/default/v"


@pytest.fixture
def bucket_site(catalog: CatalogService, people: People, data_dir: Path, s3: S3Settings) -> Iterator[Site]:
    """The routes over a catalog that keeps its data in a bucket, with a catalog of alice's."""
    root = f"s3://lake/{new_id()}"
    made = build_catalog(catalog.database, people, data_dir, storages=ConfiguredStorages(s3), storage_root=root)
    made.create_catalog(people.alice, name="lake")
    app, files = build_site(people, made, s3=s3)
    with served(app) as url:
        yield Site(url=url, people=people, catalog=made, files=files)


def test_files_of_a_volume_live_in_the_bucket(bucket_site: Site) -> None:
    """Small and in parts, through the unmodified SDK."""
    w = bucket_site.client(bucket_site.people.alice)
    volume = w.volumes.create("lake", "default", "v", uc.VolumeType.MANAGED)
    assert (volume.storage_location or "").startswith(bucket_site.catalog.storage_root + "/volumes/")
    data = os.urandom(MIB) * 60
    w.files.upload(f"{V}/a/small", io.BytesIO(b"hello"))
    w.files.upload(f"{V}/a/big", io.BytesIO(data))
    assert w.files.download(f"{V}/a/big").contents.read() == data  # type: ignore[union-attr]
    assert [entry.name for entry in w.files.list_directory_contents(f"{V}/a")] == ["big", "small"]
    w.files.delete(f"{V}/a/small")
    assert [entry.name for entry in w.files.list_directory_contents(f"{V}/a")] == ["big"]


def test_a_table_made_over_rest_can_be_opened(bucket_site: Site, s3: S3Settings) -> None:
    """Its first commit is in the bucket."""
    body = {
        "name": "t", "catalog_name": "lake", "schema_name": "default", "table_type": "MANAGED",
        "columns": [{"name": "id", "type_text": "bigint", "type_name": "LONG"}],
    }  # fmt: skip
    with bucket_site.http(bucket_site.people.alice) as http:
        made = http.post("/api/2.1/unity-catalog/tables", json=body).json()
    options = storage_options(made["storage_location"], s3)
    table = deltalake.DeltaTable(made["storage_location"], storage_options=options)
    assert [field.name for field in table.schema().fields] == ["id"]


def test_temporary_credentials_are_not_the_servers_own(bucket_site: Site, s3: S3Settings) -> None:
    """Other keys, with a session and an end; they open the store."""
    bucket_site.catalog.create_volume(bucket_site.people.alice, ObjectName.parse("lake.default.v"))
    volume = bucket_site.catalog.get_volume(bucket_site.people.alice, ObjectName.parse("lake.default.v"))
    body = {"volume_id": volume.id, "operation": "WRITE_VOLUME"}
    with bucket_site.http(bucket_site.people.alice) as http:
        given = http.post("/api/2.1/unity-catalog/temporary-volume-credentials", json=body).json()
    keys = given["aws_temp_credentials"]
    assert keys["session_token"]
    assert s3.secret_access_key not in keys.values()
    assert s3.access_key_id not in keys.values()
    assert given["expiration_time"] > utc_now().timestamp() * 1000
    session = boto3.client(
        "s3",
        endpoint_url=s3.endpoint_url,
        region_name=s3.region,
        aws_access_key_id=keys["access_key_id"],
        aws_secret_access_key=keys["secret_access_key"],
        aws_session_token=keys["session_token"],
    )
    assert session.list_objects_v2(Bucket="lake", Prefix=volume.storage_location.removeprefix("s3://lake/"))


def test_a_session_reaches_one_prefix_only() -> None:
    """Not its neighbours with a longer name, and to read only unless more was asked."""
    statements = policy("s3://lake/a/b", write=False)["Statement"]
    assert statements[0]["Resource"] == ["arn:aws:s3:::lake/a/b/*"]
    assert statements[0]["Action"] == ["s3:GetObject"]
    assert statements[1]["Condition"] == {"StringLike": {"s3:prefix": ["a/b", "a/b/*"]}}
    assert "s3:PutObject" in policy("s3://lake/a/b", write=True)["Statement"][0]["Action"]


def test_the_janitor_empties_the_prefix(bucket_site: Site) -> None:
    """Of a dropped volume, once its time has come, and of no other."""
    alice, catalog = bucket_site.people.alice, bucket_site.catalog
    w = bucket_site.client(alice)
    for name in ("v", "kept"):
        w.volumes.create("lake", "default", name, uc.VolumeType.MANAGED)
        w.files.upload(f"/Volumes/lake/default/{name}/x", io.BytesIO(b"data"))
    location = catalog.get_volume(alice, ObjectName.parse("lake.default.v")).storage_location
    w.volumes.delete("lake.default.v")
    with catalog.database.write() as connection:
        connection.execute(update(purges).values(due_at=utc_now() - timedelta(days=1)))
    assert Janitor(catalog, catalog.database).run_once().purged == 1
    assert catalog.storages.tree(location, shown="v").status(("x",)) is None
    assert w.files.download("/Volumes/lake/default/kept/x").contents.read() == b"data"  # type: ignore[union-attr]
