"""SLSA provenance v1 of a bundle: an in-toto statement built from the bundle's contract, the commit and the builder."""

from typing import NotRequired, TypedDict

from embed_foundry import Bundle, manifest, signature
from embed_foundry.manifest import JsonObject

from stages.common.records.bundle import BundleRecord

BUILD_TYPE = "urn:embed-foundry:dvc-repro:1"
# A folder, by the digest in its manifest.json.
MANIFEST = "urn:embed-foundry:manifest:"

# An in-toto statement, as JSON: https://in-toto.io/Statement/v1
Statement = JsonObject


class ResourceDescriptor(TypedDict):
    """One thing that a bundle was built from, as in-toto describes it.

    https://github.com/in-toto/attestation/blob/main/spec/v1/resource_descriptor.md
    """

    name: str
    uri: NotRequired[str]
    digest: NotRequired[dict[str, str]]


def build_statement(bundle: Bundle, commit: str, remote: str, builder: str) -> Statement:
    """Return the statement. It holds no clock: the same arguments give the same value.

    Args:
        bundle: the verified bundle.
        commit: the 40 hex digits of the commit that built it.
        remote: the repository's address as a git+https URI; "" if it has no public one.
        builder: who ran the build, as a URI.
    """
    from google.protobuf.json_format import ParseDict
    from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance

    record = BundleRecord.load(bundle.folder / BundleRecord.FILE)
    predicate = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {
                "model": record.model.model_dump(mode="json"),
                "target": record.target.model_dump(mode="json"),
                **record.build.parameters,
            },
            "resolvedDependencies": _list_dependencies(record, commit, remote),
        },
        "runDetails": {"builder": {"id": builder}},
    }
    ParseDict(predicate, Provenance())  # raises on a field that SLSA does not know
    return {
        "_type": signature.STATEMENT,
        "subject": signature.build_subject(signature.list_signed(bundle.folder, manifest.read(bundle.folder))),
        "predicateType": signature.PREDICATE,
        "predicate": predicate,
    }


def _list_dependencies(record: BundleRecord, commit: str, remote: str) -> list[ResourceDescriptor]:
    """Return what the bundle was built from: commit, lock, base model and its files, data, libraries."""
    model, sources = record.model, record.sources
    source: ResourceDescriptor = {"name": "source", "digest": {"gitCommit": commit}}
    if remote:
        source["uri"] = f"{remote}@{commit}"
    return [
        source,
        {"name": "requirements.lock", "digest": {"sha256": sources.requirements_lock}},
        {
            "name": "model",
            "uri": f"pkg:huggingface/{model.repo}@{model.revision}",
            "digest": {"gitCommit": model.revision},
        },
        {"name": "weights", "uri": f"{MANIFEST}{sources.weights.digest}"},
        *(
            ResourceDescriptor(name=f"weights/{name}", digest={"sha256": sha256})
            for name, sha256 in sorted(sources.weights.files.items())
        ),
        {"name": "data", "uri": f"{MANIFEST}{sources.data.digest}"},
        *(
            ResourceDescriptor(name=library.name, uri=f"pkg:pypi/{library.name}@{library.version}")
            for library in record.build.libraries
        ),
    ]
