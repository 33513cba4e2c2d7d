"""docs/faults.md is whole: every row names tests that exist; conftest.py marks them."""

import ast
import re

NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def test_every_row_names_tests_that_exist(root):
    lines = [
        line for line in (root / "docs" / "faults.md").read_text(encoding="utf-8").splitlines() if line[:2] == "| "
    ]
    rows = {line.split("|")[1].strip(): NAMED.findall(line) for line in lines if not line.startswith("| row")}
    assert {int(row) for row in rows if row.isdecimal()} == set(range(1, 51))
    assert {row for row in rows if row[0] == "P"} == {f"P{number}" for number in range(1, 16)}
    assert {row for row in rows if row[0] == "S"} == {f"S{number}" for number in range(1, 17)}
    assert all(rows.values()), [row for row, tests in rows.items() if not tests]
    tests = {
        file: {node.name for node in ast.parse((root / file).read_bytes()).body if isinstance(node, ast.FunctionDef)}
        for file in {file for named in rows.values() for file, _ in named}
    }
    for row, named in rows.items():
        for file, name in named:
            assert any(test.startswith("test_") and (not name or test == name) for test in tests[file]), (row, file)
