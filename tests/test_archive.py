"""The archive: the same bytes anywhere, and nothing but a whole bundle comes out of one."""

import io
import os
import shutil
import tarfile
from pathlib import Path

import pytest
from embed_foundry import Bundle, InputError, IntegrityError, archive, cli, manifest


@pytest.fixture(scope="module")
def packed(released, tmp_path_factory) -> Path:
    """Return the released bundle's tar."""
    return archive.pack(Bundle.load(released.folder), tmp_path_factory.mktemp("packed") / "bundle.tar")


def test_packs_the_same_bytes_in_another_folder_time_zone_and_umask(released, packed, tmp_path, elsewhere):
    moved = shutil.copytree(released.folder, tmp_path / "renamed", copy_function=shutil.copyfile)
    for path in moved.rglob("*"):
        os.utime(path, (1, 1))
    again = archive.pack(Bundle.load(moved), tmp_path / "again.tar")
    assert manifest.sha256(again) == manifest.sha256(packed)
    with tarfile.open(packed) as tar:
        members = tar.getmembers()
    assert [info.name for info in members] == sorted(info.name for info in members)
    assert {(info.mtime, info.uid, info.gid, info.uname, info.gname, info.mode) for info in members} == {
        (0, 0, 0, "", "", 0o644)
    }


def test_comes_out_as_it_went_in(released, packed, tmp_path, console):
    done = console("unpack", packed, "--into", tmp_path / "there")
    assert (done.returncode, done.stderr) == (0, "")
    bundle = Bundle.load(released.folder)
    unpacked = tmp_path / "there" / bundle.name
    assert manifest.verify(unpacked).digest == bundle.digest
    assert "unsigned" in done.stdout
    assert done.stdout.splitlines()[-1] == f"{unpacked}: verified, digest {bundle.digest}"
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == [bundle.name]
    again = console("unpack", packed, "--into", tmp_path / "there")
    assert again.returncode == 2
    assert f"{unpacked}: exists" in again.stderr


def test_pack_names_its_tar_by_model_target_and_digest(released, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        cli.main(["pack", str(released.folder)])
    digest, path = capsys.readouterr().out.split()
    assert ended.value.code == 0
    assert path == f"{Bundle.load(released.folder).name}.tar"
    assert digest == manifest.sha256(tmp_path / path)
    with pytest.raises(InputError, match=r"is a file\. Unpack it first"):
        Bundle.load(tmp_path / path)


def test_a_place_that_cannot_be_written_is_named(released, tmp_path):
    with pytest.raises(InputError, match=r"cannot be written .*--out"):
        archive.pack(Bundle.load(released.folder), tmp_path / "none" / "bundle.tar")


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


EVIL = {
    "leaves by dots": [member("it/../../out")],
    "leaves at once": [member("it/a"), member("../out")],
    "the parent": [member("it/a"), member("..")],
    "beside the bundle": [member("it/bundle.json"), member("an/innocent")],
    "no folder": [member("it/bundle.json"), member("it/a"), member("a")],
    "absolute": [member("/tmp/out")],  # noqa: S108 - never written
    "symbolic link": [member("it/link", tarfile.SYMTYPE, "/etc/passwd")],
    "hard link": [member("it/a"), member("it/link", tarfile.LNKTYPE, "it/a")],
    "pipe": [member("it/pipe", tarfile.FIFOTYPE)],
    "device": [member("it/device", tarfile.CHRTYPE)],
    "sparse": [member("it/sparse", tarfile.GNUTYPE_SPARSE)],
    "folder": [member("it/", tarfile.DIRTYPE)],
    "twice": [member("it/a"), member("it/a")],
    "two bundles": [member("it/a"), member("that/a")],
    "dot": [member("./it/a")],
    "only a dot": [member("it/a"), member(".")],
}


@pytest.mark.parametrize("case", EVIL)
def test_what_pack_never_writes_is_refused_by_name(case, tmp_path):
    path, into = tmp_path / "evil.tar", tmp_path / "into"
    with tarfile.open(path, "w") as tar:
        for info in EVIL[case]:
            tar.addfile(info, io.BytesIO())
    with pytest.raises(IntegrityError, match="is not a plain file of one bundle; nothing was unpacked") as caught:
        archive.unpack(path, into)
    assert repr(EVIL[case][-1].name.rstrip("/")) in str(caught.value).replace("//", "/")
    assert list(into.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.tar", "into"]


def test_a_changed_byte_leaves_nothing_behind(packed, tmp_path):
    broken = shutil.copy(packed, tmp_path / "broken.tar")
    with broken.open("r+b") as file:
        file.seek(packed.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(packed.stat().st_size // 2)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(IntegrityError, match="has sha256"):
        archive.unpack(broken, tmp_path / "into")
    assert list((tmp_path / "into").iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"no tar at all" * 100, None])
def test_what_is_no_tar_is_refused(packed, tmp_path, content):
    path = tmp_path / "bundle.tar"
    if content is None:
        path.write_bytes(packed.read_bytes()[: packed.stat().st_size // 2])
    else:
        path.write_bytes(content)
    with pytest.raises((InputError, IntegrityError)) as caught:
        archive.unpack(path, tmp_path / "into")
    assert str(path) in str(caught.value)
    assert list((tmp_path / "into").iterdir()) == []
