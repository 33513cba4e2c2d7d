"""SeaweedFS on free ports: an S3 server that refuses what S3 refuses (wrong checksums, secrets, failed conditions)."""

import json
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

BUCKET = "tests"
ADMIN, PUBLISHER, READER = "admin", "publisher", "reader"
RIGHTS = {
    ADMIN: ["Admin", "Read", "Write", "List", "Tagging"],
    PUBLISHER: ["Read", "Write", "List"],  # unlike an admin's, its writes do not create a missing bucket
    READER: ["Read", "List"],
}
START_S = 60


def secret_key(user: str) -> str:
    """Return a user's secret key."""
    return f"{user}-secret-0123456789"


def find_free_ports(count: int) -> list[int]:
    """Return ports on which nothing listens, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [free.getsockname()[1] for free in sockets]


class SeaweedServer:
    """The server's process; use in `with`."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="seaweed-")
        self.endpoint = ""

    def __enter__(self) -> "SeaweedServer":
        users = [
            {"name": user, "credentials": [{"accessKey": user, "secretKey": secret_key(user)}], "actions": actions}
            for user, actions in RIGHTS.items()
        ]
        root = Path(self.folder.name)
        (root / "s3.json").write_text(json.dumps({"identities": users}))
        services = ["master", "volume", "filer", "s3"]
        ports = find_free_ports(2 * len(services))
        command: list[str | Path] = [Path(sys.executable).with_name("weed"), "server", f"-dir={root}", "-filer", "-s3"]
        command += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.config={root / 's3.json'}"]
        command += ["-s3.port.lance=0", "-s3.port.iceberg=0", "-volume.max=300", "-master.volumeSizeLimitMB=64"]
        for service in services:
            port, grpc_port = ports.pop(), ports.pop()
            command += [f"-{service}.port={port}", f"-{service}.port.grpc={grpc_port}"]
        self.endpoint = f"http://127.0.0.1:{port}"  # the last service is S3
        self.log = (root / "log").open("wb")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT)
        self._wait_until_writable(root / "log")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.log.close()
        self.folder.cleanup()

    def client(self, user: str = ADMIN) -> Any:
        """Return boto3's client for a user."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=user,
            aws_secret_access_key=secret_key(user),
            region_name="us-east-1",
            config=Config(retries={"total_max_attempts": 1}, connect_timeout=2),
        )

    def _wait_until_writable(self, log: Path) -> None:
        deadline = time.monotonic() + START_S
        while True:
            try:
                self.client().create_bucket(Bucket=BUCKET)
                self.client().put_object(Bucket=BUCKET, Key="ready", Body=b"ready")
            except (BotoCoreError, ClientError) as error:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise RuntimeError(f"SeaweedFS does not start: {error}\n{log.read_text()[-2000:]}") from error
                time.sleep(0.2)
            else:
                return
