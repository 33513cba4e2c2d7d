"""A stage that stops at one of its file-system calls: `paused_stage.py CALL MARK PATTERN MODULE …`.

Only calls on paths that match the pattern count. At that call it writes how many there were so far to MARK and waits
for a signal; with -1 it runs to its end, and writes how many there were in all.
"""

import itertools
import os
import re
import runpy
import sys
import time
from pathlib import Path

CALLS = ("open", "os.", "shutil.")
NO_FILES = {"os.putenv", "os.unsetenv"}


def main() -> None:
    """Run the module."""
    wanted, mark, pattern, module = int(sys.argv[1]), Path(sys.argv[2]), re.compile(sys.argv[3]), sys.argv[4]
    process, numbers, count = os.getpid(), itertools.count(1), 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal count
        if not event.startswith(CALLS) or event in NO_FILES or os.getpid() != process:
            return
        if not any(pattern.search(str(argument)) for argument in arguments):
            return
        count = next(numbers)
        if count == wanted:
            mark.write_text(str(count))
            while True:
                time.sleep(0.05)

    sys.addaudithook(hook)
    sys.argv = [module, *sys.argv[5:]]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        if wanted < 0:
            mark.write_text(str(count))


if __name__ == "__main__":
    main()
