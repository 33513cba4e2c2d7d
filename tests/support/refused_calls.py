"""Runs a command for which the kernel refuses system calls, as file systems that lack them do.

`python -m support.refused_calls linkat=95 -- COMMAND` answers linkat with errno 95. A seccomp filter does it, in the
command's process and all it starts: https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

import ctypes
import errno
import os
import platform
import struct
import sys

NUMBERS = {
    "x86_64": {"flock": 73, "link": 86, "linkat": 265, "renameat2": 316, "getdents64": 217},
    "aarch64": {"flock": 32, "linkat": 37, "renameat2": 276, "getdents64": 61},
}
# What exFAT, FAT and many network mounts lack: hard links, and renames that fail if the name exists.
NO_LINKS = dict.fromkeys(("link", "linkat", "renameat2"), errno.EOPNOTSUPP)
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 22, 38
LOAD_NUMBER, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ERRNO, ALLOW = 0x00050000, 0x7FFF0000


def refuse(errors: dict[str, int]) -> None:
    """Let this process's system calls of these names fail from now on, each with its errno."""
    numbers = NUMBERS[platform.machine()]
    steps = [(LOAD_NUMBER, 0, 0, 0)]
    for name, error in errors.items():
        if name in numbers:  # aarch64 has no `link`
            steps += [(JUMP_IF_EQUAL, 0, 1, numbers[name]), (RETURN, 0, 0, ERRNO | error)]
    steps.append((RETURN, 0, 0, ALLOW))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, 2, program, 0, 0)):
        if libc.prctl(*arguments) != 0:
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    end = sys.argv.index("--")
    refuse({name: int(error) for name, _, error in (item.partition("=") for item in sys.argv[1:end])})
    os.execv(sys.argv[end + 1], sys.argv[end + 1 :])  # noqa: S606 - a test command
