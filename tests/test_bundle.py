"""The release as the build assembles it: holds what was judged, in the same bytes anywhere, or is refused."""

import dataclasses
import json
import platform
import shutil
import subprocess
from pathlib import Path

import pytest
from embed_foundry import Bundle, FoundryError, GateError, IntegrityError, contract, manifest
from jsonschema import Draft202012Validator, ValidationError
from safetensors.numpy import load_file

from stages.bundle import card, contents, licences
from stages.common.records.bundle import BundleRecord
from support import small_release
from support.gate_facts import latency_report
from support.small_release import ORDER


@pytest.fixture
def build(released, tmp_path) -> small_release.Build:
    """Return the build with copies of its measurements and verdict, which a test may change."""
    inputs = released.inputs
    for name in ("catalog", "quality", "latency", "gate", "report"):
        shutil.copytree(getattr(inputs, name), tmp_path / name)
    copies = {name: tmp_path / name for name in ("catalog", "quality", "latency", "gate", "report")}
    return dataclasses.replace(released, inputs=dataclasses.replace(inputs, **copies))


@pytest.fixture
def record(released) -> BundleRecord:
    """Return the release's bundle.json."""
    return BundleRecord.load(released.folder / BundleRecord.FILE)


def test_holds_what_is_needed_to_trust_and_run_it(released):
    folder, inputs = released.folder, released.inputs
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
        assert shipped.digest == manifest.read(inputs.variants / name).digest
    for path in (inputs.gate / "verdict.json", inputs.quality / "scores.json", inputs.latency / "latency.json"):
        assert (folder / "evidence" / path.name).read_bytes() == path.read_bytes()
    raw = Bundle.load(folder).raw
    assert raw["selection"]["order"] == ORDER
    assert raw["model"]["revision"] == released.model.revision
    assert all(check["passes"] for name in ORDER for check in raw["variants"][name]["checks"])
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
    names = {line.split("  ", 1)[1] for line in (released.folder / "SHA256SUMS").read_text().splitlines()}
    assert names == set(manifest.files_of(released.folder)) - {"SHA256SUMS"}


def refused(build: small_release.Build, error: type[FoundryError]) -> str:
    """Return the message with which the bundle stage refuses; nothing is published."""
    out = build.inputs.catalog.parent / "refused"
    with pytest.raises(error) as caught:
        build.release(out)
    assert not out.exists()
    return str(caught.value)


def test_a_failed_gate_ends_with_4_and_every_missed_limit(build):
    slow = {name: small_release.times(0.5) for name in small_release.NAMES}
    small_release.write(build.inputs.latency, "latency.json", latency_report(slow))
    build.judge()
    message = refused(build, GateError)
    assert GateError.code == 4
    assert f"no release for {build.target.name}: 0 candidates pass (1 required)" in message
    for name in set(build.target.candidates) & set(small_release.NAMES):
        for tokens, limit in build.target.limits[name].speedup_min.items():
            reason = f"speedup_min {tokens} tokens: 0.5, between 0.5 and 0.5 by 60 samples, limit {limit:g}"
            assert f"{name}: {reason}" in message
    assert "Next: read gate/verdict.json" in message


def test_a_candidate_that_failed_does_not_ship(build, tmp_path):
    times = {name: small_release.times() for name in small_release.NAMES} | {"onnx_int8": {"error": "its process died"}}
    small_release.write(build.inputs.latency, "latency.json", latency_report(times))
    build.judge()
    assert Bundle.load(build.release(tmp_path / "release")).order == ["onnx_fp32", "static"]


def test_an_edited_verdict_is_refused(build):
    path = build.inputs.gate / "verdict.json"
    path.write_text(path.read_text().replace('"passes": true', '"passes": true '))
    assert "verdict.json: has" in refused(build, IntegrityError)


@pytest.mark.parametrize("name", ["catalog", "quality", "latency"])
def test_a_verdict_about_other_inputs_is_refused(build, name):
    folder = getattr(build.inputs, name)
    small_release.refit(folder, parameters={"made": "again"})
    message = refused(build, IntegrityError)
    assert f"is about {name} " in message
    assert "dvc repro gate" in message


def test_a_verdict_by_other_limits_is_refused(build):
    build.judge(build.target.model_copy(update={"required": 3}))
    assert "by limits that are not local_cpu's" in refused(build, IntegrityError)


def test_a_variant_converted_again_since_the_catalog_is_refused(build, released, tmp_path):
    variants = tmp_path / "variants"
    for name in small_release.NAMES:
        (variants / name).mkdir(parents=True)
        shutil.copy(released.inputs.variants / name / manifest.NAME, variants / name)
    manifest.write(variants / "static", {"stage": "convert@static"})
    changed = dataclasses.replace(build, inputs=dataclasses.replace(build.inputs, variants=variants))
    assert "dvc repro convert@static catalog" in refused(changed, IntegrityError)


def test_another_umask_time_zone_and_clone_give_the_same_bytes(released, root, tmp_path, elsewhere):
    project = tmp_path / "another" / "clone"
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(
        root / "stages" / "runtime", project / "stages" / "runtime", ignore=skip, copy_function=shutil.copyfile
    )
    for name in ("LICENSE", "pyproject.toml", "requirements.lock"):
        shutil.copyfile(root / name, project / name)
    build = dataclasses.replace(released, inputs=dataclasses.replace(released.inputs, project=project))
    again = build.release(tmp_path / "again")
    assert (again / manifest.NAME).read_bytes() == (released.folder / manifest.NAME).read_bytes()


def test_bundle_json_is_what_its_schema_says_and_the_schema_says_no_less(released):
    schema = json.loads((released.folder / contract.SCHEMA_FILE).read_text())
    raw = json.loads((released.folder / contract.NAME).read_text())
    Draft202012Validator(schema).validate(raw)
    assert schema["properties"]["schema"]["const"] == contract.SCHEMA == raw["schema"]
    assert set(schema["properties"]) == set(raw), "the contract describes every key"
    for broken in (
        {key: value for key, value in raw.items() if key != "content"},
        raw | {"more": 1},
        raw | {"selection": raw["selection"] | {"order": []}},
        raw | {"variants": {"static": raw["variants"]["static"] | {"bits": 7}}},
        raw | {"variants": {"static": raw["variants"]["static"] | {"checks": [{"passes": False}]}}},
    ):
        with pytest.raises(ValidationError, match="Failed validating"):
            Draft202012Validator(schema).validate(broken)


def test_a_record_that_breaks_the_schema_is_a_fault_of_the_stage(released, record):
    schema = (released.folder / contract.SCHEMA_FILE).read_bytes()
    contents.require_schema(record, schema)
    selection = record.selection.model_copy(update={"order": []})
    with pytest.raises(ValidationError, match="Failed validating"):
        contents.require_schema(record.model_copy(update={"selection": selection}), schema)


def test_the_record_reads_back_as_it_was_written(released, record):
    assert record.dump() == (released.folder / contract.NAME).read_bytes()


def test_the_contract_says_what_selection_needs(released, record):
    variants = Bundle.load(released.folder).contract.variants
    assert {name: shipped.bits for name, shipped in variants.items()} == {"onnx_int8": 8, "onnx_fp32": 32, "static": 8}
    assert variants["onnx_int8"].cpu_any == {"x86_64": frozenset(contents.VNNI)}
    assert variants["onnx_fp32"].cpu_any == {}
    assert variants["static"].peak_rss_mb == 100.0
    assert variants["onnx_fp32"].speedup == {32: 50.0, 128: 50.0}
    assert variants["onnx_fp32"].retention["STSTask"] == 1.0
    shared, own = variants["onnx_fp32"].space_id, variants["static"].space_id
    assert variants["onnx_int8"].space_id == shared
    assert record.selection.fallback == {shared: ["onnx_int8", "onnx_fp32"], own: ["static"]}
    assert record.variants["onnx_fp32"].measured.quality["STSTask"].model_dump() == {
        "type": "STS",
        "metric": "cosine_spearman",
        "score": 0.7,
        "of_baseline": 1.0,
    }


def test_the_card_is_one_that_the_hub_takes(released):
    from huggingface_hub import ModelCard

    model_card = ModelCard.load(released.folder / "README.md")
    assert model_card.data.license == "apache-2.0"
    assert model_card.data.base_model == released.model.repo
    assert model_card.data.base_model_relation == "quantized"
    results = {(result.task_type, result.metric_value) for result in model_card.data.eval_results}
    assert results >= {("STS", 70.0), ("Retrieval", 60.0)}
    for name in ORDER:
        assert f"| `{name}` |" in model_card.text
    header = next(line for line in model_card.text.splitlines() if line.startswith("| variant"))
    rows = [line for line in model_card.text.splitlines() if line.startswith(("| `", "|---"))]
    assert {line.count("|") for line in rows} == {header.count("|")}


def test_the_bill_of_materials_is_valid_and_names_models_data_and_libraries(released):
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = (released.folder / contract.BOM).read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bom = json.loads(text)
    assert "timestamp" not in bom["metadata"]
    components = {component["bom-ref"]: component for component in bom["components"]}
    assert components["base"]["purl"] == f"pkg:huggingface/{released.model.repo}@{released.model.revision}"
    weights = {file["name"]: file["hashes"][0]["content"] for file in components["base"]["components"]}
    assert weights["base/model.safetensors"] == released.model.files["model.safetensors"]
    for name in ORDER:
        files = {file["name"]: file["hashes"][0]["content"] for file in components[f"variant:{name}"]["components"]}
        hashes = manifest.read(released.folder).hashes
        assert files == {path: digest for path, digest in hashes.items() if path.startswith(f"variants/{name}/")}
    assert components["data:STSTask"]["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    assert components["pypi:botocore@1.40"]["scope"] == "excluded"
    tokenizers = next(component for ref, component in components.items() if ref.startswith("pypi:tokenizers@"))
    assert tokenizers["scope"] == "required"


def test_content_is_what_two_builds_share_that_measured_other_times(build, released, tmp_path):
    times = {name: small_release.times(40.0) for name in small_release.NAMES}
    small_release.write(build.inputs.latency, "latency.json", latency_report(times))
    build.judge()
    other, first = Bundle.load(build.release(tmp_path / "release")), Bundle.load(released.folder)
    assert other.digest != first.digest
    assert other.contract.content == first.contract.content


@pytest.mark.parametrize(("name", "words"), [("weights", "was not made from"), ("data", "was measured on data")])
def test_other_sources_than_the_variants_and_figures_are_refused(build, tmp_path, name, words):
    other = tmp_path / "other"
    other.mkdir()
    manifest.write(other, {"stage": name})
    changed = dataclasses.replace(build, inputs=dataclasses.replace(build.inputs, **{name: other}))
    assert words in refused(changed, IntegrityError)


@pytest.mark.parametrize(
    ("licence", "words", "hub"),
    [
        ("MIT", "its text is at https://it", {"license": "mit"}),
        ("Gemma Terms of Use", "Gemma is provided under and subject to", {"license": "gemma"}),
        ("Some Terms", "Some Terms", {"license": "other", "license_name": "Some Terms", "license_link": "https://it"}),
    ],
)
def test_terms_are_handed_on(released, record, tmp_path, licence, words, hub):
    from huggingface_hub import ModelCard

    terms = released.model.license.model_copy(update={"name": licence, "url": "https://it"})
    licences.write(tmp_path, released.model.model_copy(update={"license": terms}), released.inputs.project)
    assert words in (tmp_path / "NOTICE").read_text()
    assert (tmp_path / "LICENSE").read_bytes() == (released.inputs.project / "LICENSE").read_bytes()
    changed = record.model_copy(update={"model": record.model.model_copy(update={"license": terms})})
    assert hub.items() <= ModelCard(card.render(changed)).data.to_dict().items()


def test_the_card_says_what_it_is_to_its_base_model(record):
    from huggingface_hub import ModelCard

    def relation(changed: BundleRecord) -> str | None:
        return ModelCard(card.render(changed)).data.to_dict().get("base_model_relation")

    assert relation(record) == "quantized"
    selection = record.selection.model_copy(update={"order": ["onnx_fp32"]})
    plain = record.model_copy(update={"selection": selection})
    assert relation(plain) is None
    weights = record.sources.weights.model_copy(update={"made_by": "finetune@lora"})
    sources = record.sources.model_copy(update={"weights": weights})
    assert relation(plain.model_copy(update={"sources": sources})) == "finetune"
