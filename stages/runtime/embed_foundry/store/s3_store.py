"""A store on any S3 server: conditional writes, SHA-256 checksums with every byte, bounded retries."""

import base64
import hashlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
from botocore.handlers import validate_bucket_name

from ..errors import InputError, IntegrityError, RemoteError, RetryableError
from . import s3_answers, s3_multipart
from .s3_errors import BROKEN_CONNECTION, error_code, http_status, translate_errors
from .s3_multipart import CONDITION_FAILED, CONFLICTS, PART_BYTES, S3Client
from .store import OBJECTS, ProgressCallback, VersionedBytes

ATTEMPTS = 6
# Nobody resumes a multipart upload that is older than this.
STALE_S = 24 * 3600
CONDITIONS_KEY = "conditions"
COUNT = re.compile(r"[1-9][0-9]?")


@dataclass(frozen=True)
class S3Store:
    """A bucket, or the keys under a prefix of it. For what the methods promise see `store.Store`.

    Attributes:
        client: boto3's S3 client.
        bucket: its name.
        prefix: what all keys begin with: "" or "some/folder/".
        address: the store's address, for messages.
        part_bytes: size of a multipart upload's parts; smaller files are one request.
        stale_s: age in seconds from which `remove_stale_uploads` aborts an upload.
    """

    client: S3Client
    bucket: str
    prefix: str
    address: str
    part_bytes: int = PART_BYTES
    stale_s: float = STALE_S

    @classmethod
    def connect(cls, bucket: str, prefix: str, endpoint: str | None) -> "S3Store":
        """Return the store, by boto3's own configuration (environment, profile, role); sends no request.

        Raises:
            InputError: boto3 takes no such bucket name, or cannot be configured so.
        """
        address = f"s3://{bucket}/{prefix}".rstrip("/")
        try:
            validate_bucket_name({"Bucket": bucket})
        except ParamValidationError:
            raise InputError(
                f"store: bucket {bucket!r}: expected up to 255 of A-Z a-z 0-9 . _ - or the ARN of an access point. "
                "Correct --store."
            ) from None
        # Standard mode retries connection errors, time-outs, 5xx and throttling, with growing waits.
        config = Config(
            retries={"mode": "standard", "total_max_attempts": _count_attempts()},
            connect_timeout=s3_answers.CONNECT_S,
            read_timeout=s3_answers.READ_S,
            max_pool_connections=s3_multipart.WORKERS,
        )
        with translate_errors(address, "connect"):
            session = boto3.session.Session()
            # Most servers other than Amazon's have no regions, but a signature names one.
            region = session.region_name or os.environ.get("AWS_REGION") or "us-east-1"
            try:
                client = session.client("s3", endpoint_url=endpoint, region_name=region, config=config)
            except BotoCoreError:  # some of which are ValueErrors
                raise
            except ValueError as error:
                raise InputError(f"{address}: {error}. Correct --endpoint or AWS_ENDPOINT_URL.") from None
        s3_answers.guard(client, address)
        return cls(client, bucket, f"{prefix}/" if prefix else "", address)

    def require_conditional_writes(self) -> None:
        """Try both conditions on an object of their own: on a server that ignores them, everybody wins each race."""
        created = self._put_with_retries(CONDITIONS_KEY, b"", IfNoneMatch="*")
        ignored = (created and self._put_with_retries(CONDITIONS_KEY, b"", IfNoneMatch="*")) or self._put_with_retries(
            CONDITIONS_KEY, b"", IfMatch=f'"{"0" * 32}"'
        )
        if ignored:
            raise RemoteError(
                f"{self.address}: this server ignores If-None-Match or If-Match, so releases could be overwritten "
                "and two promotions could both win. Use a server that honours them."
            )

    def get_size(self, key: str) -> int | None:
        """Request an object's size in bytes."""
        with translate_errors(self.address, f"look up {key}"):
            try:
                return int(self.client.head_object(Bucket=self.bucket, Key=self.prefix + key)["ContentLength"])
            except ClientError as error:
                if http_status(error) != 404 or error_code(error) == "NoSuchBucket":
                    raise
        return None

    def create(self, key: str, source: Path, on_progress: ProgressCallback) -> None:
        """Upload a file in one conditional request, or in parts, which a later run can resume."""
        size = source.stat().st_size
        with translate_errors(self.address, f"upload {key}"):
            if size > self.part_bytes:
                upload = s3_multipart.MultipartUpload(
                    self.client, self.bucket, self.prefix + key, source, size, self.part_bytes
                )
                upload.run(on_progress)
                return
        self._put_with_retries(key, source.read_bytes(), IfNoneMatch="*")
        on_progress(size)

    def stream(self, key: str) -> Iterator[bytes]:
        """Download in blocks of 1 MiB; when the connection breaks, continue where it stopped."""
        offset, total, failures, progressed = 0, 1, 0, time.monotonic()
        resume: dict[str, str] = {}
        with translate_errors(self.address, f"download {key}"):
            while offset < total:
                try:
                    answer = self.client.get_object(Bucket=self.bucket, Key=self.prefix + key, **resume)
                    total = offset + int(answer["ContentLength"])
                    for block in answer["Body"].iter_chunks(1 << 20):
                        yield block
                        offset, progressed = offset + len(block), time.monotonic()
                    return
                except BROKEN_CONNECTION:
                    failures += 1
                    if failures == ATTEMPTS or time.monotonic() - progressed > s3_answers.GIVE_UP_S:
                        raise
                    time.sleep(0.1 * 2**failures)
                    resume = {"Range": f"bytes={offset}-", "IfMatch": answer["ETag"]} if offset else {}
                except ClientError as error:
                    if error_code(error) != "NoSuchKey":
                        raise
                    raise IntegrityError(f"{self.address}/{key}: missing. Publish the release again.") from None

    def read(self, key: str) -> VersionedBytes | None:
        """Download a small object with its ETag."""
        with translate_errors(self.address, f"read {key}"):
            try:
                answer = self.client.get_object(Bucket=self.bucket, Key=self.prefix + key)
            except ClientError as error:
                if error_code(error) != "NoSuchKey":
                    raise
                return None
            if answer.get("ContentType", "").startswith("text/html"):  # all that is read here is JSON
                raise s3_answers.refuse(self.address, "a web page")
            return VersionedBytes(answer["Body"].read(), answer["ETag"])

    def compare_and_swap(self, key: str, data: bytes, version: str | None) -> bool:
        """Write if the ETag is still `version`; after a refusal, check whether our own write got through before."""
        condition = {"IfMatch": version} if version else {"IfNoneMatch": "*"}
        if self._put_with_retries(key, data, **condition):
            return True
        # botocore repeats a request whose answer was lost; the second one then meets what the first one wrote.
        current = self.read(key)
        return current is not None and current.data == data

    def list_keys(self, prefix: str) -> list[str]:
        """List keys."""
        with translate_errors(self.address, f"list {prefix}"):
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self.prefix + prefix
            )
            keys = [item["Key"].removeprefix(self.prefix) for page in pages for item in page.get("Contents", [])]
        return sorted(key for key in keys if not key.endswith("/"))  # S3 consoles make empty objects for folders

    def remove_stale_uploads(self) -> int:
        """Abort multipart uploads of objects that began long ago."""
        now = datetime.now(UTC)
        with translate_errors(self.address, "look for stale uploads"):
            stale = [
                upload
                for upload in s3_multipart.list_unfinished(self.client, self.bucket, self.prefix + OBJECTS)
                if (now - upload["Initiated"]).total_seconds() >= self.stale_s
            ]
            for upload in stale:
                s3_multipart.abort(self.client, self.bucket, upload["Key"], upload["UploadId"])
        return len(stale)

    def _put_with_retries(self, key: str, data: bytes, **condition: str) -> bool:
        """Put, and again while another request to the same key is in progress: S3's 409, R2's 429."""
        with translate_errors(self.address, f"write {key}"):
            for attempt in range(ATTEMPTS):
                try:
                    return self._put(key, data, **condition)
                except ClientError as error:
                    if error_code(error) not in CONFLICTS and http_status(error) not in (409, 429):
                        raise
                time.sleep(0.1 * 2**attempt)
        raise RetryableError(
            f"{self.address}: write {key}: others keep writing it (HTTP 409 or 429, {ATTEMPTS} times). Run again later."
        )

    def _put(self, key: str, data: bytes, **condition: str) -> bool:
        """Put a small object; False if the condition does not hold."""
        checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
        try:
            self.client.put_object(
                Bucket=self.bucket, Key=self.prefix + key, Body=data, ChecksumSHA256=checksum, **condition
            )
        except ClientError as error:
            # Amazon answers If-Match on a missing key with 404.
            if error_code(error) in CONDITION_FAILED or http_status(error) == 412:
                return False
            raise
        return True


def _count_attempts() -> int:
    """Return how often a request is sent at most: $AWS_MAX_ATTEMPTS, as boto3 reads it, else ATTEMPTS."""
    text = os.environ.get("AWS_MAX_ATTEMPTS") or str(ATTEMPTS)
    if not COUNT.fullmatch(text):
        raise InputError(f"AWS_MAX_ATTEMPTS={text[:20]!r}: expected a whole number from 1 to 99. Correct or unset it.")
    return int(text)
