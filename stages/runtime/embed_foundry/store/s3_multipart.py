"""Multipart upload of one immutable object, in parts with SHA-256, which a later run resumes after a kill.

The key names the content, so everybody who uploads it sends the same parts. Therefore a run may resume an upload that
another one began, or is still working on, and either may complete it.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
"""

import base64
import hashlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from botocore.exceptions import ClientError

from ..errors import IntegrityError, RetryableError
from .s3_errors import error_code
from .store import ProgressCallback

S3Client = Any  # boto3 makes its clients' methods at run time

PART_BYTES = 8 << 20
MAX_PARTS = 10_000
WORKERS = 4
ATTEMPTS = 4
# The condition does not hold: the key exists (If-None-Match), has another version or does not exist (If-Match).
CONDITION_FAILED = {"PreconditionFailed", "NoSuchKey"}
# Another request to the same key was in progress.
CONFLICTS = {"ConditionalRequestConflict", "OperationAborted"}
# The upload was completed or aborted by another process, or a part of it was replaced.
UPLOAD_CHANGED = {"NoSuchUpload", "InvalidPart", "InvalidPartOrder"} | CONFLICTS
# The server has no ListMultipartUploads.
CANNOT_LIST = {"NotImplemented", "MethodNotAllowed"}
# How the names of S3 Express One Zone's buckets end.
DIRECTORY_BUCKET = "--x-s3"


class UnfinishedUpload(TypedDict):
    """An unfinished upload, as ListMultipartUploads shows it."""

    Key: str
    UploadId: str
    Initiated: datetime


class UploadArguments(TypedDict):
    """What names an upload in further requests."""

    Bucket: str
    Key: str
    UploadId: str


class ListedPart(TypedDict):
    """An uploaded part, as ListParts shows it; not every server lists checksums."""

    PartNumber: int
    ETag: str
    ChecksumSHA256: NotRequired[str]


class CompletedPart(TypedDict):
    """A part, as CompleteMultipartUpload takes it."""

    PartNumber: int
    ETag: str
    ChecksumSHA256: str


@dataclass(frozen=True)
class MultipartUpload:
    """The upload of one file.

    Attributes:
        client: boto3's S3 client.
        bucket: the bucket's name.
        key: the full key, which names the content.
        source: the file.
        size: its size in bytes.
        part_bytes: size of a part; larger if that made more than MAX_PARTS.
    """

    client: S3Client
    bucket: str
    key: str
    source: Path
    size: int
    part_bytes: int

    def run(self, on_progress: ProgressCallback) -> None:
        """Upload, unless the key exists; afterwards this key has no unfinished upload.

        Raises:
            ClientError: S3 refused.
            RetryableError: other processes ended the upload again and again.
        """
        for attempt in range(ATTEMPTS):
            upload = self._begin()
            try:
                parts = self._send_parts(upload, on_progress if attempt == 0 else lambda _: None)
                self.client.complete_multipart_upload(**upload, IfNoneMatch="*", MultipartUpload={"Parts": parts})
                break
            except ClientError as error:
                code = error_code(error)
                if code in CONDITION_FAILED or (code in UPLOAD_CHANGED and self._key_exists()):
                    break
                if code not in UPLOAD_CHANGED:
                    raise
            abort(self.client, self.bucket, upload["Key"], upload["UploadId"])
            time.sleep(0.1 * 2**attempt)
        else:
            raise RetryableError(
                f"upload {self.key}: ended {ATTEMPTS} times by another process. Run the same command again."
            )
        for leftover in self._list_unfinished():
            abort(self.client, self.bucket, leftover["Key"], leftover["UploadId"])

    def _list_unfinished(self) -> list[UnfinishedUpload]:
        uploads = list_unfinished(self.client, self.bucket, self.key)
        return [upload for upload in uploads if upload["Key"] == self.key]

    def _begin(self) -> UploadArguments:
        """Return the latest unfinished upload of this key, or a new one."""
        if unfinished := self._list_unfinished():
            upload_id = max(unfinished, key=lambda upload: upload["Initiated"])["UploadId"]
        else:
            upload_id = self.client.create_multipart_upload(
                Bucket=self.bucket, Key=self.key, ChecksumAlgorithm="SHA256"
            )["UploadId"]
        return {"Bucket": self.bucket, "Key": self.key, "UploadId": upload_id}

    def _send_parts(self, upload: UploadArguments, on_progress: ProgressCallback) -> list[CompletedPart]:
        """Send the parts that the upload lacks and return all of them, in order."""
        pages = self.client.get_paginator("list_parts").paginate(**upload)
        listed: dict[int, ListedPart] = {part["PartNumber"]: part for page in pages for part in page.get("Parts", [])}
        step = max(self.part_bytes, -(-self.size // MAX_PARTS))
        completed: list[CompletedPart] = []
        with ThreadPoolExecutor(WORKERS) as pool:
            lengths = {}
            for number, start in enumerate(range(0, self.size, step), 1):
                length = min(step, self.size - start)
                future = pool.submit(self._send_part, upload, number, start, length, listed.get(number))
                lengths[future] = length
            try:
                for future in as_completed(lengths):
                    completed.append(future.result())
                    on_progress(lengths[future])
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return sorted(completed, key=lambda part: part["PartNumber"])

    def _send_part(
        self, upload: UploadArguments, number: int, start: int, length: int, listed: ListedPart | None
    ) -> CompletedPart:
        with self.source.open("rb") as file:
            file.seek(start)
            data = file.read(length)
        if len(data) != length:
            raise IntegrityError(f"{self.source}: became shorter while it was read. Build or fetch it again.")
        checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
        if listed is not None and _holds(listed, data, checksum):
            etag = listed["ETag"]
        else:
            answer = self.client.upload_part(**upload, PartNumber=number, Body=data, ChecksumSHA256=checksum)
            etag = answer["ETag"]
        return {"PartNumber": number, "ETag": etag, "ChecksumSHA256": checksum}

    def _key_exists(self) -> bool:
        try:
            self.client.head_object(Bucket=self.bucket, Key=self.key)
        except ClientError:
            return False
        return True


def list_unfinished(client: S3Client, bucket: str, prefix: str) -> Iterator[UnfinishedUpload]:
    """Yield the unfinished multipart uploads of all keys that begin with `prefix`.

    None, if the server cannot list them: then no upload is resumed. MinIO lists those of one whole key only; directory
    buckets take only prefixes that end in a slash.
    """
    folder = prefix.rpartition("/")[0] + "/" if bucket.endswith(DIRECTORY_BUCKET) else prefix
    try:
        for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=folder):
            yield from (upload for upload in page.get("Uploads", []) if upload["Key"].startswith(prefix))
    except ClientError as error:
        if error_code(error) not in CANNOT_LIST:
            raise


def abort(client: S3Client, bucket: str, key: str, upload_id: str) -> None:
    """Abort an unfinished upload; nothing happens if it no longer exists."""
    try:
        client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
    except ClientError as error:
        if error_code(error) != "NoSuchUpload":
            raise


def _holds(part: ListedPart, data: bytes, checksum: str) -> bool:
    """Return whether a listed part holds these bytes: by SHA-256 where the server lists it, else by MD5, its ETag."""
    if listed_checksum := part.get("ChecksumSHA256"):
        return listed_checksum == checksum
    return part["ETag"].strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest()
