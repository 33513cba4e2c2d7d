"""A release on other CPUs, emulated: the right variant is chosen and passes its self-test, or is refused with why."""

import shutil
import subprocess

import pytest
from embed_foundry.certify import files

from support import emulated_hosts
from support.emulated_hosts import EmulatedHost

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
# Runs a command of the runtime's console script.
CONSOLE = "import sys; from embed_foundry.cli import main; main(sys.argv[1:])"
OPEN = """
import sys, warnings
from embed_foundry import open_bundle
with warnings.catch_warnings(record=True) as caught:
    encoder = open_bundle(sys.argv[1], *sys.argv[2:])
print(encoder.variant.name, encoder.encode(["a text"]).shape, *(str(warning.message) for warning in caught))
"""


@pytest.fixture(scope="module")
def hosts(tmp_path_factory) -> dict[str, EmulatedHost]:
    """Return emulated hosts: an ARM server, x86_64 with AVX2 alone, x86_64 with SSE alone."""
    if missing := emulated_hosts.find_missing():
        pytest.skip(missing)
    folder = tmp_path_factory.mktemp("x86")
    try:
        root = emulated_hosts.install_arm(tmp_path_factory.mktemp("arm64"))
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no packages for aarch64 can be had: {error.stderr.strip()[-200:]}")
    return {
        "arm": emulated_hosts.emulate_arm("neoverse-n1", root),
        "avx2": emulated_hosts.emulate_x86("Haswell", folder),
        "sse": emulated_hosts.emulate_x86("Nehalem", folder),
    }


@pytest.mark.parametrize(
    ("host", "first", "refused"),
    [("arm", "onnx_int8", None), ("avx2", "onnx_fp32", "onnx_int8"), ("sse", "onnx_fp32", "onnx_int8")],
)
def test_explain_names_the_variant_that_fits(released, hosts, host, first, refused):
    explained = hosts[host].run(CONSOLE, "explain", released.folder)
    assert explained.returncode == 0, explained.stderr
    assert f"1. {first}" in explained.stdout
    if refused:
        line = next(line for line in explained.stdout.splitlines() if line.startswith(f"-  {refused}"))
        assert "cannot run here: this CPU has none of amx_int8 avx512_vnni avx_vnni" in line
    assert "Nobody certified this release on a host of this kind" in explained.stdout


@pytest.mark.parametrize(("host", "variant"), [("arm", "onnx_int8"), ("avx2", "onnx_fp32"), ("sse", "onnx_fp32")])
def test_it_opens_and_passes_its_self_test(released, hosts, host, variant):
    opened = hosts[host].run(OPEN, released.folder)
    assert opened.stdout.startswith(f"{variant} (1, 384)"), opened.stderr


def test_an_emulated_arm_host_certifies_and_explain_takes_its_certificate_there_alone(
    hosts, make_release, tmp_path, run_command
):
    release = shutil.copytree(make_release(1, "static"), tmp_path / "release")
    certified = hosts["arm"].run(CONSOLE, "certify", release, "--seconds", "1", "--threads", "1")
    assert certified.returncode == 0, certified.stderr
    assert "host: aarch64 emulated on" in certified.stdout
    assert next(files.folder_of(release).iterdir()).name.startswith("Linux-aarch64-")
    assert "Certified on this kind of host: aarch64 emulated" in hosts["arm"].run(CONSOLE, "explain", release).stdout
    assert "Nobody certified this release on a host of this kind" in run_command("explain", release)[1]
