"""SeaweedFS on free ports: an S3 server that refuses what S3 refuses (wrong checksums, secrets, lost conditions)."""

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
    PUBLISHER: ["Read", "Write", "List"],  # unlike an admin's, its writes do not make a missing bucket
    READER: ["Read", "List"],
}
START_S = 60


def secret(user: str) -> str:
    """Return a user's secret key."""
    return f"{user}-secret-0123456789"


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens at, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for it in sockets:
            it.bind(("127.0.0.1", 0))
        return [it.getsockname()[1] for it in sockets]


class Weed:
    """The server's process; use in `with`."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="weed-")
        self.endpoint = ""

    def __enter__(self) -> "Weed":
        users = [
            {"name": user, "credentials": [{"accessKey": user, "secretKey": secret(user)}], "actions": actions}
            for user, actions in RIGHTS.items()
        ]
        root = Path(self.folder.name)
        (root / "s3.json").write_text(json.dumps({"identities": users}))
        names = ["master", "volume", "filer", "s3"]
        ports = free_ports(2 * len(names))
        command: list[str | Path] = [Path(sys.executable).with_name("weed"), "server", f"-dir={root}", "-filer", "-s3"]
        command += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.config={root / 's3.json'}"]
        command += ["-s3.port.lance=0", "-s3.port.iceberg=0", "-volume.max=300", "-master.volumeSizeLimitMB=64"]
        for name in names:
            command += [f"-{name}.port={ports.pop()}", f"-{name}.port.grpc={ports.pop()}"]
        self.endpoint = f"http://127.0.0.1:{next(str(o) for o in command if '-s3.port=' in str(o)).partition('=')[2]}"
        self.log = (root / "log").open("wb")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT)
        self._wait(root / "log")
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
            aws_secret_access_key=secret(user),
            region_name="us-east-1",
            config=Config(retries={"total_max_attempts": 1}, connect_timeout=2),
        )

    def _wait(self, log: Path) -> None:
        """Wait until a bucket can be written."""
        end = time.monotonic() + START_S
        while True:
            try:
                self.client().create_bucket(Bucket=BUCKET)
                self.client().put_object(Bucket=BUCKET, Key="ready", Body=b"ready")
            except (BotoCoreError, ClientError) as error:
                if time.monotonic() > end or self.process.poll() is not None:
                    raise RuntimeError(f"SeaweedFS does not start: {error}\n{log.read_text()[-2000:]}") from error
                time.sleep(0.2)
            else:
                return
