"""What systemd offers a service: a socket that is open before it starts, and to be told when it is ready.

Both are sd_listen_fds(3) and sd_notify(3), in the few lines that they take without a library.
"""

import os
import socket

FIRST = 3  # SD_LISTEN_FDS_START


def take_socket() -> socket.socket | None:
    """Return the listening socket that systemd passed to this process; None if it passed none."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or not os.environ.get("LISTEN_FDS", "0").isdecimal():
        return None
    count = int(os.environ["LISTEN_FDS"])
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):  # they are not the children's
        os.environ.pop(name, None)
    if not count:
        return None
    listener = socket.socket(fileno=FIRST)
    listener.set_inheritable(False)
    return listener


def notify(state: str) -> None:
    """Tell systemd, or whatever set NOTIFY_SOCKET, a state such as "READY=1"; nothing where nobody listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        try:
            sender.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError:
            return
