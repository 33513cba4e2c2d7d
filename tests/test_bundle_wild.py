"""A release wherever people put one: it opens, or the message says what to do, and doing that helps."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from embed_foundry import Bundle, archive, manifest, open_bundle

from support.small_release import git, refusal

LITTER = [
    ".DS_Store",
    "variants/static/.DS_Store",
    "._README.md",
    "variants/._static",
    "variants/static/._table.safetensors",
    "._.",
    ".AppleDouble/README.md",
    "Icon\r",
    "Thumbs.db",
    "evidence/Desktop.ini",
    ".directory",
    ".git/config",
    ".git/hooks/post-checkout.py",
    ".cache/huggingface/download/bundle.json.metadata",
    ".huggingface/CACHEDIR.TAG",
    "lost+found/#12",
    "probes/.nfs00000000012345670000002a",
    ".fuse_hidden0000000400000001",
    "@eaDir/README.md@SynoEAStream",
    "variants/static/@eaDir/x",
    ".Trash-1000/files/old.py",
    ".stfolder/syncthing-folder.txt",
    ".stversions/bundle~20261127.json",
    "System Volume Information/IndexerVolumeGuid",
    "$RECYCLE.BIN/S-1/desktop.ini",
    ".Spotlight-V100/Store-V2/x",
]


@pytest.fixture(scope="module")
def release(make_release) -> Path:
    """Return a release of the static variant."""
    return make_release(1, "static")


@pytest.fixture
def copy(release, tmp_path) -> Path:
    """Return a copy of it."""
    return shutil.copytree(release, tmp_path / "a release")


def add(folder: Path, name: str, content: bytes = b"unread\n") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def run_in_shell(command: str, folder: Path) -> None:
    subprocess.run(["sh", "-euc", command], cwd=folder, capture_output=True, check=True)


def test_opens_amid_what_systems_and_tools_leave(release, copy, console, tmp_path):
    for name in LITTER:
        add(copy, name)
    (copy / ".fseventsd").symlink_to("/nowhere")
    os.mkfifo(copy / ".git" / "fifo")
    assert console("verify", copy).stdout.splitlines()[-1].endswith(f"digest {manifest.read(release).digest}")
    assert console("explain", copy).returncode == 0
    assert len(console("encode", copy, stdin="a\nb\n").stdout.splitlines()) == 2
    clean, amid = (archive.pack(Bundle.load(folder), tmp_path / f"{folder.name}.tar") for folder in (release, copy))
    assert manifest.sha256(clean) == manifest.sha256(amid)


@pytest.mark.parametrize("name", ["a b'$(x)", "模型", "new\nline"])
def test_opens_in_a_folder_of_any_name(release, tmp_path, console, name):
    done = console("verify", shutil.copytree(release, tmp_path / name))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_name_that_is_not_utf_8_is_told_since_libraries_take_none(release, tmp_path, console):
    folder = shutil.copytree(release, tmp_path / os.fsdecode(b"caf\xe9"))
    done = console("verify", folder)
    assert done.returncode == 2
    assert "caf\\udce9: is not UTF-8" in done.stderr
    folder.rename(tmp_path / "release")
    assert console("explain", tmp_path / "release").returncode == 0


EXTRA = {
    "hidden": [".env"],
    "git's own": [".gitignore", ".gitmodules"],
    "code": ["variants/static/modeling.py"],
    "what a library would read": ["variants/static/adapter_config.json", "variants/static/chat_template.jinja"],
    "double of no file": ["._evil.py"],
    "litter below the top": ["variants/.git/config"],
    "like litter": [".nfs.so", ".DS_Store.py", "thumbs.db.exe"],
    "a folder": ["venv/lib/a b.py", "venv/lib/c.py", "venv/d"],
    "no UTF-8": [os.fsdecode(b"caf\xe9.txt")],
}


@pytest.mark.parametrize("case", EXTRA)
def test_any_other_file_is_refused_with_the_command_that_removes_it(copy, case):
    for name in EXTRA[case]:
        add(copy, name)
    message = refusal(copy)
    assert "not listed in the manifest" in message
    removal = message.partition("Next: ")[2]
    assert removal.startswith("rm -r ")
    run_in_shell(removal, copy)
    Bundle.load(copy)


def test_a_mixed_up_folder_is_not_to_be_cleaned_file_by_file(copy):
    shutil.copy(copy / "variants" / "static" / manifest.NAME, copy / manifest.NAME)
    message = refusal(copy)
    assert "not listed in the manifest, so it was added later, and table.safetensors is missing" in message
    assert "rm -r" not in message


@pytest.mark.parametrize(("listed", "there"), [("LICENSE", "license"), ("variants", "VARIANTS")])
def test_a_name_whose_case_a_file_system_changed_is_named(copy, listed, there):
    (copy / listed).rename(copy / there)
    message = refusal(copy)
    assert message.startswith(f"{copy / there}")
    assert f"is listed as {listed}" in message


def test_a_clone_opens_and_says_so_where_git_changed_line_ends(release, copy, tmp_path, monkeypatch):
    for name in ("GLOBAL", "SYSTEM"):
        monkeypatch.setenv(f"GIT_CONFIG_{name}", "/dev/null")
    for command in (("init", "-q"), ("add", "--all"), ("commit", "-q", "-m", "release")):
        git(copy, *command)
    windows = ("clone", "-q", "--config", "core.autocrlf=true")
    for name, command in {"unix": windows[:2], "clean": windows}.items():
        git(tmp_path, *command, str(copy), name)
        assert Bundle.load(tmp_path / name).digest == manifest.read(release).digest
    add(tmp_path, "template/info/attributes", b"* text\n")  # above the release's own .gitattributes, which forbid it
    git(tmp_path, *windows, "--template", str(tmp_path / "template"), str(copy), "windows")
    message = refusal(tmp_path / "windows")
    assert r"its lines end with \r\n" in message
    shutil.copy(copy / manifest.NAME, tmp_path / "windows")
    assert r"its lines end with \r\n" in refusal(tmp_path / "windows"), "another file than the manifest"
    commands = message.partition("in that clone: ")[2].replace(" and ", "; ").replace(", ", "; ")
    run_in_shell(commands, tmp_path / "windows")
    Bundle.load(tmp_path / "windows")


OID = "sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393"
POINTERS = {
    f"version https://git-lfs.github.com/spec/v1\noid {OID}\nsize 12345\n": "git lfs pull",
    f"version https://hawser.github.com/spec/v1\noid {OID}\nsize 12345\n": "git lfs pull",
    "# xet version 0\nfilesize = 12345\nhash = '0'\n": "hf download",
    "/annex/objects/SHA256E-s12345--0.safetensors\n": "git annex get .",
}


@pytest.mark.parametrize("name", ["variants/static/table.safetensors", manifest.NAME])
@pytest.mark.parametrize("pointer", POINTERS)
def test_a_pointer_in_place_of_a_file_names_what_fetches_it(copy, pointer, name):
    (copy / name).write_text(pointer)
    message = refusal(copy)
    assert message.startswith(f"{copy / name}: is a")
    assert POINTERS[pointer] in message


def test_files_that_git_annex_keeps_open_and_those_that_it_did_not_fetch_are_named(copy):
    weights = copy / "variants" / "static" / "table.safetensors"
    annexed = copy / ".git" / "annex" / "objects" / "zz" / "SHA256E-s1--0"
    annexed.parent.mkdir(parents=True)
    weights.rename(annexed)
    weights.symlink_to("../../.git/annex/objects/zz/SHA256E-s1--0")
    Bundle.load(copy)
    annexed.unlink()
    assert "git annex get ." in refusal(copy)


def link_elsewhere(copy: Path) -> Path:
    (copy / "LICENSE").rename(copy.parent / "terms")
    (copy / "LICENSE").symlink_to("../terms")
    return copy / "LICENSE"


def link_a_folder(copy: Path) -> Path:
    (copy / "variants").rename(copy.parent / "elsewhere")
    (copy / "variants").symlink_to("../elsewhere")
    return copy / "variants"


def link_in_a_circle(copy: Path) -> Path:
    (copy / "round").symlink_to("round")
    return copy / "round"


def link_to_its_own_top(copy: Path) -> Path:
    (copy / "evidence" / "again").symlink_to("..", target_is_directory=True)
    return copy / "evidence" / "again"


def link_to_a_device(copy: Path) -> Path:
    (copy / "LICENSE").unlink()
    (copy / "LICENSE").symlink_to("/dev/zero")
    return copy / "LICENSE"


@pytest.mark.parametrize(
    "change", [link_elsewhere, link_a_folder, link_in_a_circle, link_to_its_own_top, link_to_a_device]
)
def test_other_links_are_refused_by_name(copy, change: Callable[[Path], Path]):
    link = change(copy)
    assert refusal(copy).startswith(f"{link}: is ")


def test_opens_on_a_volume_of_kubernetes_and_after_its_update(release, tmp_path):
    for version in ("..2026_11_27_10_13_21.123456789", "..2026_11_28_10_13_21.987654321"):
        shutil.copytree(release, tmp_path / "volume" / version)
    data = tmp_path / "volume" / "..data"
    data.symlink_to("..2026_11_27_10_13_21.123456789")
    for path in release.iterdir():
        (tmp_path / "volume" / path.name).symlink_to(f"..data/{path.name}")
    assert Bundle.load(tmp_path / "volume").digest == manifest.read(release).digest
    data.unlink()
    data.symlink_to("..2026_11_28_10_13_21.987654321")
    shutil.rmtree(tmp_path / "volume" / "..2026_11_27_10_13_21.123456789")
    assert open_bundle(tmp_path / "volume").encode(["text"]).shape == (1, 256)


READS = """
import sys
from collections import Counter
from pathlib import Path

counts = Counter()
sys.addaudithook(lambda event, args: counts.update([str(args[0])]) if event == "open" else None)
from embed_foundry import Bundle, Key

folder = Path(sys.argv[1])
Bundle.load(folder, Key(Path(sys.argv[2])))
# JSON is parsed once it was hashed; all else is opened once.
repeated = [path for path, count in counts.items() if path.startswith(f"{folder}/") and count > 1]
assert [path for path in repeated if not path.endswith(".json")] == [], repeated
assert counts[str(folder / "variants/static/table.safetensors")] == 1
"""


def test_a_signed_bundle_is_read_once(release, copy, checkout, tmp_path):
    from stages.commands import sign

    add(copy, ".git/config")
    private, public = sign.generate_key_pair(tmp_path / "key")
    sign.run(copy, sign.KeyPairSigner(private), checkout, "urn:test")
    program = [sys.executable, "-c", READS, copy, public]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
