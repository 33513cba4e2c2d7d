"""One of several processes on a port; the supervisor starts it: `python -m embed_foundry.serve.worker`."""

import pickle
import socket
import sys

from ..exits import exit_code


def main() -> None:
    """Read the job from standard input and serve until told to stop, or until the supervisor is gone."""
    from . import server

    # From the process that started this one, over a pipe that nobody else can write.
    job = pickle.load(sys.stdin.buffer)  # noqa: S301
    server.serve(socket.socket(fileno=job.listener), job.watch, job.settings, parent=sys.stdin.fileno())


if __name__ == "__main__":
    sys.exit(exit_code(main))
