"""dvc.yaml, stages/, conf/, tests/ and the tree of docs/layout.md use the same names; who imports whom."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from stages.quality import cell_key
from support import import_graph

ROOT = Path(__file__).resolve().parent.parent
STAGES = ROOT / "stages"
DAG = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
# Rooms of stages/ that are not stages: commands, shared code, the package that ships.
ROOMS = {"commands", "common", "runtime"}
COMMANDS = {"add_model", "build", "compose", "publish", "repair", "search", "sign"}
# Modules that cannot change an output's content, so no stage depends on them in dvc.yaml.
NEUTRAL = {
    "stages/__init__.py": "silences libraries",
    "stages/common/config": "its values are the stages' params",
    "stages/common/contract/output.py": "writes a folder and its manifest, not what is in it",
    "stages/common/contract/process.py": "starts and ends a process",
    "stages/runtime/embed_foundry/errors.py": "error messages",
    "stages/runtime/embed_foundry/exits.py": "exit codes",
    "stages/runtime/embed_foundry/output": "writes a folder or a file whole, not what is in it",
    "stages/runtime/embed_foundry/progress.py": "shows progress",
    "stages/runtime/embed_foundry/system_errors.py": "error messages",
    "stages/runtime/embed_foundry/manifest.py": "its SCHEMA changes with its layout",
}
# What the bundle stage copies as files.
BUNDLED = {"bundle": {"stages/runtime"}}
MODULES = sorted(path for path in STAGES.rglob("*.py") if "runtime" not in path.relative_to(STAGES).parts)
HEAVY = {"torch", "mteb", "transformers", "sentence_transformers", "matplotlib", "datasets", "sklearn", "optimum"}


def list_rooms() -> set[str]:
    """Return the names in stages/ that a reader sees."""
    return {
        path.stem
        for path in STAGES.iterdir()
        if (path.is_dir() or path.suffix == ".py") and path.name not in ("__init__.py", "__pycache__")
    }


def stage_template(stage: dict) -> dict:
    return stage.get("do", stage)


def list_outputs(stage: dict) -> list[str]:
    return [next(iter(out)) if isinstance(out, dict) else out for out in stage_template(stage)["outs"]]


def test_every_stage_is_a_room_and_every_room_is_known():
    assert list_rooms() - ROOMS == set(DAG)
    commands = {
        path.stem for path in (STAGES / "commands").iterdir() if path.name not in ("__init__.py", "__pycache__")
    }
    assert commands - {"cli"} == COMMANDS


@pytest.mark.parametrize("name", sorted(DAG))
def test_stage_runs_the_module_of_its_name(name):
    assert re.fullmatch(rf"python -m stages\.{name}( \$\{{(key|item)\}})?", stage_template(DAG[name])["cmd"])
    assert (STAGES / f"{name}.py").is_file() or (STAGES / name / "__main__.py").is_file()


@pytest.mark.parametrize("name", sorted(DAG))
def test_stage_depends_on_its_own_code_and_on_what_exists(name):
    deps = stage_template(DAG[name]).get("deps", [])
    own = {f"stages/{name}.py", f"stages/{name}"} & set(deps)
    assert own, "a change of its code must run it again"
    outs = {out for stage in DAG.values() for out in list_outputs(stage)}
    outs |= {out.partition("/")[0] for out in outs}
    for dep in deps:
        assert dep in outs or "${" in dep or (ROOT / dep).exists(), dep


def is_neutral(path: Path) -> bool:
    return any(path == ROOT / neutral or path.is_relative_to(ROOT / neutral) for neutral in NEUTRAL)


def list_modules(name: str) -> list[Path]:
    """Return the modules of a stage's room."""
    return [STAGES / f"{name}.py"] if (STAGES / f"{name}.py").is_file() else sorted((STAGES / name).rglob("*.py"))


def test_a_cells_digest_covers_the_code_that_evaluates_it():
    evaluating = [STAGES / "quality" / f"{name}.py" for name in ("evaluation", "mteb_encoder")]
    encoders = [path for path in cell_key.CODE if path.is_relative_to(STAGES / "runtime")]
    needed = import_graph.find_dependencies([*evaluating, *encoders], is_neutral)
    assert {path for path in needed if path.name != "__init__.py"} <= set(cell_key.CODE)


@pytest.mark.parametrize("name", sorted(DAG))
def test_stage_depends_on_all_code_that_it_imports_and_on_no_other(name):
    declared = {dep for dep in stage_template(DAG[name]).get("deps", []) if dep.startswith("stages/")}
    dependencies = import_graph.find_dependencies(list_modules(name), is_neutral)
    needed = {path.relative_to(ROOT).as_posix() for path in dependencies}
    needed = {path for path in needed if not path.endswith("__init__.py") or path.startswith(f"stages/{name}/")}
    # A text or template beside a module, under its name, is part of it.
    needed |= {
        file.relative_to(ROOT).as_posix()
        for path in map(ROOT.joinpath, needed)
        for file in path.parent.glob(f"{path.stem}.*")
        if file.is_file()
    }

    def covers(dep: str, path: str) -> bool:
        return path == dep or path.startswith(f"{dep}/")

    assert {path for path in needed if not any(covers(dep, path) for dep in declared)} == set(), "missing in dvc.yaml"
    unused = {dep for dep in declared if not any(covers(dep, path) for path in needed)}
    assert unused - BUNDLED.get(name, set()) == set(), "not needed in dvc.yaml"


@pytest.mark.parametrize("name", sorted(DAG))
def test_stage_writes_what_has_its_name(name):
    other_names = {
        "download": "models/base",
        "convert": "variants/${key}",
        "finetune": "finetune/${item}",
        "machine": "machine.json",
        "bundle": "release",
    }
    assert list_outputs(DAG[name]) == [other_names.get(name, name)]


def test_outputs_are_ignored_by_the_root_gitignore_alone():
    """DVC would write nested .gitignore files, and hash them with the outputs."""
    gitignore = (ROOT / ".gitignore").read_text().split()
    for name, stage in DAG.items():
        for out in stage_template(stage)["outs"]:
            path, options = next(iter(out.items())) if isinstance(out, dict) else (out, {})
            if options.get("cache", True):
                assert f"/{path.partition('/')[0]}/" in gitignore, f"{name}: {path}"


@pytest.mark.parametrize("name", sorted({*DAG, *COMMANDS}))
def test_every_stage_has_its_tests(name):
    assert (ROOT / "tests" / f"test_{name}.py").is_file()


@pytest.mark.parametrize("name", sorted({*DAG, *COMMANDS}))
def test_every_module_docstring_is_the_contract(name):
    folder = STAGES / "commands" if name in COMMANDS else STAGES
    path = folder / f"{name}.py" if (folder / f"{name}.py").is_file() else folder / name / "__init__.py"
    contract = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert re.match(rf"{name}\b.*: ", contract.splitlines()[0])
    for part in ("In:", "Out:", "Fails:"):
        assert part in contract, part


def test_parameters_in_the_graph_exist():
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for stage in DAG.values():
        for path in stage_template(stage).get("params", []):
            value = params
            for part in path.replace("${key}", next(iter(params["variants"]))).split("."):
                assert part in value, path
                value = value[part]


def read_tree() -> dict[str, list[str]]:
    """Return folder -> entries of the tree in docs/layout.md, folders with their slash."""
    text = (ROOT / "docs" / "layout.md").read_text(encoding="utf-8")
    block = next(part for part in re.split(r"^```.*\n", text, flags=re.MULTILINE) if "\nstages/ " in part)
    tree: dict[str, list[str]] = {"": []}
    parents: list[str] = []
    for line in filter(str.strip, block.splitlines()):
        depth, entry = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        parents = parents[:depth]
        tree["".join(parents)].append(entry)
        if entry.endswith("/"):
            parents.append(entry)
            tree["".join(parents)] = []
    return tree


def test_the_readme_is_short_and_leads_to_every_page():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 150
    pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")}
    assert set(re.findall(r"\]\((docs/[^)]*)\)", text)) == pages | {"docs/deploy", "docs/railway"}


def test_the_tree_shows_stages_and_conf_as_they_are():
    tree = read_tree()
    assert {entry.removesuffix("/").removesuffix(".py") for entry in tree["stages/"]} == list_rooms()
    for entry in tree["stages/"]:
        assert (STAGES / entry).is_dir() == entry.endswith("/"), entry
    conf = {path.name + "/" * path.is_dir() for path in (ROOT / "conf").iterdir()}
    assert set(tree["conf/"]) == conf
    for folder, entries in tree.items():
        for entry in entries:
            built = entry in {"release/", "report/"}
            assert built or (ROOT / folder / entry).exists(), f"{folder}{entry}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(STAGES).as_posix())
def test_stages_import_the_shared_rooms_and_never_each_other(path):
    room = path.relative_to(STAGES).parts[0].removesuffix(".py")
    allowed = {"common": {"common"}, "commands": {*DAG, "common", "commands"}}.get(room, {"common", room})
    for module, name in import_graph.imported_names(path):
        parts = f"{module}.{name}".split(".")
        if parts[0] == "stages" and parts[1] in list_rooms():
            assert parts[1] in allowed, f"{path.relative_to(ROOT)} imports {module} {name}"


def test_no_module_imports_in_a_circle():
    runtime = sorted((STAGES / "runtime").rglob("*.py"))
    assert list(import_graph.find_circles([*MODULES, *runtime])) == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(STAGES).as_posix())
def test_a_module_imports_from_its_own_package_by_the_defining_module(path):
    """An import through the package's __init__.py is a hidden circle."""
    if path.name != "__init__.py":
        package = import_graph.module_name(path).rpartition(".")[0]
        names = [name for module, name in import_graph.imported_names(path) if module == package]
        assert [name for name in names if not import_graph.locate(f"{package}.{name}")] == []


def test_an_init_module_only_imports_where_its_package_has_other_modules():
    for path in MODULES:
        if path.name == "__init__.py" and len(list(path.parent.glob("*.py"))) > 1 and path.parent != STAGES:
            body = ast.parse(path.read_text(encoding="utf-8")).body[1:]
            statements = [node for node in body if not isinstance(node, ast.ImportFrom)]
            assert [ast.unparse(node) for node in statements if not ast.unparse(node).startswith("__all__")] == [], path


RUNTIME = sorted((STAGES / "runtime" / "embed_foundry").glob("*.py"))


@pytest.mark.parametrize("path", RUNTIME, ids=lambda path: path.name)
def test_the_runtime_imports_nothing_of_the_build(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert [alias.name for alias in node.names if alias.name.startswith("stages")] == []
        elif isinstance(node, ast.ImportFrom):
            assert node.level or not (node.module or "").startswith("stages")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(STAGES).as_posix())
def test_modules_read_params_only_in_main(path):
    """Only mains call `config.load`; `run` takes typed configuration."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "run"):
        calls = [ast.unparse(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)]
        assert "config.load" not in calls, path


MEASURE_IMPORT = """
import importlib, json, sys, time
started = time.process_time()
module = importlib.import_module(sys.argv[1])
print(json.dumps([time.process_time() - started, sorted(set(sys.argv[2:]) & set(sys.modules))]))
"""


@pytest.mark.parametrize("name", sorted({*DAG, *(f"commands.{name}" for name in (*COMMANDS, "cli"))}))
def test_importing_a_stage_is_light(name):
    command = [sys.executable, "-c", MEASURE_IMPORT, f"stages.{name}", *sorted(HEAVY)]
    process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    seconds, heavy = yaml.safe_load(process.stdout)
    assert heavy == []
    assert seconds < 1.0


def test_no_file_is_too_long_to_read():
    lines = {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in STAGES.rglob("*.py")
    }
    assert {name: count for name, count in lines.items() if count >= 300} == {}


def test_no_function_is_too_long_to_read():
    """From its first line to its last, docstring aside."""
    lengths = {}
    for path in STAGES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
                lengths[f"{path.relative_to(ROOT)}:{node.name}"] = (node.end_lineno or 0) - first.lineno + 1
    assert {name: length for name, length in lengths.items() if length > 60} == {}
