"""Compare vectors of random batchings with those of each text alone, for any release.

PYTHONPATH=tests python tests/benchmarks/random_batchings.py RELEASE VARIANT TEXTS
"""

import os
import sys
from pathlib import Path

from embed_foundry import Bundle

from support.random_batchings import run


def main() -> None:
    """Run one variant and print what was seen."""
    folder, variant, count = sys.argv[1:]
    lanes = len(os.sched_getaffinity(0))
    print(variant, run(Bundle.load(Path(folder)), variant, int(count), lanes, report=True))


if __name__ == "__main__":
    main()
