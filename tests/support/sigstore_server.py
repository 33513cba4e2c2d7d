"""A Sigstore instance: OIDC issuer, certificate authority (Fulcio's API v2), transparency log (Rekor's API v1).

Keys, certificates, timestamps and proofs are real, made with `cryptography`. It checks requests as the public instance
does, and provides the ClientTrustConfig with which sigstore verifies it.
"""

import base64
import hashlib
import json
import time
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from support.local_server import LocalServer, read_body, reply
from support.transparency_log import (
    LogKey,
    audit_path,
    encode_base64,
    encode_canonical,
    encode_der,
    hash_sha256,
    issue_timestamps,
    merkle_root,
)

WORKFLOW = "o/r/.github/workflows/target.yml@refs/heads/main"
IDENTITY = f"https://github.com/{WORKFLOW}"
RUNNER_SECRET = "the runner's"
# https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md
ISSUER_V1, ISSUER_V2 = (x509.ObjectIdentifier(f"1.3.6.1.4.1.57264.1.{number}") for number in (1, 8))
SCT_LIST = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
VALID_FROM = datetime(2020, 1, 1, tzinfo=UTC)


class SigstoreServer(LocalServer):
    """The instance; `url` is the address of every part, and the OIDC issuer's name.

    Attributes:
        trust: a file with its ClientTrustConfig.
        broken: path -> the HTTP status that it answers from now on.
    """

    def __init__(self, folder: Path) -> None:
        self.oidc, self.ca, self.ct, self.log = LogKey(), LogKey(), LogKey(), LogKey()
        self.root = self._issue_root()
        self.leaves: list[bytes] = []
        self.broken: dict[str, int] = {}
        self._lock = Lock()
        super().__init__(self._answer)
        self.trust = folder / "trust.json"
        self.trust.write_text(self._build_trust_config())

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a GitHub job with `id-token: write`."""
        token = {"ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.url}/token", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": RUNNER_SECRET}
        return {"GITHUB_ACTIONS": "true", **token}

    def _build_trust_config(self) -> str:
        """Return the ClientTrustConfig, as JSON."""

        def describe_log(key: LogKey) -> dict[str, Any]:
            public = {
                "rawBytes": encode_base64(key.spki),
                "keyDetails": "PKIX_ECDSA_P256_SHA_256",
                "validFor": valid_from(),
            }
            log_id = {"keyId": encode_base64(key.id)}
            return {"baseUrl": self.url, "hashAlgorithm": "SHA2_256", "publicKey": public, "logId": log_id}

        authority = {
            "subject": {"organization": "test", "commonName": "test"},
            "uri": self.url,
            "certChain": {"certificates": [{"rawBytes": encode_base64(self.root.public_bytes(Encoding.DER))}]},
            "validFor": valid_from(),
        }
        service = [{"url": self.url, "majorApiVersion": 1, "validFor": valid_from(), "operator": "test"}]
        root = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [describe_log(self.log)],
            "ctlogs": [describe_log(self.ct)],
            "certificateAuthorities": [authority],
            "timestampAuthorities": [],
        }
        signing = {
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            "caUrls": service,
            "oidcUrls": service,
            "rekorTlogUrls": service,
            "rekorTlogConfig": {"selector": "ANY"},
        }
        media_type = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
        return json.dumps({"mediaType": media_type, "trustedRoot": root, "signingConfig": signing})

    def issue_token(self, audience: str) -> str:
        """Return a token as GitHub's issuer gives one to a job."""
        now = int(time.time())
        claims = {"iss": self.url, "sub": "repo:o/r:ref:refs/heads/main", "job_workflow_ref": WORKFLOW}
        return jwt.encode(claims | {"aud": audience, "iat": now, "exp": now + 300}, self.oidc.private, "ES256")

    def issue_certificate(self, authorization: str, request: dict[str, Any]) -> dict[str, Any]:
        """Issue a certificate for a token and the key that signed the request, as POST /api/v2/signingCert."""
        claims = jwt.decode(
            authorization.removeprefix("Bearer "),
            self.oidc.private.public_key(),
            ["ES256"],
            audience="sigstore",
            issuer=self.url,
        )
        csr = x509.load_pem_x509_csr(base64.b64decode(request["certificateSigningRequest"]))
        assert csr.is_signature_valid
        now = datetime.now(UTC)
        san = x509.SubjectAlternativeName(
            [x509.UniformResourceIdentifier(f"https://github.com/{claims['job_workflow_ref']}")]
        )
        ca = self.ca.private.public_key()
        issuer = claims["iss"].encode()
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (key_usage("digital_signature"), True),
            (x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CODE_SIGNING]), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(ca), False),
            (san, True),
            (x509.UnrecognizedExtension(ISSUER_V1, issuer), False),
            (x509.UnrecognizedExtension(ISSUER_V2, encode_der(0x0C, issuer)), False),
        ]
        builder = x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(self.root.subject)
        builder = builder.public_key(csr.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(seconds=5)).not_valid_after(now + timedelta(minutes=10))
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        without_timestamps = builder.sign(self.ca.private, hashes.SHA256()).tbs_certificate_bytes
        timestamps = encode_der(0x04, issue_timestamps(self.ct, self.ca, without_timestamps))
        leaf = builder.add_extension(x509.UnrecognizedExtension(SCT_LIST, timestamps), False).sign(
            self.ca.private, hashes.SHA256()
        )
        chain = [certificate.public_bytes(Encoding.PEM).decode() for certificate in (leaf, self.root)]
        return {"signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}}

    def log_entry(self, request: dict[str, Any]) -> dict[str, Any]:
        """Log a signed envelope, as POST /api/v1/log/entries."""
        proposed = request["spec"]["proposedContent"]
        envelope, (verifier,) = json.loads(proposed["envelope"]), proposed["verifiers"]
        payload, payload_type = base64.b64decode(envelope["payload"]), envelope["payloadType"]
        signature = envelope["signatures"][0]["sig"]
        signed = f"DSSEv1 {len(payload_type)} {payload_type} {len(payload)} ".encode() + payload
        public = x509.load_pem_x509_certificate(base64.b64decode(verifier)).public_key()
        public.verify(base64.b64decode(signature), signed, ec.ECDSA(hashes.SHA256()))
        spec = {
            "envelopeHash": hash_sha256(proposed["envelope"].encode()),
            "payloadHash": hash_sha256(payload),
            "signatures": [{"signature": signature, "verifier": verifier}],
        }
        body = encode_canonical({"apiVersion": "0.0.1", "kind": "dsse", "spec": spec})
        with self._lock:
            self.leaves.append(hashlib.sha256(b"\0" + body).digest())
            leaves = list(self.leaves)
        index = len(leaves) - 1
        logged = {
            "body": encode_base64(body),
            "integratedTime": int(time.time()),
            "logID": self.log.id.hex(),
            "logIndex": index,
        }
        root = merkle_root(leaves)
        note = f"test - 1\n{len(leaves)}\n{encode_base64(root)}\n"
        proof = {
            "checkpoint": f"{note}\n\u2014 test {encode_base64(self.log.id[:4] + self.log.sign(note.encode()))}\n",
            "hashes": [digest.hex() for digest in audit_path(index, leaves)],
            "logIndex": index,
            "rootHash": root.hex(),
            "treeSize": len(leaves),
        }
        promise = encode_base64(self.log.sign(encode_canonical(logged)))
        return {"0": logged | {"verification": {"inclusionProof": proof, "signedEntryTimestamp": promise}}}

    def _issue_root(self) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
        public = self.ca.private.public_key()
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(public)
        builder = (
            builder.serial_number(1).not_valid_before(VALID_FROM).not_valid_after(VALID_FROM + timedelta(days=36500))
        )
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(key_usage("key_cert_sign"), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        return builder.sign(self.ca.private, hashes.SHA256())

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        path, body = urlsplit(request.path).path, read_body(request)
        status = self.broken.get(path, 201 if request.command == "POST" else 200)
        try:
            answer = self._handle(request, body) if status in (200, 201) else {"code": status, "message": "refused"}
        except Exception as error:  # an invalid request
            status, answer = 400, {"code": 400, "message": f"{type(error).__name__}: {error}"}
        reply(request, status, {"Content-Type": "application/json"}, json.dumps(answer).encode())

    def _handle(self, request: BaseHTTPRequestHandler, body: bytes) -> dict[str, Any]:
        url, authorization = urlsplit(request.path), request.headers.get("Authorization", "")
        match request.command, url.path:
            case "POST", "/api/v2/signingCert":
                return self.issue_certificate(authorization, json.loads(body))
            case "POST", "/api/v1/log/entries":
                return self.log_entry(json.loads(body))
            case "GET", "/.well-known/openid-configuration":
                return dict.fromkeys(("authorization_endpoint", "token_endpoint"), self.url)
            case "GET", "/token" if authorization == f"bearer {RUNNER_SECRET}":
                return {"value": self.issue_token(parse_qs(url.query)["audience"][0])}
        raise LookupError("no such page, or refused")


def key_usage(name: str) -> x509.KeyUsage:
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
             "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")  # fmt: skip
    return x509.KeyUsage(**{usage: usage == name for usage in names})


def valid_from() -> dict[str, str]:
    return {"start": VALID_FROM.strftime("%Y-%m-%dT%H:%M:%SZ")}
