"""Opens a release over and over in a process of its own, as a service would that starts beside a build."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

PROGRAM = """
import json, sys
from pathlib import Path
from embed_foundry import Bundle, open_bundle

folder, stop, opened, faults = Path(sys.argv[1]), Path(sys.argv[2]), {}, []
while not stop.exists():
    try:
        open_bundle(folder).encode(["text"])
        digest = Bundle.load(folder).digest
        opened[digest] = opened.get(digest, 0) + 1
    except Exception as error:
        faults.append(f"{type(error).__name__}: {error}")
    print("tried", flush=True)
print(json.dumps({"opened": opened, "faults": faults}))
"""


@dataclass
class Readings:
    """What a reader met.

    Attributes:
        opened: a release's digest -> how many times it opened.
        faults: the errors of all other attempts.
    """

    opened: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


@contextmanager
def read_meanwhile(folder: Path, stop: Path) -> Iterator[Readings]:
    """Open a release again and again while the block runs; what was met is filled in when it ends.

    Args:
        folder: the release.
        stop: a file that does not exist; it ends the reader.
    """
    readings = Readings()
    command = [sys.executable, "-c", PROGRAM, folder, stop]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout
        assert reader.stdout.readline() == "tried\n"
        try:
            yield readings
        finally:
            stop.touch()
            output = reader.communicate(timeout=60)[0]
            vars(readings).update(json.loads(output.splitlines()[-1]))
