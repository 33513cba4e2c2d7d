"""The service for a long time: nothing fails, nothing is mixed, memory stays flat."""

import os

import pytest
from embed_foundry import open_bundle

from support.release_stores import read_digest
from support.served import serve
from support.soak import Soak

# By hand for an hour: EMBED_FOUNDRY_SOAK_MINUTES=60
MINUTES = float(os.environ.get("EMBED_FOUNDRY_SOAK_MINUTES", "10"))
SENTENCES = ("the bucket key list object policy", "role user café данные 模型 query", "when a region 🙂 naïve Straße")
VARIANTS = ("onnx_int8", "onnx_fp32", "static")
FLAT = 0.05


@pytest.mark.slow
@pytest.mark.timeout(60 * MINUTES + 600)
def test_memory_is_flat_and_every_answer_right_for_a_long_time(
    released, make_release, run_command, tmp_path, monkeypatch
):
    monkeypatch.setenv("EMBED_FOUNDRY_STORE", f"file://{tmp_path / 'store'}")
    releases = [make_release(number, *VARIANTS) for number in (1, 2)]
    words = " ".join(SENTENCES).split()
    texts = [" ".join(words[start : start + length]) for start in range(len(words)) for length in (1, 4, 9)]
    expected = {}
    for release in releases:
        assert run_command("publish", release)[0] == 0
        for variant in VARIANTS:
            encoder = open_bundle(release, variant)
            for text in texts:
                expected[read_digest(release), variant, text] = encoder.encode([text])[0].tobytes()

    def move(release):
        return lambda: run_command("promote", "stable", read_digest(release))

    move(releases[0])()
    options = ("--channel", "stable", "--poll-s", "1", "--state", str(tmp_path / "state"), "--processes", "2")
    options += ("--idle-s", "3", "--cache-mb", "0", "--max-models", "2")
    with serve(None, tmp_path, *options) as service:
        soak = Soak(service.url, service.process.pid, texts, expected, ("auto", "static"))
        outcome = soak.run(60 * MINUTES, [move(releases[1]), move(releases[0]), move(releases[1])])
    print(outcome.answers, f"growth {outcome.growth:+.1%}", outcome.loads, f"{outcome.killed} workers killed")
    assert set(outcome.answers) == {200}
    assert outcome.broken == []
    assert outcome.wrong == 0
    assert outcome.releases == {read_digest(release) for release in releases}
    assert outcome.killed == 4
    assert outcome.loads["unloaded"] >= MINUTES
    assert outcome.loads["loaded"] > outcome.loads["unloaded"]
    assert outcome.growth < FLAT
