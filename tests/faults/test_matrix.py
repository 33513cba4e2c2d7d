"""docs/faults.md is true: every test that it names is collected, and carries the marker that runs it."""

import re
import subprocess
import sys

NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def test_every_row_names_tests_that_are_collected(root):
    lines = [
        line for line in (root / "docs" / "faults.md").read_text(encoding="utf-8").splitlines() if line[:2] == "| "
    ]
    rows = {line.split("|")[1].strip(): NAMED.findall(line) for line in lines[1:]}
    assert {int(row) for row in rows if row.isdecimal()} == set(range(1, 51))
    assert all(rows.values()), [row for row, tests in rows.items() if not tests]
    files = sorted({file for tests in rows.values() for file, _ in tests})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "faults", *files]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    collected = {re.sub(r"\[.*", "", line) for line in done.stdout.splitlines() if "::" in line}
    for row, tests in rows.items():
        for file, name in tests:
            assert any(test.startswith(f"{file}::{name}") for test in collected), (row, file, name)
