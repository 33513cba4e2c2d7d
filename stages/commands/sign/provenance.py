"""SLSA provenance v1 of a bundle: an in-toto statement made of the bundle's own facts, the commit and the builder."""

import json
from typing import Any

from embed_foundry import Bundle, signature

from stages.common.records.bundle import BundleRecord

BUILD_TYPE = "urn:embed-foundry:dvc-repro:1"
# A folder, by the digest that its manifest.json carries.
MANIFEST = "urn:embed-foundry:manifest:"


def statement(bundle: Bundle, commit: str, remote: str, builder: str) -> dict[str, Any]:
    """Return the statement; the same arguments give the same value, for it holds no clock.

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
            "resolvedDependencies": [
                {
                    "name": "source",
                    "digest": {"gitCommit": commit},
                    **({"uri": f"{remote}@{commit}"} if remote else {}),
                },
                {"name": "requirements.lock", "digest": {"sha256": record.sources.requirements_lock}},
                *_weights(record),
                {"name": "data", "uri": f"{MANIFEST}{record.sources.data.digest}"},
                *(
                    {"name": library.name, "uri": f"pkg:pypi/{library.name}@{library.version}"}
                    for library in record.build.libraries
                ),
            ],
        },
        "runDetails": {"builder": {"id": builder}},
    }
    ParseDict(predicate, Provenance())  # raises on a field that SLSA does not know
    return {
        "_type": signature.STATEMENT,
        "subject": signature.build_subject(bundle.folder),
        "predicateType": signature.PREDICATE,
        "predicate": predicate,
    }


def payload(content: dict[str, Any]) -> bytes:
    """Return a statement's bytes, which are what is signed."""
    return json.dumps(content, sort_keys=True, allow_nan=False).encode()


def envelope(content: dict[str, Any], private: Any) -> bytes:  # noqa: ANN401 - cryptography's key
    """Return a statement in a signed DSSE envelope, as JSON."""
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner, SSlibKey

    signed = Envelope(payload(content), signature.PAYLOAD_TYPE, {})
    signed.sign(CryptoSigner(private, SSlibKey.from_crypto(private.public_key())))
    return json.dumps(signed.to_dict()).encode()


def _weights(record: BundleRecord) -> list[dict[str, Any]]:
    model, weights = record.model, record.sources.weights
    uri = f"pkg:huggingface/{model.repo}@{model.revision}"
    files = [
        {"name": f"weights/{name}", "digest": {"sha256": digest}} for name, digest in sorted(weights.files.items())
    ]
    return [
        {"name": "model", "uri": uri, "digest": {"gitCommit": model.revision}},
        {"name": "weights", "uri": f"{MANIFEST}{weights.digest}"},
        *files,
    ]
