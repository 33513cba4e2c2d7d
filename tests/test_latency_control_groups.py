"""Latency under the target's CPU quota and memory limit, or the reason why this machine permits none."""

import subprocess
import sys

import pytest

from stages.common.config import Resources
from stages.common.records.base import Failure
from stages.common.records.latency import Quota
from stages.latency import control_groups
from support.tiny_static import run_latency

# What else runs on the machine is none of these tests' business.
pytestmark = pytest.mark.filterwarnings("ignore:latency. other processes")


def test_a_quota_is_enforced_or_says_why_not(tiny_build):
    quota = run_latency(tiny_build, rounds=6, cpus=0.5).quota
    assert quota.cpus == 0.5
    if not quota.enforced:
        assert quota.why
        pytest.skip(f"this machine permits no CPU quota: {quota.why}")
    assert quota.throttled_s > 0, "starting Python alone takes more than one period's share"


@pytest.fixture
def quota(request):
    """Return a quota of the parameter's CPUs, in force; skips where the machine permits none."""
    with control_groups.enforce(Resources(threads=1, cpus=request.param, memory_mb=1024), ["program"]) as groups:
        if not groups.throttles:
            pytest.skip(f"this machine permits no CPU quota: {groups.cpu.why}")
        yield groups
    assert not groups.cpu.groups["program"].exists()


def run_inside(quota, program):
    """Run a program under the quota and return what it prints."""
    return subprocess.run(
        [*quota.prefixes["program"], sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.quiet
@pytest.mark.parametrize("quota", [0.25], indirect=True)
def test_a_busy_process_under_a_quota_gets_no_more_than_that(quota):
    busy = "import time; end = time.monotonic() + 2\nwhile time.monotonic() < end: pass\nprint(time.process_time())"
    assert float(run_inside(quota, busy)) < 0.4 * 2
    assert quota.to_record().throttled_s > 0.8


@pytest.mark.parametrize("quota", [0.5], indirect=True)
def test_threads_follow_the_quota(quota):
    program = "from embed_foundry.cpus import *; print(available_cpus(), quota_cpus(cpu_groups()))"
    assert run_inside(quota, program).split() == ["1", "0.5"]


def test_a_machine_without_control_groups_measures_all_the_same_and_says_so(tiny_build, monkeypatch):
    monkeypatch.setattr(control_groups.host, "list_controllers", lambda name: [])
    quota = run_latency(tiny_build, rounds=6, cpus=0.5).quota
    assert quota == Quota(cpus=0.5, enforced=False, why="this system has no control groups for CPU time")


def test_a_variant_that_needs_more_memory_than_the_target_has_fails_and_the_baseline_may_take_any(tiny_build):
    report = run_latency(tiny_build, rounds=6, memory_mb=8, enforce_memory=True)
    if not report.quota.memory_enforced:
        assert report.quota.memory_why
        pytest.skip(f"this machine permits no memory limit: {report.quota.memory_why}")
    assert report.quota.memory_mb == 8
    assert isinstance(report.of("twin"), Failure)
    assert "as the system does when memory runs out" in report.of("twin").error
    assert not isinstance(report.of("base"), Failure), "the baseline does not run at the target"


def test_a_variant_that_fits_is_measured_within_the_limits(tiny_build):
    report = run_latency(tiny_build, rounds=6, cpus=1.0, memory_mb=200, enforce_memory=True)
    assert not isinstance(report.of("twin"), Failure)
    assert not list(control_groups.host.list_controllers("memory")[0].root.glob("embed-foundry-*"))


def test_without_control_groups_for_memory_the_report_says_so(tiny_build, monkeypatch):
    monkeypatch.setattr(control_groups.host, "list_controllers", lambda name: [])
    quota = run_latency(tiny_build, rounds=6, memory_mb=200, enforce_memory=True).quota
    assert (quota.memory_enforced, quota.memory_why) == (False, "this system has no control groups for memory")
