"""What a CPU has: /proc/cpuinfo where it is about the CPU that runs this process, else what the CPU itself says."""

import platform

import pytest
from embed_foundry.environment import Environment
from embed_foundry.instruction_sets import ask_cpu, is_emulated, reconcile

X86 = "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx2 avx512f avx512_vnni avx_vnni\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\n"


@pytest.mark.parametrize(
    ("arch", "cpuinfo", "present", "expected"),
    [
        ("x86_64", X86, {"avx2": True, "avx512_vnni": True}, {"fpu", "avx2", "avx512f", "avx512_vnni", "avx_vnni"}),
        ("x86_64", X86, {}, {"fpu", "avx2", "avx512f", "avx512_vnni", "avx_vnni"}),  # nobody to ask
        ("x86_64", X86, {"avx2": True, "avx512f": False, "avx512_vnni": False}, {"avx2"}),  # emulated: Haswell
        ("x86_64", X86, {"avx2": False, "avx512f": False, "avx512_vnni": False}, set()),  # emulated: Nehalem
        ("aarch64", ARM, {"asimd": True, "asimddp": True}, {"fp", "asimd", "asimddp", "i8mm"}),
        ("aarch64", X86, {"asimd": True, "asimddp": True, "sve": False}, {"asimd", "asimddp"}),  # emulated on x86
    ],
)
def test_the_cpu_is_believed_over_a_file_about_another(arch, cpuinfo, present, expected):
    assert reconcile(arch, cpuinfo, present) == expected


@pytest.mark.parametrize(("cpuinfo", "present"), [(None, {"avx2": True}), ("", {})])
def test_what_cannot_be_read_excludes_nothing(cpuinfo, present):
    assert reconcile("x86_64", cpuinfo, present) is None


@pytest.mark.skipif(platform.machine() != "x86_64" or platform.system() != "Linux", reason="this CPU's own names")
def test_numpy_and_linux_agree_on_this_machine():
    flags = Environment.detect().flags
    assert not is_emulated("x86_64")
    assert {name for name, has in ask_cpu().items() if has} <= flags
    assert "sse4_2" in flags
