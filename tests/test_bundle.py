"""The release as the build assembles it: holds what was judged, in the same bytes anywhere, or is refused in words."""

import dataclasses
import json
import platform
import shutil
import subprocess
from pathlib import Path

import pytest
from embed_foundry import Bundle, FoundryError, GateError, IntegrityError, contract, manifest
from safetensors.numpy import load_file

from stages.bundle import card, facts, licences
from support import small_release
from support.small_release import ORDER


@pytest.fixture
def build(released, tmp_path) -> small_release.Build:
    """Return the build with copies of its measurements and verdict, which a test may change."""
    sources = released.sources
    for name in ("catalog", "quality", "latency", "gate", "report"):
        shutil.copytree(getattr(sources, name), tmp_path / name)
    copies = {name: tmp_path / name for name in ("catalog", "quality", "latency", "gate", "report")}
    return dataclasses.replace(released, sources=dataclasses.replace(sources, **copies))


def test_holds_what_is_needed_to_trust_and_run_it(released):
    folder, sources = released.folder, released.sources
    names = set(manifest.files_of(folder))
    assert {
        "LICENSE",
        "NOTICE",
        "SHA256SUMS",
        "bundle.json",
        "probes/probes.json",
        "probes/golden.safetensors",
    } <= names
    assert {name.split("/")[1] for name in names if name.startswith("variants/")} == set(ORDER)
    for name in ORDER:
        shipped = manifest.verify(folder / "variants" / name)
        assert shipped.digest == manifest.read(sources.variants / name).digest
    for path in (sources.gate / "verdict.json", sources.quality / "scores.json", sources.latency / "latency.json"):
        assert (folder / "evidence" / path.name).read_bytes() == path.read_bytes()
    told = Bundle.load(folder).facts
    assert told["selection"]["order"] == ORDER
    assert told["model"]["revision"] == released.model.revision
    assert all(check["passes"] for name in ORDER for check in told["variants"][name]["checks"])
    notice = (folder / "NOTICE").read_text()
    assert released.model.license.name in notice
    assert released.model.license.url in notice
    golden = load_file(folder / "probes" / "golden.safetensors")
    probes = json.loads((folder / "probes" / "probes.json").read_text())
    assert {name: rows.shape for name, rows in golden.items()} == {
        name: (len(probes), 256 if name == "static" else 384) for name in ORDER
    }


def test_no_byte_of_it_tells_where_or_by_whom_it_was_built(released, root):
    marks = [str(root), str(released.folder.parent), str(Path.home()) + "/"]
    marks += [platform.node()] if len(platform.node()) > 5 else []  # a shorter name may stand there by chance
    for name in manifest.files_of(released.folder):
        data = (released.folder / name).read_bytes()
        assert [mark for mark in marks if mark.encode() in data] == [], name


def test_sha256sum_agrees(released):
    command = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    done = subprocess.run(command, cwd=released.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    listed = {line.split("  ", 1)[1] for line in (released.folder / "SHA256SUMS").read_text().splitlines()}
    assert listed == set(manifest.files_of(released.folder)) - {"SHA256SUMS"}


def refused(build: small_release.Build, error: type[FoundryError]) -> str:
    """Return the message with which the bundle stage refuses; nothing is published."""
    out = build.sources.catalog.parent / "refused"
    with pytest.raises(error) as caught:
        build.release(out)
    assert not out.exists()
    return str(caught.value)


def test_a_failed_gate_ends_with_4_and_every_missed_limit(build):
    slow = {name: small_release.times(0.5) for name in small_release.NAMES}
    small_release.write(build.sources.latency, "latency.json", small_release.MEASURED | {"variants": slow})
    build.judge()
    said = refused(build, GateError)
    assert GateError.code == 4
    assert f"no release for {build.target.name}: 0 candidates pass (1 required)" in said
    for name in set(build.target.candidates) & set(small_release.NAMES):
        limits = build.target.limits[name].speedup_min
        for tokens, limit in limits.items():
            assert (
                f"{name}: speedup_min {tokens} tokens: 0.5, between 0.5 and 0.5 by 60 samples, limit {limit:g}" in said
            )
    assert "Next: read gate/verdict.json" in said


def test_a_candidate_that_failed_does_not_ship(build, tmp_path):
    times = {name: small_release.times() for name in small_release.NAMES} | {"onnx_int8": {"error": "its process died"}}
    small_release.write(build.sources.latency, "latency.json", small_release.MEASURED | {"variants": times})
    build.judge()
    assert Bundle.load(build.release(tmp_path / "release")).order == ["onnx_fp32", "static"]


def test_an_edited_verdict_is_refused(build):
    path = build.sources.gate / "verdict.json"
    path.write_text(path.read_text().replace('"passes": true', '"passes": true '))
    assert "verdict.json: has" in refused(build, IntegrityError)


@pytest.mark.parametrize("name", ["catalog", "quality", "latency"])
def test_a_verdict_about_other_inputs_is_refused(build, name):
    folder = getattr(build.sources, name)
    small_release.refit(folder, parameters={"made": "again"})
    said = refused(build, IntegrityError)
    assert f"is about {name} " in said
    assert "dvc repro gate" in said


def test_a_verdict_by_other_limits_is_refused(build):
    build.judge(build.target.model_copy(update={"required": 3}))
    assert "about other limits than local_cpu's" in refused(build, IntegrityError)


def test_a_variant_converted_again_since_the_catalog_is_refused(build, released, tmp_path):
    variants = tmp_path / "variants"
    for name in small_release.NAMES:
        (variants / name).mkdir(parents=True)
        shutil.copy(released.sources.variants / name / manifest.NAME, variants / name)
    manifest.write(variants / "static", {"stage": "convert@static"})
    changed = dataclasses.replace(build, sources=dataclasses.replace(build.sources, variants=variants))
    assert "dvc repro convert@static catalog" in refused(changed, IntegrityError)


def test_another_umask_time_zone_and_clone_give_the_same_bytes(released, root, tmp_path, elsewhere):
    project = tmp_path / "another" / "clone"
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(
        root / "stages" / "runtime", project / "stages" / "runtime", ignore=skip, copy_function=shutil.copyfile
    )
    for name in ("LICENSE", "pyproject.toml", "requirements.lock"):
        shutil.copyfile(root / name, project / name)
    build = dataclasses.replace(released, sources=dataclasses.replace(released.sources, project=project))
    again = build.release(tmp_path / "again")
    assert (again / manifest.NAME).read_bytes() == (released.folder / manifest.NAME).read_bytes()


def test_bundle_json_is_what_its_schema_says_and_the_schema_says_no_less(released):
    schema = (released.folder / contract.SCHEMA_FILE).read_bytes()
    told = json.loads((released.folder / contract.NAME).read_text())
    facts.validate(told, schema)
    assert json.loads(schema)["properties"]["schema"]["const"] == contract.SCHEMA == told["schema"]
    assert set(json.loads(schema)["properties"]) == set(told), "nothing is said that the contract does not know"
    for broken in (
        {key: value for key, value in told.items() if key != "content"},
        told | {"more": 1},
        told | {"selection": told["selection"] | {"order": []}},
        told | {"variants": {"static": told["variants"]["static"] | {"bits": 7}}},
        told | {"variants": {"static": told["variants"]["static"] | {"checks": [{"passes": False}]}}},
    ):
        with pytest.raises(Exception, match="Failed validating"):
            facts.validate(broken, schema)


def test_the_contract_tells_what_selection_weighs(released):
    told = Bundle.load(released.folder).contract
    assert {name: it.bits for name, it in told.variants.items()} == {"onnx_int8": 8, "onnx_fp32": 32, "static": 8}
    assert told.variants["onnx_int8"].cpu_any == {"x86_64": frozenset(facts.VNNI)}
    assert told.variants["onnx_fp32"].cpu_any == {}
    assert told.variants["static"].peak_rss_mb == 100.0
    assert told.variants["onnx_fp32"].space_id == told.variants["onnx_int8"].space_id
    shared = told.variants["onnx_fp32"].space_id
    alone = told.variants["static"].space_id
    assert told.raw["selection"]["fallback"] == {shared: ["onnx_int8", "onnx_fp32"], alone: ["static"]}
    measured = told.variants["onnx_fp32"].facts["measured"]
    assert measured["quality"]["STSTask"] == {"type": "STS", "metric": "main_score", "score": 0.7, "of_baseline": 1.0}
    assert measured["speedup"] == {"32": 50.0, "128": 50.0}


def test_the_card_is_one_that_the_hub_takes(released):
    from huggingface_hub import ModelCard

    shown = ModelCard.load(released.folder / "README.md")
    assert shown.data.license == "apache-2.0"
    assert shown.data.base_model == released.model.repo
    assert shown.data.base_model_relation == "quantized"
    assert {(it.task_type, it.metric_value) for it in shown.data.eval_results} >= {("STS", 70.0), ("Retrieval", 60.0)}
    for name in ORDER:
        assert f"| `{name}` |" in shown.text
    header = next(line for line in shown.text.splitlines() if line.startswith("| variant"))
    rows = [line for line in shown.text.splitlines() if line.startswith(("| `", "|---"))]
    assert {line.count("|") for line in rows} == {header.count("|")}


def test_the_bill_of_materials_is_valid_and_names_models_data_and_libraries(released):
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = (released.folder / contract.BOM).read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bom = json.loads(text)
    assert "timestamp" not in bom["metadata"]
    parts = {item["bom-ref"]: item for item in bom["components"]}
    assert parts["base"]["purl"] == f"pkg:huggingface/{released.model.repo}@{released.model.revision}"
    weights = {item["name"]: item["hashes"][0]["content"] for item in parts["base"]["components"]}
    assert weights["base/model.safetensors"] == released.model.files["model.safetensors"]
    for name in ORDER:
        listed = {item["name"]: item["hashes"][0]["content"] for item in parts[f"variant:{name}"]["components"]}
        files = manifest.read(released.folder).files
        assert listed == {key: it.sha256 for key, it in files.items() if key.startswith(f"variants/{name}/")}
    assert parts["data:STSTask"]["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    assert parts["pypi:botocore@1.40"]["scope"] == "excluded"
    assert next(item for ref, item in parts.items() if ref.startswith("pypi:tokenizers@"))["scope"] == "required"


def test_content_is_what_two_builds_share_that_measured_other_times(build, released, tmp_path):
    times = {name: small_release.times(40.0) for name in small_release.NAMES}
    small_release.write(build.sources.latency, "latency.json", small_release.MEASURED | {"variants": times})
    build.judge()
    other, first = Bundle.load(build.release(tmp_path / "release")), Bundle.load(released.folder)
    assert other.digest != first.digest
    assert other.facts["content"] == first.facts["content"]


@pytest.mark.parametrize(("name", "words"), [("weights", "was not made from"), ("data", "was measured on data")])
def test_other_sources_than_the_variants_and_figures_are_refused(build, tmp_path, name, words):
    other = tmp_path / "other"
    other.mkdir()
    manifest.write(other, {"stage": name})
    changed = dataclasses.replace(build, sources=dataclasses.replace(build.sources, **{name: other}))
    assert words in refused(changed, IntegrityError)


@pytest.mark.parametrize(
    ("licence", "words", "hub"),
    [
        ("MIT", "its text is at https://it", {"license": "mit"}),
        ("Gemma Terms of Use", "Gemma is provided under and subject to", {"license": "gemma"}),
        ("Some Terms", "Some Terms", {"license": "other", "license_name": "Some Terms", "license_link": "https://it"}),
    ],
)
def test_terms_are_handed_on(released, tmp_path, licence, words, hub):
    from huggingface_hub import ModelCard

    terms = released.model.license.model_copy(update={"name": licence, "url": "https://it"})
    licences.write(tmp_path, released.model.model_copy(update={"license": terms}), released.sources.project)
    assert words in (tmp_path / "NOTICE").read_text()
    assert (tmp_path / "LICENSE").read_bytes() == (released.sources.project / "LICENSE").read_bytes()
    told = Bundle.load(released.folder).facts
    told["model"]["license"] |= {"name": licence, "url": "https://it"}
    assert hub.items() <= ModelCard(card.render(told)).data.to_dict().items()


def test_the_card_says_what_it_is_to_its_base_model(released):
    from huggingface_hub import ModelCard

    told = Bundle.load(released.folder).facts
    relation = lambda: ModelCard(card.render(told)).data.to_dict().get("base_model_relation")  # noqa: E731
    assert relation() == "quantized"
    told["selection"]["order"] = ["onnx_fp32"]
    assert relation() is None
    told["sources"]["weights"]["stage"] = "finetune@lora"
    assert relation() == "finetune"
