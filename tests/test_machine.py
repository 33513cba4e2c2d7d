"""machine.json: measured where it is missing, left alone where it holds, rewritten where the machine is another."""

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from embed_foundry import InputError, cpus, manifest

from stages import machine
from stages.common.measure import host
from stages.common.records.machine import Machine


@pytest.fixture(scope="module")
def fingerprint():
    return host.fingerprint_machine()


def run_stage(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "stages.machine", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


def test_it_holds_what_measurements_depend_on_and_nothing_personal(fingerprint):
    content = json.loads(fingerprint.dump())
    assert set(content) == {"cpu", "arch", "flags", "cpus", "cores", "quota_cpus", "memory_gib", "os"}
    assert fingerprint.arch == platform.machine()
    assert fingerprint.cpus == len(os.sched_getaffinity(0))
    assert fingerprint.memory_gib == round(psutil.virtual_memory().total / 2**30)
    assert isinstance(content["memory_gib"], int)
    if fingerprint.arch == "x86_64":
        flags = next(
            line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")
        ).split()
        assert set(fingerprint.flags) == set(flags) & set(cpus.KERNEL_FLAGS)
    assert platform.node() not in fingerprint.dump().decode()
    assert host.fingerprint_machine() == fingerprint


def test_an_affinity_mask_makes_another_machine(fingerprint):
    cpu = sorted(os.sched_getaffinity(0))[0]
    program = (
        f"import os; os.sched_setaffinity(0, {{{cpu}}}); from stages.common.measure import host;"
        "print(host.fingerprint_machine().model_dump_json())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    masked = Machine.model_validate_json(done.stdout)
    assert masked == fingerprint.model_copy(update={"cpus": 1})
    if fingerprint.cpus > 1:
        assert masked.digest != fingerprint.digest


def test_the_stage_writes_it_and_refresh_leaves_it_untouched(fingerprint, tmp_path):
    assert run_stage(tmp_path).returncode == 0
    path = tmp_path / Machine.FILE
    assert path.read_bytes() == manifest.canonical(fingerprint.model_dump())
    before = path.stat()
    assert run_stage(tmp_path, "--refresh").returncode == 0
    after = path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert [item.name for item in tmp_path.iterdir()] == ["machine.json"]


@pytest.mark.parametrize("text", ["", "not json", "[]", '{"cpu": "another"}'])
def test_refresh_replaces_what_is_not_this_machine(fingerprint, tmp_path, text):
    path = tmp_path / Machine.FILE
    path.write_text(text)
    assert machine.run(path, refresh=True) == fingerprint
    assert Machine.load(path) == fingerprint


def test_refresh_replaces_a_number_in_quotes(fingerprint, tmp_path):
    path = tmp_path / Machine.FILE
    path.write_text(json.dumps(fingerprint.model_dump() | {"cpus": str(fingerprint.cpus)}))
    machine.run(path, refresh=True)
    assert path.read_bytes() == fingerprint.dump()


def test_mistakes_end_in_exit_2(tmp_path):
    done = run_stage(tmp_path, "--refesh")
    assert (done.returncode, list(tmp_path.iterdir())) == (2, [])
    assert "--refesh" in done.stderr
    assert "--refresh" in done.stderr
    with pytest.raises(InputError, match=r"machine\.json: cannot be opened or written"):
        machine.run(tmp_path / "absent" / "machine.json")


def make_group(folder, **files):
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")
    return folder


def test_quotas_of_both_cgroup_versions_the_tightest_wins(tmp_path):
    free_v2 = make_group(tmp_path / "a", cpu__max="max 100000")
    tight_v2 = make_group(tmp_path / "b", cpu__max="50000 100000")
    free_v1 = make_group(tmp_path / "c", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    wide_v1 = make_group(tmp_path / "d", cpu__cfs_quota_us="300000", cpu__cfs_period_us="200000")
    empty = make_group(tmp_path / "e")
    assert cpus.quota_cpus([]) is None
    assert cpus.quota_cpus([free_v2, free_v1, empty]) is None
    assert cpus.quota_cpus([free_v1, wide_v1]) == 1.5
    assert cpus.quota_cpus([free_v2, tight_v2, wide_v1]) == 0.5


def test_throttled_time_of_both_cgroup_versions(tmp_path):
    v2 = make_group(tmp_path / "a", cpu__stat="usage_usec 9\nnr_throttled 2\nthrottled_usec 1500000")
    v1 = make_group(tmp_path / "b", cpu__stat="nr_periods 3\nthrottled_time 250000000")
    root = make_group(tmp_path / "c", cpu__stat="usage_usec 9")
    assert host.read_throttled_s([root]) is None
    assert host.read_throttled_s([v2, root]) == 1.5
    assert host.read_throttled_s([v2, v1]) == 1.75


def test_watching_sees_what_other_processes_take_but_not_what_our_own_did():
    spin = "import time; end = time.monotonic() + 1\nwhile time.monotonic() < end: pass"
    read_load, own, start = host.watch_load(1), sum(os.times()[:4]), time.monotonic()
    busy = sum(psutil.cpu_times()[:3])
    subprocess.run([sys.executable, "-c", spin], check=True)  # ours, and ended
    alone, elapsed = read_load(), time.monotonic() - start
    own, busy = sum(os.times()[:4]) - own, sum(psutil.cpu_times()[:3]) - busy
    assert alone.others_cpus * elapsed <= max(0, busy - own) + 0.2
    with subprocess.Popen([sys.executable, "-c", spin]) as other:  # has not ended, so it counts as another's
        read_load = host.watch_load(1)
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(0.7)
        beside = read_load()
    assert beside.others_cpus > 0.3
    assert beside.crowded == host.is_crowded(beside.others_cpus, 1)
    assert {"load_before", "load_after"} <= set(json.loads(beside.dump()))


def test_others_crowd_only_where_no_cpu_is_left_for_them():
    cpus = psutil.cpu_count()
    assert host.is_crowded(0.5, cpus)
    assert not host.is_crowded(0.05, cpus)
    if cpus > 1:
        assert not host.is_crowded(0.5, cpus - 1)
