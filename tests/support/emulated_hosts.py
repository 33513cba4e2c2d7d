"""Hosts of other CPUs by qemu-user: an aarch64 Linux of Debian's packages and wheels, and x86_64 without AVX-512."""

import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import embed_foundry

RUNTIME = Path(embed_foundry.__file__).parent.parent
# What Debian's Python needs, and what the wheels link to.
DEBS = (
    *("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "libc6", "libgcc-s1", "libstdc++6"),
    *("zlib1g", "libexpat1", "libssl3", "libffi8", "libbz2-1.0", "liblzma5", "libcrypt1", "libuuid1", "libsqlite3-0"),
)
# Under qemu 7.2, onnxruntime 1.31 and later end with a segmentation fault as they are imported.
WHEELS = (
    *("onnxruntime==1.23.2", "numpy", "tokenizers", "safetensors", "tqdm", "flatbuffers", "protobuf", "packaging"),
    *("sympy", "mpmath", "coloredlogs", "humanfriendly"),
)
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")


@dataclass(frozen=True)
class EmulatedHost:
    """A CPU and a Python on it.

    Attributes:
        command: runs that Python, given its arguments.
    """

    command: tuple[str, ...]

    def run(self, program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run a program of Python."""
        command = [*self.command, "-c", program, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=3000, check=False)


def find_missing() -> str:
    """Return what this machine lacks for emulation; "" if it has all."""
    tools = ("qemu-aarch64-static", "qemu-x86_64-static", "apt-get", "dpkg")
    missing = [tool for tool in tools if shutil.which(tool) is None]
    return f"{', '.join(missing)} is not installed" if missing else ""


def emulate_x86(cpu: str, folder: Path) -> EmulatedHost:
    """Return this environment's Python on another x86_64 CPU, one of qemu's names; `folder` gets its command."""
    packages = [path for path in sys.path if path.endswith("site-packages")]
    python = Path(sys.executable).resolve()
    return _emulate(folder / f"python-{cpu}", ["qemu-x86_64-static", "-cpu", cpu], python, [RUNTIME, *packages])


def emulate_arm(cpu: str, root: Path) -> EmulatedHost:
    """Return Debian's Python on an aarch64 CPU, one of qemu's names.

    Args:
        cpu: such as "neoverse-n1".
        root: a folder that `install_arm` filled.
    """
    python = root / "usr" / "bin" / "python3.11"
    qemu = ["qemu-aarch64-static", "-cpu", cpu, "-L", str(root)]
    return _emulate(root / f"python-{cpu}", qemu, python, [RUNTIME, root / "wheels"])


def install_arm(folder: Path) -> Path:
    """Unpack Debian's packages and the wheels for aarch64 into a folder, without touching this system; return it.

    Raises:
        CalledProcessError: no Debian mirror or package index can be reached.
    """
    state, debs, wheels = folder / "apt", folder / "debs", folder / "downloads"
    for part in ("state/lists/partial", "cache/archives/partial"):
        (state / part).mkdir(parents=True)
    (state / "status").touch()
    debs.mkdir()
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "root",
        "Dir::State": state / "state",
        "Dir::State::status": state / "status",
        "Dir::Cache": state / "cache",
    }
    apt = ["apt-get", "--quiet=2", *(part for key, value in settings.items() for part in ("-o", f"{key}={value}"))]
    subprocess.run([*apt, "update"], check=True, capture_output=True, text=True)
    subprocess.run([*apt, "download", *DEBS], cwd=debs, check=True, capture_output=True, text=True)
    for deb in debs.glob("*.deb"):
        subprocess.run(["dpkg", "-x", deb, folder], check=True)
    platforms = [part for platform in PLATFORMS for part in ("--platform", platform)]
    tags = ["--python-version", "3.11", "--implementation", "cp", "--abi", "cp311", "--abi", "abi3", "--abi", "none"]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    download = [*pip, *platforms, *tags, "--dest", wheels, *WHEELS]
    subprocess.run(download, check=True, capture_output=True, text=True)
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "wheels")
    return folder


def _emulate(script: Path, qemu: list[str], python: Path, path: list[Path | str]) -> EmulatedHost:
    """Write a script that is an emulated Python, to itself and to what it starts (sys.executable), and return it."""
    environment = {
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHOME": str(python.parent.parent),
        "PYTHONPATH": os.pathsep.join(map(str, path)),
    }
    settings = [part for name, value in environment.items() for part in ("-E", f"{name}={value}")]
    command = shlex.join([*qemu, *settings])
    script.write_text(f'#!/bin/sh\nexec {command} -0 "$0" {shlex.quote(str(python))} "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    return EmulatedHost((str(script),))
