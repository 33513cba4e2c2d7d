"""A Sigstore instance: OIDC issuer, certificate authority (Fulcio's API v2), transparency log (Rekor's API v1).

Keys, certificates, timestamps and proofs are real, made with `cryptography`; it checks what it is sent as theirs do,
and hands out the ClientTrustConfig by which sigstore checks it.
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
from support.transparency_log import Key, b64, canonical, der, path, sha256, timestamps, tree

WORKFLOW = "o/r/.github/workflows/target.yml@refs/heads/main"
IDENTITY = f"https://github.com/{WORKFLOW}"
SECRET = "the runner's"
# https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md
ISSUER_V1, ISSUER_V2 = (x509.ObjectIdentifier(f"1.3.6.1.4.1.57264.1.{number}") for number in (1, 8))
SCT_LIST = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
SINCE = datetime(2020, 1, 1, tzinfo=UTC)


class SigstoreServer(LocalServer):
    """The instance; `url` is of every part, and the OIDC issuer's name.

    Attributes:
        trust: a file with its ClientTrustConfig.
        broken: path to the HTTP status that it answers from now on.
    """

    def __init__(self, folder: Path) -> None:
        self.oidc, self.ca, self.ct, self.log = Key(), Key(), Key(), Key()
        self.root = self._root()
        self.leaves: list[bytes] = []
        self.broken: dict[str, int] = {}
        self._lock = Lock()
        super().__init__(self._answer)
        self.trust = folder / "trust.json"
        self.trust.write_text(self._trust())

    @property
    def environment(self) -> dict[str, str]:
        """What a runner of GitHub with `id-token: write` has in its environment."""
        token = {"ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.url}/token", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": SECRET}
        return {"GITHUB_ACTIONS": "true", **token}

    def _trust(self) -> str:
        """Return the ClientTrustConfig, as JSON."""

        def log(key: Key) -> dict[str, Any]:
            public = {"rawBytes": b64(key.spki), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": since()}
            return {
                "baseUrl": self.url, "hashAlgorithm": "SHA2_256", "publicKey": public, "logId": {"keyId": b64(key.id)}
            }  # fmt: skip

        authority = {
            "subject": {"organization": "test", "commonName": "test"},
            "uri": self.url,
            "certChain": {"certificates": [{"rawBytes": b64(self.root.public_bytes(Encoding.DER))}]},
            "validFor": since(),
        }
        service = [{"url": self.url, "majorApiVersion": 1, "validFor": since(), "operator": "test"}]
        root = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(self.log)],
            "ctlogs": [log(self.ct)],
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
        kind = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
        return json.dumps({"mediaType": kind, "trustedRoot": root, "signingConfig": signing})

    def token(self, audience: str) -> str:
        """Return a token as GitHub's issuer gives it to a job."""
        now = int(time.time())
        claims = {"iss": self.url, "sub": "repo:o/r:ref:refs/heads/main", "job_workflow_ref": WORKFLOW}
        return jwt.encode(claims | {"aud": audience, "iat": now, "exp": now + 300}, self.oidc.private, "ES256")

    def certificate(self, authorization: str, request: dict[str, Any]) -> dict[str, Any]:
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
            (usage("digital_signature"), True),
            (x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CODE_SIGNING]), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(ca), False),
            (san, True),
            (x509.UnrecognizedExtension(ISSUER_V1, issuer), False),
            (x509.UnrecognizedExtension(ISSUER_V2, der(0x0C, issuer)), False),
        ]
        builder = x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(self.root.subject)
        builder = builder.public_key(csr.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(seconds=5)).not_valid_after(now + timedelta(minutes=10))
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        plain = builder.sign(self.ca.private, hashes.SHA256()).tbs_certificate_bytes
        logged = x509.UnrecognizedExtension(SCT_LIST, der(0x04, timestamps(self.ct, self.ca, plain)))
        leaf = builder.add_extension(logged, False).sign(self.ca.private, hashes.SHA256())
        chain = [it.public_bytes(Encoding.PEM).decode() for it in (leaf, self.root)]
        return {"signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}}

    def entry(self, request: dict[str, Any]) -> dict[str, Any]:
        """Log a signed envelope, as POST /api/v1/log/entries."""
        proposed = request["spec"]["proposedContent"]
        envelope, (verifier,) = json.loads(proposed["envelope"]), proposed["verifiers"]
        payload, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"]
        signature = envelope["signatures"][0]["sig"]
        signed = f"DSSEv1 {len(kind)} {kind} {len(payload)} ".encode() + payload
        public = x509.load_pem_x509_certificate(base64.b64decode(verifier)).public_key()
        public.verify(base64.b64decode(signature), signed, ec.ECDSA(hashes.SHA256()))
        spec = {
            "envelopeHash": sha256(proposed["envelope"].encode()),
            "payloadHash": sha256(payload),
            "signatures": [{"signature": signature, "verifier": verifier}],
        }
        body = canonical({"apiVersion": "0.0.1", "kind": "dsse", "spec": spec})
        with self._lock:
            self.leaves.append(hashlib.sha256(b"\0" + body).digest())
            leaves = list(self.leaves)
        index = len(leaves) - 1
        told = {"body": b64(body), "integratedTime": int(time.time()), "logID": self.log.id.hex(), "logIndex": index}
        root = tree(leaves)
        note = f"test - 1\n{len(leaves)}\n{b64(root)}\n"
        proof = {
            "checkpoint": f"{note}\n\u2014 test {b64(self.log.id[:4] + self.log.sign(note.encode()))}\n",
            "hashes": [it.hex() for it in path(index, leaves)],
            "logIndex": index,
            "rootHash": root.hex(),
            "treeSize": len(leaves),
        }
        promise = b64(self.log.sign(canonical(told)))
        return {"0": told | {"verification": {"inclusionProof": proof, "signedEntryTimestamp": promise}}}

    def _root(self) -> x509.Certificate:
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
        public = self.ca.private.public_key()
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(public)
        builder = builder.serial_number(1).not_valid_before(SINCE).not_valid_after(SINCE + timedelta(days=36500))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(usage("key_cert_sign"), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        return builder.sign(self.ca.private, hashes.SHA256())

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        path, sent = urlsplit(request.path).path, read_body(request)
        status = self.broken.get(path, 201 if request.command == "POST" else 200)
        try:
            told = self._told(request, sent) if status in (200, 201) else {"code": status, "message": "not for you"}
        except Exception as error:  # what it does not accept
            status, told = 400, {"code": 400, "message": f"{type(error).__name__}: {error}"}
        reply(request, status, {"Content-Type": "application/json"}, json.dumps(told).encode())

    def _told(self, request: BaseHTTPRequestHandler, sent: bytes) -> dict[str, Any]:
        url, who = urlsplit(request.path), request.headers.get("Authorization", "")
        match request.command, url.path:
            case "POST", "/api/v2/signingCert":
                return self.certificate(who, json.loads(sent))
            case "POST", "/api/v1/log/entries":
                return self.entry(json.loads(sent))
            case "GET", "/.well-known/openid-configuration":
                return dict.fromkeys(("authorization_endpoint", "token_endpoint"), self.url)
            case "GET", "/token" if who == f"bearer {SECRET}":
                return {"value": self.token(parse_qs(url.query)["audience"][0])}
        raise LookupError("no such page, or not for you")


def usage(name: str) -> x509.KeyUsage:
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
             "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")  # fmt: skip
    return x509.KeyUsage(**{it: it == name for it in names})


def since() -> dict[str, str]:
    return {"start": SINCE.strftime("%Y-%m-%dT%H:%M:%SZ")}
