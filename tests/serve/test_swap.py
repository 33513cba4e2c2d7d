"""A new release takes the place of the old one in traffic; a bad one never does."""

import numpy as np
from embed_foundry import manifest, open_bundle

from support.served import serve
from support.served_releases import (
    copy_release,
    corrupt,
    fail_self_test,
    read_readiness,
    replace_folder,
    wait_for,
    wait_for_release,
)
from support.traffic import Traffic, ask


def read_digest(release):
    return manifest.read(release).digest


def read_vector(release):
    return open_bundle(release).encode(["a question"]).astype(np.float32).tobytes()


def test_releases_swap_in_traffic_without_a_failed_or_mixed_answer(
    first_release, second_release, other_space_release, tmp_path
):
    releases = (first_release, second_release, other_space_release)
    expected = {read_digest(release): read_vector(release) for release in releases}
    assert len(set(expected.values())) == 2, "two spaces"
    folder = copy_release(first_release, tmp_path / "release")
    with serve(folder, tmp_path) as service, Traffic(service.url) as traffic:
        for release in (second_release, other_space_release, first_release):
            replace_folder(folder, release)
            wait_for_release(service.url, release)
    assert traffic.faults == []
    assert {answer.refusal for answer in traffic.answers} == {""}
    assert {answer.release for answer in traffic.answers} == set(expected)
    spaces = {(answer.release, answer.space, answer.vector == expected[answer.release]) for answer in traffic.answers}
    assert len(spaces) == 3, "each release has one space"
    assert all(fits for _, _, fits in spaces)


def test_a_link_that_moves_on_is_a_new_release(first_release, second_release, tmp_path):
    link = tmp_path / "current"
    link.symlink_to(first_release)
    with serve(link, tmp_path) as service, Traffic(service.url) as traffic:
        wait_for_release(service.url, first_release)
        (tmp_path / "next").symlink_to(second_release)
        (tmp_path / "next").replace(link)
        wait_for_release(service.url, second_release)
    assert traffic.faults == []
    assert {answer.refusal for answer in traffic.answers} == {""}


def test_a_bad_release_never_replaces_a_good_one(first_release, second_release, tmp_path):
    bad = {
        "sha256": corrupt(copy_release(second_release, tmp_path / "corrupt")),
        "self-test": fail_self_test(copy_release(second_release, tmp_path / "failing"), "static"),
    }
    folder = copy_release(first_release, tmp_path / "release")
    with serve(folder, tmp_path) as service, Traffic(service.url) as traffic:
        wait_for_release(service.url, first_release)
        for words, release in bad.items():
            replace_folder(folder, release)
            wait_for(lambda words=words: words in " ".join(read_readiness(service.url)[1]["notes"]))
            status, readiness = read_readiness(service.url)
            assert status == 200
            assert readiness["release"] == read_digest(first_release)
        replace_folder(folder, second_release)
        wait_for_release(service.url, second_release)
        assert read_readiness(service.url)[1]["notes"] == []
    assert traffic.faults == []
    assert {answer.refusal for answer in traffic.answers} == {""}
    assert {answer.release for answer in traffic.answers} == {read_digest(first_release), read_digest(second_release)}


def test_a_variant_that_was_in_memory_must_open_in_the_new_release(make_release, tmp_path):
    """The first choice is sound, but another variant that clients use is not."""
    first, second = make_release(1, "onnx_int8", "static"), make_release(2, "onnx_int8", "static")
    folder = copy_release(first, tmp_path / "release")
    with serve(folder, tmp_path) as service:
        assert ask(service.url, model="static").status == 200
        replace_folder(folder, fail_self_test(copy_release(second, tmp_path / "failing"), "static"))
        wait_for(lambda: "static" in " ".join(read_readiness(service.url)[1]["notes"]))
        assert ask(service.url, model="static").release == read_digest(first)
        replace_folder(folder, second)
        wait_for_release(service.url, second)
        assert set(read_readiness(service.url)[1]["loaded"]) == {"onnx_int8", "static"}
