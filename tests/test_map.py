"""One name everywhere: dvc.yaml, stages/, conf/, tests/ and the README's tree tell the same story; rooms stay apart."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
STAGES = ROOT / "stages"
DAG = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
# In stages/, but no stage: commands, shared rooms, the package that ships.
COMMANDS = {"compose", "promote", "repair", "search", "sign"}
SHARED = {"cli", "common", "runtime"}
MODULES = sorted(path for path in STAGES.rglob("*.py") if "runtime" not in path.relative_to(STAGES).parts)
HEAVY = {"torch", "mteb", "transformers", "sentence_transformers", "matplotlib", "datasets", "sklearn", "optimum"}


def rooms() -> set[str]:
    """Return the names in stages/ that a reader sees."""
    return {
        path.stem
        for path in STAGES.iterdir()
        if (path.is_dir() or path.suffix == ".py") and path.name not in ("__init__.py", "__pycache__")
    }


def template(stage: dict) -> dict:
    return stage.get("do", stage)


def outputs(stage: dict) -> list[str]:
    return [next(iter(out)) if isinstance(out, dict) else out for out in template(stage)["outs"]]


def test_every_stage_is_a_room_and_every_room_is_known():
    assert rooms() - COMMANDS - SHARED == set(DAG)


@pytest.mark.parametrize("name", sorted(DAG))
def test_stage_runs_the_module_of_its_name(name):
    assert re.fullmatch(rf"python -m stages\.{name}( \$\{{(key|item)\}})?", template(DAG[name])["cmd"])
    assert (STAGES / f"{name}.py").is_file() or (STAGES / name / "__main__.py").is_file()


@pytest.mark.parametrize("name", sorted(DAG))
def test_stage_depends_on_its_own_code_and_on_what_exists(name):
    deps = template(DAG[name]).get("deps", [])
    own = {f"stages/{name}.py", f"stages/{name}"} & set(deps)
    assert own, "a change of its code must run it again"
    outs = {out for stage in DAG.values() for out in outputs(stage)}
    made = {out.partition("/")[0] for out in outs} | outs
    for dep in deps:
        assert dep in made or "${" in dep or (ROOT / dep).exists(), dep


@pytest.mark.parametrize("name", sorted(DAG))
def test_stage_writes_what_bears_its_name(name):
    named = {
        "download": "models/base",
        "convert": "variants/${key}",
        "finetune": "finetune/${item}",
        "machine": "machine.json",
        "bundle": "release",
    }
    assert outputs(DAG[name]) == [named.get(name, name)]


def test_outputs_are_ignored_by_the_root_gitignore_alone():
    """DVC would write nested ones, and hash them with the outputs."""
    ignored = (ROOT / ".gitignore").read_text().split()
    for name, stage in DAG.items():
        for out in template(stage)["outs"]:
            path, cached = (next(iter(out)), False) if isinstance(out, dict) else (out, True)
            if cached:
                assert f"/{path.partition('/')[0]}/" in ignored, f"{name}: {path}"


@pytest.mark.parametrize("name", sorted({*DAG, *COMMANDS}))
def test_every_stage_has_its_tests(name):
    assert (ROOT / "tests" / f"test_{name}.py").is_file()


@pytest.mark.parametrize("name", sorted({*DAG, *COMMANDS}))
def test_every_module_docstring_is_the_contract(name):
    path = STAGES / f"{name}.py" if (STAGES / f"{name}.py").is_file() else STAGES / name / "__init__.py"
    contract = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert re.match(rf"{name}\b.*: ", contract.splitlines()[0])
    for part in ("In:", "Out:", "Fails:"):
        assert part in contract, part


def test_parameters_in_the_graph_exist():
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for stage in DAG.values():
        for path in template(stage).get("params", []):
            value = params
            for part in path.replace("${key}", next(iter(params["variants"]))).split("."):
                assert part in value, path
                value = value[part]


def readme_tree() -> dict[str, list[str]]:
    """Return folder -> entries of the tree in the README, folders with their slash."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = next(part for part in re.split(r"^```.*\n", text, flags=re.MULTILINE) if "\nstages/ " in part)
    tree: dict[str, list[str]] = {"": []}
    inside: list[str] = []
    for line in filter(str.strip, block.splitlines()):
        depth, entry = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        inside = inside[:depth]
        tree["".join(inside)].append(entry)
        if entry.endswith("/"):
            inside.append(entry)
            tree["".join(inside)] = []
    return tree


def test_the_readme_tree_shows_stages_and_conf_as_they_are():
    tree = readme_tree()
    assert {entry.removesuffix("/").removesuffix(".py") for entry in tree["stages/"]} == rooms() - {"cli"}
    for entry in tree["stages/"]:
        assert (STAGES / entry).is_dir() == entry.endswith("/"), entry
    shown = {path.name + "/" * path.is_dir() for path in (ROOT / "conf").iterdir()}
    assert set(tree["conf/"]) == shown
    for folder, entries in tree.items():
        for entry in entries:
            made = entry in {"release/", "report/"}  # by a build
            assert made or (ROOT / folder / entry).exists(), f"{folder}{entry}"


def imports(path: Path) -> set[str]:
    """Return the absolute names of everything that a module imports, at its top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(STAGES).as_posix())
def test_stages_import_the_shared_rooms_and_never_each_other(path):
    room = path.relative_to(STAGES).parts[0].removesuffix(".py")
    if room == "cli":
        allowed = COMMANDS | {"common"}
    elif room in COMMANDS:
        allowed = set(DAG) | {"common", room}  # a command may drive stages
    elif room == "common":
        allowed = {"common"}
    else:
        allowed = {"common", room}
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "stages" and len(parts) > 1 and parts[1] in rooms():
            assert parts[1] in allowed, f"{path.relative_to(ROOT)} imports {name}"


RUNTIME = sorted((STAGES / "runtime" / "embed_foundry").glob("*.py"))


@pytest.mark.parametrize("path", RUNTIME, ids=lambda path: path.name)
def test_the_runtime_knows_nothing_of_the_build(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert [alias.name for alias in node.names if alias.name.startswith("stages")] == []
        elif isinstance(node, ast.ImportFrom):
            assert node.level or not (node.module or "").startswith("stages")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(STAGES).as_posix())
def test_modules_read_params_only_in_main(path):
    """`config.load` stands in mains alone: `run` gets typed configuration."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "run"):
        calls = [ast.unparse(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)]
        assert "config.load" not in calls, path


LIGHT = """
import importlib, json, sys, time
started = time.process_time()
module = importlib.import_module(sys.argv[1])
print(json.dumps([time.process_time() - started, sorted(set(sys.argv[2:]) & set(sys.modules))]))
"""


@pytest.mark.parametrize("name", sorted({*DAG, *COMMANDS, "cli"}))
def test_importing_a_stage_is_light(name):
    command = [sys.executable, "-c", LIGHT, f"stages.{name}", *sorted(HEAVY)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    seconds, heavy = yaml.safe_load(done.stdout)
    assert heavy == []
    assert seconds < 1.0


def test_no_file_is_too_long_to_read():
    lines = {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in STAGES.rglob("*.py")
    }
    assert {name: count for name, count in lines.items() if count >= 300} == {}
