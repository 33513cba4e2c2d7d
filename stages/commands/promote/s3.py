"""A store on any S3: conditional writes, SHA-256 checksums with every byte, bounded retries."""

import base64
import hashlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError
from embed_foundry import InputError, IntegrityError, RemoteError, RetryableError

from stages.commands.promote import multipart
from stages.commands.promote.multipart import CONFLICTS, LOST, PART
from stages.commands.promote.refusal import BROKEN_OFF, code, explained, status
from stages.commands.promote.store import OBJECTS, Document, Moved

ATTEMPTS = 6
# The multipart uploads of a publisher that is gone: nobody goes on with them after so long.
STALE_S = 24 * 3600
CONDITIONS = "conditions"


@dataclass(frozen=True)
class S3Store:
    """A bucket, or the keys under a prefix of it. The methods' contract: `store.Store`.

    Attributes:
        client: boto3's S3 client.
        bucket: its name.
        prefix: what all keys begin with: "" or "some/folder/".
        where: the address, for messages.
        part: bytes of a multipart upload's parts; smaller files are one request.
        stale_s: age in seconds from which `sweep` aborts an upload.
    """

    client: Any
    bucket: str
    prefix: str
    where: str
    part: int = PART
    stale_s: float = STALE_S

    @classmethod
    def connect(cls, bucket: str, prefix: str, endpoint: str | None) -> "S3Store":
        """Return the store, by boto3's own configuration (environment, profile, role); asks nothing of the network."""
        # Standard mode retries connection errors, time-outs, 5xx and throttling, with growing waits.
        attempts = os.environ.get("AWS_MAX_ATTEMPTS", "")
        config = Config(
            retries={"mode": "standard", "total_max_attempts": int(attempts) if attempts.isdigit() else ATTEMPTS},
            connect_timeout=10,
            read_timeout=60,
            max_pool_connections=multipart.WORKERS,
        )
        where = f"s3://{bucket}/{prefix}".rstrip("/")
        session = boto3.session.Session()
        # Most servers that are not Amazon's have no regions, but a signature names one.
        region = session.region_name or os.environ.get("AWS_REGION") or "us-east-1"
        try:
            with explained(where, "connect"):
                client = session.client("s3", endpoint_url=endpoint, region_name=region, config=config)
        except ValueError as error:
            raise InputError(f"{where}: {error}. Correct --endpoint or AWS_ENDPOINT_URL.") from None
        return cls(client, bucket, f"{prefix}/" if prefix else "", where)

    def require_conditions(self) -> None:
        """Try both conditions on an object of its own: some servers ignore them, and then everybody wins each race."""
        fresh = self._patiently(CONDITIONS, b"", IfNoneMatch="*")
        ignored = (fresh and self._patiently(CONDITIONS, b"", IfNoneMatch="*")) or self._patiently(
            CONDITIONS, b"", IfMatch=f'"{"0" * 32}"'
        )
        if ignored:
            raise RemoteError(
                f"{self.where}: this server ignores If-None-Match or If-Match, so that releases could be overwritten "
                "and two promotions both win. Use a server that honours them."
            )

    def size(self, key: str) -> int | None:
        """Ask for an object's size in bytes."""
        with explained(self.where, f"look up {key}"):
            try:
                return int(self.client.head_object(Bucket=self.bucket, Key=self.prefix + key)["ContentLength"])
            except ClientError as error:
                if status(error) != 404 or code(error) == "NoSuchBucket":
                    raise
        return None

    def create(self, key: str, source: Path, moved: Moved) -> None:
        """Upload a file in one conditional request, or in parts that a later run goes on with."""
        size = source.stat().st_size
        with explained(self.where, f"upload {key}"):
            if size > self.part:
                upload = multipart.Upload(self.client, self.bucket, self.prefix + key, source, size, self.part)
                upload.run(moved)
                return
        self._patiently(key, source.read_bytes(), IfNoneMatch="*")
        moved(size)

    def stream(self, key: str) -> Iterator[bytes]:
        """Download in blocks of 1 MiB; a body that breaks off goes on where it stopped."""
        at, total, failures = 0, 1, 0
        same: dict[str, str] = {}
        with explained(self.where, f"download {key}"):
            while at < total:
                try:
                    answer = self.client.get_object(Bucket=self.bucket, Key=self.prefix + key, **same)
                    total = at + int(answer["ContentLength"])
                    for block in answer["Body"].iter_chunks(1 << 20):
                        yield block
                        at += len(block)
                    return
                except BROKEN_OFF:
                    failures += 1
                    if failures == ATTEMPTS:
                        raise
                    time.sleep(0.1 * 2**failures)
                    same = {"Range": f"bytes={at}-", "IfMatch": answer["ETag"]} if at else {}
                except ClientError as error:
                    if code(error) != "NoSuchKey":
                        raise
                    raise IntegrityError(f"{self.where}/{key}: missing. Publish the release again.") from None

    def read(self, key: str) -> Document | None:
        """Download a small object with its ETag."""
        with explained(self.where, f"read {key}"):
            try:
                answer = self.client.get_object(Bucket=self.bucket, Key=self.prefix + key)
            except ClientError as error:
                if code(error) != "NoSuchKey":
                    raise
                return None
            return Document(answer["Body"].read(), answer["ETag"])

    def swap(self, key: str, data: bytes, version: str | None) -> bool:
        """Write if the ETag is still `version`; when that is refused, the own write may have come through before."""
        condition = {"IfMatch": version} if version else {"IfNoneMatch": "*"}
        if self._patiently(key, data, **condition):
            return True
        # botocore repeats a request whose answer was lost; then the second one meets what the first one wrote.
        found = self.read(key)
        return found is not None and found.data == data

    def keys(self, prefix: str) -> list[str]:
        """List keys."""
        with explained(self.where, f"list {prefix}"):
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self.prefix + prefix
            )
            found = [item["Key"].removeprefix(self.prefix) for page in pages for item in page.get("Contents", [])]
        return sorted(found)

    def sweep(self) -> int:
        """Abort multipart uploads of objects that began long ago."""
        now = datetime.now(UTC)
        with explained(self.where, "look for broken-off uploads"):
            old = [
                upload
                for upload in multipart.uploads(self.client, self.bucket, self.prefix + OBJECTS)
                if (now - upload["Initiated"]).total_seconds() >= self.stale_s
            ]
            for upload in old:
                multipart.abort(self.client, self.bucket, upload)
        return len(old)

    def _patiently(self, key: str, data: bytes, **condition: str) -> bool:
        """Put, and again when another request to the same key was in the way (409), which botocore does not repeat."""
        with explained(self.where, f"write {key}"):
            for attempt in range(ATTEMPTS):
                try:
                    return self._put(key, data, **condition)
                except ClientError as error:
                    if code(error) not in CONFLICTS and status(error) != 409:
                        raise
                time.sleep(0.1 * 2**attempt)
        raise RetryableError(
            f"{self.where}: write {key}: others write it all the time (HTTP 409, {ATTEMPTS} times). Run again later."
        )

    def _put(self, key: str, data: bytes, **condition: str) -> bool:
        """Put a small object; False if the condition does not hold."""
        checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
        try:
            self.client.put_object(
                Bucket=self.bucket, Key=self.prefix + key, Body=data, ChecksumSHA256=checksum, **condition
            )
        except ClientError as error:
            # Amazon answers If-Match on a key that is not there with 404.
            if code(error) in LOST or status(error) == 412:
                return False
            raise
        return True
