"""One file of the hub over plain HTTP, continued where an earlier try stopped, also one of a process that was killed.

huggingface_hub would drop what a broken download had received, and retry inside a transfer with waits of its own; Xet
transfers have another client altogether. So only the request for a file's size and digest is huggingface_hub's.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import httpx2
from embed_foundry.errors import IntegrityError
from embed_foundry.progress import byte_bar
from huggingface_hub import constants, get_hf_file_metadata, get_session, hf_hub_url, hf_raise_for_status
from huggingface_hub.utils import build_hf_headers

from stages.common.sources.hub.connection import Connection
from stages.common.sources.hub.repository import Repository

# Bytes of a file whose download shows a bar.
LARGE = 10_000_000


class WrongSize(Exception):  # noqa: N818 - HubClient asks again, and then names its own error
    """The hub sent more or fewer bytes than it declared."""


@dataclass(frozen=True)
class RemoteFile:
    """A file as the hub serves it.

    Attributes:
        url: at the hub, which may redirect to a file store.
        etag: names the bytes: SHA-256 of a file in LFS, git's SHA-1 of another.
        size: in bytes.
    """

    url: str
    etag: str
    size: int


def request_metadata(repository: Repository, name: str, connection: Connection, where: str) -> RemoteFile:
    """Ask the hub for a file's size and digest.

    Args:
        repository: that holds the file.
        name: the file's path in it.
        connection: how to reach the hub.
        where: how messages name the commit at this hub.

    Raises:
        IntegrityError: the answer is not a hub's, or about another commit.
        httpx2.HTTPError: the hub refuses, or is not there.
    """
    url = hf_hub_url(
        repository.repo_id,
        name,
        repo_type=repository.kind,
        revision=repository.revision,
        endpoint=connection.endpoint,
    )
    metadata = get_hf_file_metadata(
        url, token=connection.token, timeout=connection.timeout_s, endpoint=connection.endpoint
    )
    # The ETag becomes a file's name.
    if not metadata.commit_hash or metadata.size is None or not re.fullmatch(r"[\w-][\w.-]*", metadata.etag or ""):
        raise IntegrityError(f"{where}: the answer names no commit, ETag or size. Check HF_ENDPOINT and proxies.")
    if metadata.commit_hash != repository.revision:
        raise IntegrityError(f"{name} of {where} came from another commit. Check HF_ENDPOINT.")
    return RemoteFile(url, str(metadata.etag), metadata.size)


def receive(file: RemoteFile, name: str, partial: Path, token: str | None) -> None:
    """Append to a partial file what it lacks.

    Args:
        file: what to receive.
        name: how progress names it.
        partial: the bytes so far; it need not exist.
        token: access token; the client sends it to the hub only, not where the hub redirects to.

    Raises:
        WrongSize: the result has another size than declared.
        httpx2.HTTPError: the hub refuses, or the connection broke off.
    """
    # The range counts bytes of the file, not of a compressed body.
    headers = build_hf_headers(token=token, headers={"Accept-Encoding": "identity"})
    with partial.open("ab") as out:
        if out.tell() != file.size:
            if out.tell():
                headers["Range"] = f"bytes={out.tell()}-"
            timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
            with get_session().stream("GET", file.url, headers=headers, timeout=timeout) as response:
                hf_raise_for_status(response)
                if response.status_code != 206:
                    out.truncate(0)
                _append(response, out, name, file.size)
    if partial.stat().st_size != file.size:
        raise WrongSize


def _append(response: httpx2.Response, out: BinaryIO, name: str, size: int) -> None:
    received = out.seek(0, os.SEEK_END)
    if size < LARGE:
        for block in response.iter_bytes():
            out.write(block)
        return
    with byte_bar(f"hub: {name}", size) as bar:
        bar.update(received)
        for block in response.iter_bytes():
            bar.update(out.write(block))
