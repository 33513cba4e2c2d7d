"""Latency measured for real, on variants small enough for a test; no assertion on how fast anything is."""

import contextlib
import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from statistics import median

import numpy as np
import psutil
import pytest
import yaml
from embed_foundry import InputError, IntegrityError, RetryableError, Variant, manifest, open_variant
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from stages import catalog, latency, machine
from stages.common import config
from stages.latency import quota, texts
from stages.latency.team import Worker, WorkerError

# What else runs on the machine is none of these tests' business.
pytestmark = pytest.mark.filterwarnings("ignore:latency. other processes")

SETTINGS = config.Latency(
    lengths=[8, 32],
    rounds=60,
    tight=1,
    extra_s=0,
    gap_ms=0,
    batch_size=4,
    batch_length=16,
    batch_rounds=6,
    cold_starts=2,
    seed=0,
)
DOCUMENTS = [
    "Deletes the specified load balancer and every listener that is attached to it, in one step.",
    "Returns a list of the tags of a resource.  You can filter the list\nby key or by value.",
    "バケットのライフサイクル設定を取得します。設定がない場合はエラーになります。",
    "Über die Schnittstelle lassen sich Regeln anlegen, ändern und löschen.",
    "Starts a job; see https://example.org/docs?id=42&lang=fr for its states.",
    *(f"Describes instance number {number} of the cluster and what it costs a month." for number in range(40)),
]


def static(folder: Path, *, broken: bool = False) -> Path:
    """Write a static variant with a tokenizer of 200 pieces: what ships, small."""
    folder.mkdir(parents=True)
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["[UNK]", "[CLS]"], show_progress=False)
    tokenizer.train_from_iterator(DOCUMENTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    table = np.random.default_rng(0).standard_normal((tokenizer.get_vocab_size(), 16)).astype(np.float32)
    save_file({"embeddings": table * np.nan if broken else table}, folder / "table.safetensors")
    variant = Variant(
        name=folder.name,
        kind="static",
        precision="fp32",
        model="tiny",
        space_id="0",
        dimensions=16,
        matryoshka=(16,),
        max_tokens=64,
        prompts={},
        files={"table": "table.safetensors", "tokenizer": "tokenizer.json"},
    )
    (folder / "variant.json").write_bytes(manifest.canonical(variant.to_json()))
    manifest.write(folder, {"stage": f"convert@{folder.name}"})
    return folder


@pytest.fixture
def place(tmp_path):
    """Return a build's folder with data/, machine.json and variants base and twin, which are the same."""
    corpus = tmp_path / "data" / "Tiny" / "corpus.jsonl"
    corpus.parent.mkdir(parents=True)
    rows = [{"id": str(at), "title": "", "text": text} for at, text in enumerate(DOCUMENTS)]
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest.write(tmp_path / "data", {"stage": "data"})
    machine.run(tmp_path / "machine.json")
    for name in ("base", "twin"):
        static(tmp_path / "variants" / name)
    return tmp_path


def measure(place, names=("base", "twin"), **changes):
    variants = {name: place / "variants" / name for name in names}
    resources = config.Resources(threads=1, cpus=changes.pop("cpus", None), memory_mb=1024)
    settings = SETTINGS.model_copy(update=changes)
    return latency.run(settings, variants, "base", place / "data", place / "machine.json", resources, place / "latency")


def workers(parent: int) -> list[psutil.Process]:
    """Return the measured processes under a process."""
    with contextlib.suppress(psutil.NoSuchProcess):
        children = psutil.Process(parent).children(recursive=True)
        return [child for child in children if any("worker.py" in part for part in child.cmdline())]
    return []


@contextlib.contextmanager
def killed(name: str):
    """SIGKILL the worker of a variant once it has computed for a while."""

    def kill() -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for worker in workers(os.getpid()):
                if (
                    any(part.endswith(f"/{name}") for part in worker.cmdline())
                    and time.time() - worker.create_time() > 1
                ):
                    worker.kill()
                    return
            time.sleep(0.02)

    thread = threading.Thread(target=kill)
    thread.start()
    yield
    thread.join()


def test_a_run_holds_what_it_documents(place):
    report = measure(place)
    assert json.loads((place / "latency" / "latency.json").read_text()) == report
    assert manifest.verify(place / "latency")["parameters"]["machine"] == report["machine_digest"]
    assert report["machine"] == json.loads((place / "machine.json").read_text())
    assert (report["baseline"], report["threads"], set(report["variants"])) == ("base", 1, {"base", "twin"})
    assert {"load_before", "load_after", "others_cpus", "crowded"} <= set(report["host"])
    for figures in report["variants"].values():
        assert set(figures) == {"lengths", "batch", "cold_start_s", "peak_rss_mb"}
        assert set(figures["lengths"]) == {"8", "32"}
        for timed in figures["lengths"].values():
            assert set(timed) == {"n", "median_ms", "after_pause_ms", "p95_ms", "p95_ms_upper", "speedup"}
            assert timed["n"] == 60
            assert 0 < timed["median_ms"] <= timed["p95_ms"] <= timed["p95_ms_upper"]
        batch = figures["batch"]
        assert (batch["size"], batch["tokens"], batch["n"]) == (4, 16, 6)
        assert batch["tokens_per_s"] == pytest.approx(16 * batch["texts_per_s"], rel=1e-3)
        assert len(figures["cold_start_s"]["values"]) == 2
        assert 0.02 < figures["cold_start_s"]["median"] < 60
        assert 20 < figures["peak_rss_mb"] < 400
    assert not workers(os.getpid())


def test_a_baseline_against_itself_is_as_fast_as_itself(place):
    report = measure(place, lengths=[32], cold_starts=1)
    itself = {"median": 1.0, "low": 1.0, "high": 1.0}
    assert report["variants"]["base"]["lengths"]["32"]["speedup"] == itself
    speedup = report["variants"]["twin"]["lengths"]["32"]["speedup"]
    assert 0.2 < speedup["low"] <= speedup["median"] <= speedup["high"] < 5
    assert speedup["low"] < 1.25
    assert speedup["high"] > 0.8


def test_the_figures_follow_from_the_samples(place):
    report = measure(place, cold_starts=1, rounds=12)
    with (place / "latency" / "samples.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * (2 * 12 + 6)
    found = {(row["variant"], row["tokens"], row["batch"], int(row["round"])): float(row["ms"]) for row in rows}
    for name, figures in report["variants"].items():
        for tokens, batch, n in (("8", "1", 12), ("32", "1", 12), ("16", "4", 6)):
            mine = [found[name, tokens, batch, at] for at in range(n)]
            ratios = [found["base", tokens, batch, at] / ms for at, ms in enumerate(mine)]
            timed = figures["lengths"][tokens] if batch == "1" else figures["batch"]
            assert timed["median_ms"] == pytest.approx(median(mine), rel=1e-2, abs=1e-3)
            assert timed["speedup"]["median"] == pytest.approx(median(ratios), rel=1e-2)
            assert "p95_ms" not in timed  # 12 rounds carry none
    assert {row["after_pause_ms"] == "" for row in rows if row["batch"] == "1"} == {False}
    assert {row["after_pause_ms"] for row in rows if row["batch"] == "4"} == {""}


def test_lengths_over_the_limit_are_left_out_and_the_batch_is_cut_to_it(place):
    report = measure(place, lengths=[64, 65, 512], rounds=6, batch_length=512, cold_starts=1)
    for figures in report["variants"].values():
        assert set(figures["lengths"]) == {"64"}
        assert figures["batch"]["tokens"] == 64


def test_texts_have_exactly_their_length_and_differ(place):
    encoder = open_variant(place / "variants" / "base", 1)
    documents = texts.passages(place / "data", random.Random(0))
    assert sorted(documents) == sorted({" ".join(text.split()) for text in DOCUMENTS})
    for tokens in (3, 8, 31, 64, 300):
        found = texts.exact(documents, tokens, 5, encoder.count_tokens)
        assert len(set(found)) == len(found) == 5
        assert encoder.count_tokens(found) == [tokens] * len(found)
    with pytest.raises(InputError, match="exactly 100000 tokens"):
        texts.exact(documents[:2], 100_000, 5, encoder.count_tokens)


def test_a_killed_worker_is_its_variants_result_and_the_others_go_on(place):
    with killed("twin"):
        report = measure(place, gap_ms=20, cold_starts=1)
    assert "signal 9" in report["variants"]["twin"]["error"]
    assert set(report["variants"]["twin"]) == {"error"}
    assert report["variants"]["base"]["lengths"]["32"]["n"] == 60
    assert "twin" not in (place / "latency" / "samples.csv").read_text()
    assert not workers(os.getpid())


def test_an_encoder_that_fails_is_its_variants_result(place):
    static(place / "variants" / "broken", broken=True)
    report = measure(place, ("base", "broken", "twin"), rounds=6, cold_starts=1)
    assert report["variants"]["broken"]["error"].startswith("IntegrityError: 1 of 1 vectors are not finite")
    assert set(report["variants"]["twin"]["lengths"]) == {"8", "32"}


def test_without_a_baseline_nothing_is_published_and_what_was_there_stays(place):
    measure(place, rounds=6, cold_starts=1)
    before = manifest.verify(place / "latency")["digest"]
    with killed("base"), pytest.raises(RetryableError, match=r"baseline base failed.*signal 9"):
        measure(place, rounds=1000, cold_starts=1, gap_ms=5)
    for path in sorted((place / "variants" / "base").iterdir()):
        path.unlink()
    (place / "variants" / "base").rmdir()
    static(place / "variants" / "base", broken=True)
    with pytest.raises(IntegrityError, match=r"baseline base failed.*not finite"):
        measure(place)
    assert manifest.verify(place / "latency")["digest"] == before
    assert not workers(os.getpid())


def test_another_machines_fingerprint_is_refused_before_anything_is_measured(place):
    path = place / "machine.json"
    other = json.loads(path.read_text()) | {"cpus": 96}
    for text in (json.dumps(other), "[]", ""):
        path.write_text(text)
        with pytest.raises(InputError, match=r"python -m stages.machine --refresh"):
            measure(place)
    path.unlink()
    with pytest.raises(InputError, match=r"machine.json: not readable"):
        measure(place)
    assert not (place / "latency").exists()


def test_a_suite_without_documents_is_refused(place):
    (place / "data" / "Tiny" / "corpus.jsonl").unlink()
    manifest.write(place / "data", {"stage": "data"})
    with pytest.raises(InputError, match=r"no .*corpus\.jsonl"):
        measure(place, cold_starts=1)


def test_a_worker_that_hangs_is_ended(place):
    worker = Worker(place / "variants" / "base", 1, timeout_s=20)
    try:
        assert worker.first_vector() > 0
        assert worker.ask("encode", ["a"])["ms"] > 0
        worker.timeout_s = 1
        worker.process.send_signal(signal.SIGSTOP)
        with pytest.raises(WorkerError, match="no answer for 1 s"):
            worker.ask("encode", ["long enough to fill the pipe " * 10_000])
        assert worker.process.wait(10) == -signal.SIGKILL
    finally:
        worker.end()


def test_a_workers_memory_is_its_own_not_its_parents(place):
    ballast = bytearray(os.urandom(1) * 500_000_000)  # ru_maxrss would report this for the child
    worker = Worker(place / "variants" / "base", 1)
    try:
        worker.first_vector()
        assert worker.ask("rss")["peak_rss_mb"] < len(ballast) / 1e6
    finally:
        worker.end()


def test_what_a_library_prints_does_not_disturb_the_answers(place):
    script = Path(latency.__file__).with_name("worker.py")
    noisy = f"import os, runpy, sys; sys.argv = ['worker', {str(place / 'variants' / 'base')!r}, '1']\n"
    noisy += "import embed_foundry.static as s; say = s.StaticEncoder._embed\n"
    noisy += "s.StaticEncoder._embed = lambda *a: (print('hello'), os.system('echo there'), say(*a))[2]\n"
    noisy += f"runpy.run_path({str(script)!r}, run_name='__main__')"
    request = json.dumps({"do": "encode", "texts": ["a"]}) + "\n"
    done = subprocess.run([sys.executable, "-c", noisy], input=request, capture_output=True, text=True, check=True)
    ready, timed = [json.loads(line) for line in done.stdout.splitlines()]
    assert ready == {"ready": True}
    assert timed["ms"] > 0
    assert "there" in done.stderr


@pytest.fixture
def stage(place, params):
    """Return a function that starts `python -m stages.latency` in a folder laid out as a clone."""
    params = params.model_dump()
    params |= {"variants": {name: {"kind": "torch", "precision": "fp32"} for name in ("base", "twin")}}
    params |= {"baseline": "base", "latency": SETTINGS.model_dump(mode="json") | {"cold_starts": 1, "rounds": 6}}

    def start(**changes) -> subprocess.Popen[str]:
        (place / "params.yaml").write_text(yaml.safe_dump(params | {"latency": params["latency"] | changes}))
        catalog.run(["base", "twin"], place / "variants", place / "catalog")
        command = [sys.executable, "-m", "stages.latency"]
        return subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    return start


def test_the_stage_runs_on_what_params_yaml_says(place, stage):
    with stage() as done:
        out, err = done.communicate(timeout=120)
    assert (done.returncode, out) == (0, ""), err
    assert "latency: rounds: 18/18" in err  # plain lines: stderr is no terminal
    assert "\r" not in err
    report = json.loads((place / "latency" / "latency.json").read_text())
    assert report["threads"] == 2
    (place / "machine.json").write_text("{}")
    with stage() as done:
        _, err = done.communicate(timeout=120)
    assert done.returncode == 2
    assert "python -m stages.machine --refresh" in err


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_stage_however_it_ends(place, stage, end):
    with stage(rounds=100_000) as running:
        deadline = time.monotonic() + 60
        while len(found := workers(running.pid)) < 2 and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1)
        assert len(found) == 2
        running.send_signal(end)
        _, err = running.communicate(timeout=30)
    gone, alive = psutil.wait_procs(found, timeout=20)
    assert (len(gone), alive) == (2, [])
    assert not (place / "latency").exists()
    if end != signal.SIGKILL:
        assert running.returncode == 130, err
        assert not (place / ".latency.partial").exists()


def test_rounds_go_on_until_ratios_are_tight_or_the_time_is_up(place):
    few = measure(place, rounds=6, tight=1.0, extra_s=20)
    shutil.rmtree(place / "latency")
    many = measure(place, rounds=6, tight=1e-9, extra_s=1)
    counts = [found["variants"]["twin"]["lengths"]["8"]["n"] for found in (few, many)]
    assert counts[0] < 40, "tight enough soon: the variants are the same"
    assert counts[1] > counts[0], "never tight enough: a second of rounds"


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
