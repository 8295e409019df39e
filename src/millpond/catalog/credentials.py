"""Temporary credentials for clients that read and write files themselves.

Local files need none: the answer names the place, and the client must run where the disk is. For S3 the server's own
keys never leave it; the store's token service is asked for keys that live an hour and reach one prefix only.
"""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from millpond.catalog import locations
from millpond.kernel.clock import utc_now
from millpond.kernel.errors import FailedPrecondition
from millpond.kernel.settings import S3Settings

TTL = timedelta(hours=1)
_READ = ("s3:GetObject",)
_WRITE = ("s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts")


@dataclass(frozen=True, kw_only=True)
class TemporaryCredentials:
    """What opens one location for a while; no keys where none are needed."""

    location: str
    expires_at: datetime
    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None


def credentials_for(location: str, s3: S3Settings, *, write: bool) -> TemporaryCredentials:
    """Credentials for a location. Raises FailedPrecondition when the object store gives out none."""
    if locations.is_local(location):
        return TemporaryCredentials(location=location, expires_at=utc_now() + TTL)
    return _ask_store(location, s3, json.dumps(policy(location, write=write)))


def policy(location: str, *, write: bool) -> dict[str, Any]:
    """The policy of a session that reaches one prefix of one bucket. Source: AWS, IAM JSON policy reference."""
    bucket, _, prefix = location.removeprefix("s3://").partition("/")
    at = f"{prefix}/*" if prefix else "*"
    listing: dict[str, Any] = {"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": [f"arn:aws:s3:::{bucket}"]}
    if prefix:
        listing["Condition"] = {"StringLike": {"s3:prefix": [prefix, f"{prefix}/*"]}}
    objects = {
        "Effect": "Allow",
        "Action": [*_READ, *(_WRITE if write else ())],
        "Resource": [f"arn:aws:s3:::{bucket}/{at}"],
    }
    return {"Version": "2012-10-17", "Statement": [objects, listing]}


def _ask_store(location: str, s3: S3Settings, session_policy: str) -> TemporaryCredentials:
    import boto3  # here, because it is an extra and slow to import
    from botocore.exceptions import BotoCoreError, ClientError

    sts = boto3.client(
        "sts",
        endpoint_url=s3.endpoint_url,
        region_name=s3.region,
        aws_access_key_id=s3.access_key_id,
        aws_secret_access_key=s3.secret_access_key,
    )
    seconds = int(TTL.total_seconds())
    try:
        if s3.endpoint_url:  # MinIO and its like know AssumeRole, with a role that means nothing to them
            answer = sts.assume_role(
                RoleArn="arn:aws:iam::000000000000:role/millpond",
                RoleSessionName="millpond",
                Policy=session_policy,
                DurationSeconds=seconds,
            )
        else:
            answer = sts.get_federation_token(Name="millpond", Policy=session_policy, DurationSeconds=seconds)
    except (BotoCoreError, ClientError) as error:
        raise FailedPrecondition(
            f"The object store of '{location}' gives out no temporary credentials ({error}); read the table through "
            "Spark Connect, or let an administrator enable its token service."
        ) from error
    keys = answer["Credentials"]
    return TemporaryCredentials(
        location=location,
        expires_at=keys["Expiration"],
        access_key_id=keys["AccessKeyId"],
        secret_access_key=keys["SecretAccessKey"],
        session_token=keys["SessionToken"],
    )
