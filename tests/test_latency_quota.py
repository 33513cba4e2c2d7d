"""Latency under the target's CPU quota, or the reason why this machine permits none."""

import subprocess
import sys

import pytest

from stages.latency import quota
from support.tiny_static import measure

# What else runs on the machine is none of these tests' business.
pytestmark = pytest.mark.filterwarnings("ignore:latency. other processes")


def test_a_quota_is_enforced_or_says_why_not(place):
    record = measure(place, rounds=6, cpus=0.5)["quota"]
    assert record["cpus"] == 0.5
    if not record["enforced"]:
        assert record["why"]
        pytest.skip(f"this machine permits no CPU quota: {record['why']}")
    assert record["throttled_s"] > 0, "starting Python alone takes more than one period's share"


@pytest.fixture
def held(request):
    """Return a quota of the CPUs asked for, in force; skips where the machine permits none."""
    with quota.enforced(request.param) as found:
        if found.group is None:
            pytest.skip(f"this machine permits no CPU quota: {found.why}")
        yield found
    assert not found.group.exists()


def inside(held, program):
    """Run a program under the quota and return what it prints."""
    return subprocess.run(
        [*held.prefix, sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize("held", [0.25], indirect=True)
def test_a_busy_process_under_a_quota_gets_no_more_than_that(held):
    busy = "import time; at = time.monotonic()\nwhile time.monotonic() - at < 2: pass\nprint(time.process_time())"
    assert float(inside(held, busy)) < 0.4 * 2
    assert held.record()["throttled_s"] > 0.8


@pytest.mark.parametrize("held", [0.5], indirect=True)
def test_threads_follow_the_quota(held):
    asked = "from embed_foundry.cpus import *; print(available_cpus(), quota_cpus(cpu_groups()))"
    assert inside(held, asked).split() == ["1", "0.5"]


def test_a_machine_without_control_groups_measures_all_the_same_and_says_so(place, monkeypatch):
    monkeypatch.setattr(quota.host, "cpu_controllers", list)
    record = measure(place, rounds=6, cpus=0.5)["quota"]
    assert record == {"cpus": 0.5, "enforced": False, "why": "this system has no control groups for CPU time"}
