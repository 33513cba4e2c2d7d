"""Multipart upload of one immutable object, in parts with SHA-256, that a later run goes on with after a kill.

The key names the content, so that everybody who uploads it sends the same parts. Therefore a run may go on with an
upload that another one began, or still works on, and either may complete it.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
"""

import base64
import hashlib
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from embed_foundry import IntegrityError, RetryableError

from stages.commands.promote.refusal import code
from stages.commands.promote.store import Moved

PART = 8 << 20
MOST_PARTS = 10_000
WORKERS = 4
ATTEMPTS = 4
# The condition does not hold: the key exists (If-None-Match) or is another version, or none (If-Match).
LOST = {"PreconditionFailed", "NoSuchKey"}
# Another request to the same key was in the way.
CONFLICTS = {"ConditionalRequestConflict", "OperationAborted"}
# The upload is no longer what this run thinks: completed or aborted by another one, or a part of it was replaced.
GONE = {"NoSuchUpload", "InvalidPart", "InvalidPartOrder"} | CONFLICTS


@dataclass(frozen=True)
class Upload:
    """One file on its way.

    Attributes:
        client: boto3's S3 client.
        bucket: the bucket's name.
        key: the full key, which names the content.
        source: the file.
        size: its bytes.
        part: bytes of a part; more if that made too many of them.
    """

    client: Any
    bucket: str
    key: str
    source: Path
    size: int
    part: int

    def run(self, moved: Moved) -> None:
        """Upload, unless the key exists; afterwards no unfinished upload of this key is left.

        Raises:
            ClientError: S3 refused.
            RetryableError: the upload was taken away again and again.
        """
        for attempt in range(ATTEMPTS):
            upload = self._begin()
            try:
                parts = self._send(upload, moved if attempt == 0 else lambda _: None)
                self.client.complete_multipart_upload(**upload, IfNoneMatch="*", MultipartUpload={"Parts": parts})
                break
            except ClientError as error:
                if code(error) in LOST or (code(error) in GONE and self._exists()):
                    break
                if code(error) not in GONE:
                    raise
            abort(self.client, self.bucket, upload)
            time.sleep(0.1 * 2**attempt)
        else:
            raise RetryableError(f"upload {self.key}: was taken away {ATTEMPTS} times. Run the same command again.")
        for left in uploads(self.client, self.bucket, self.key):
            if left["Key"] == self.key:
                abort(self.client, self.bucket, left)

    def _begin(self) -> dict[str, str]:
        """Return the latest unfinished upload of this key, or a new one, as the arguments of further requests."""
        open_ = [found for found in uploads(self.client, self.bucket, self.key) if found["Key"] == self.key]
        if open_:
            number = max(open_, key=lambda found: found["Initiated"])["UploadId"]
        else:
            number = self.client.create_multipart_upload(Bucket=self.bucket, Key=self.key, ChecksumAlgorithm="SHA256")[
                "UploadId"
            ]
        return {"Bucket": self.bucket, "Key": self.key, "UploadId": number}

    def _send(self, upload: Mapping[str, str], moved: Moved) -> list[dict[str, Any]]:
        """Send the parts that the upload lacks and return all of them, as completion wants them."""
        pages = self.client.get_paginator("list_parts").paginate(**upload)
        there = {part["PartNumber"]: part for page in pages for part in page.get("Parts", [])}
        step = max(self.part, -(-self.size // MOST_PARTS))
        sent: dict[int, dict[str, Any]] = {}
        with ThreadPoolExecutor(WORKERS) as pool:
            starts = enumerate(range(0, self.size, step), 1)
            tasks = {
                pool.submit(self._send_part, upload, number, start, min(step, self.size - start), there.get(number)): (
                    number,
                    min(step, self.size - start),
                )
                for number, start in starts
            }
            try:
                for task in as_completed(tasks):
                    number, length = tasks[task]
                    sent[number] = task.result()
                    moved(length)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return [sent[number] for number in sorted(sent)]

    def _send_part(
        self, upload: Mapping[str, str], number: int, start: int, length: int, there: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        with self.source.open("rb") as file:
            file.seek(start)
            data = file.read(length)
        if len(data) != length:
            raise IntegrityError(f"{self.source}: became shorter while it was read. Build or fetch it again.")
        checksum = base64.b64encode(hashlib.sha256(data).digest()).decode()
        if there is None or not _same(there, data, checksum):
            there = self.client.upload_part(**upload, PartNumber=number, Body=data, ChecksumSHA256=checksum)
        return {"PartNumber": number, "ETag": there["ETag"], "ChecksumSHA256": checksum}

    def _exists(self) -> bool:
        try:
            self.client.head_object(Bucket=self.bucket, Key=self.key)
        except ClientError:
            return False
        return True


def uploads(client: Any, bucket: str, prefix: str) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - boto3's client
    """Yield the unfinished multipart uploads of the keys that begin with `prefix`."""
    for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, Prefix=prefix):
        yield from page.get("Uploads", [])


def abort(client: Any, bucket: str, upload: Mapping[str, Any]) -> None:  # noqa: ANN401 - boto3's client
    """Abort an unfinished upload; that it is gone is well."""
    try:
        client.abort_multipart_upload(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
    except ClientError as error:
        if code(error) != "NoSuchUpload":
            raise


def _same(there: Mapping[str, Any], data: bytes, checksum: str) -> bool:
    """Tell whether a listed part holds these bytes: by SHA-256 where the server lists it, else by MD5, its ETag."""
    if found := there.get("ChecksumSHA256"):
        return bool(found == checksum)
    return bool(there["ETag"].strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest())
