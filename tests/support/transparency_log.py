"""Parts of a transparency log: keys named by digest, signed certificate timestamps, Merkle trees (RFC 6962)."""

import base64
import hashlib
import json
import struct
import time
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


class LogKey:
    """A P-256 key, named by the digest of its public half."""

    def __init__(self) -> None:
        self.private = ec.generate_private_key(ec.SECP256R1())
        self.spki = self.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.id = hashlib.sha256(self.spki).digest()

    def sign(self, data: bytes) -> bytes:
        return self.private.sign(data, ec.ECDSA(hashes.SHA256()))


def issue_timestamps(log: LogKey, issuer: LogKey, certificate: bytes) -> bytes:
    """Return a list of one signed certificate timestamp (RFC 6962, 3.2 and 3.3) for a certificate."""
    millis = int(time.time() * 1000)
    entry = issuer.id + len(certificate).to_bytes(3, "big") + certificate
    signature = log.sign(struct.pack("!BBQH", 0, 0, millis, 1) + entry + b"\0\0")
    sct = struct.pack("!B32sQHBBH", 0, log.id, millis, 0, 4, 3, len(signature)) + signature
    return struct.pack("!HH", len(sct) + 2, len(sct)) + sct


def merkle_root(leaves: list[bytes]) -> bytes:
    """Return the root of a Merkle tree of leaf hashes (RFC 6962, 2.1)."""
    if len(leaves) == 1:
        return leaves[0]
    middle = split_size(leaves)
    return hashlib.sha256(b"\1" + merkle_root(leaves[:middle]) + merkle_root(leaves[middle:])).digest()


def audit_path(index: int, leaves: list[bytes]) -> list[bytes]:
    """Return a leaf's audit path (RFC 6962, 2.1.1)."""
    if len(leaves) == 1:
        return []
    middle = split_size(leaves)
    if index < middle:
        return [*audit_path(index, leaves[:middle]), merkle_root(leaves[middle:])]
    return [*audit_path(index - middle, leaves[middle:]), merkle_root(leaves[:middle])]


def split_size(leaves: list[bytes]) -> int:
    """Return the largest power of two below the number of leaves."""
    return 1 << ((len(leaves) - 1).bit_length() - 1)


def encode_der(tag: int, content: bytes) -> bytes:
    size = len(content)
    long_size = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag]) + (bytes([size]) if size < 128 else bytes([128 + len(long_size)]) + long_size) + content


def encode_canonical(content: dict[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def hash_sha256(data: bytes) -> dict[str, str]:
    return {"algorithm": "sha256", "value": hashlib.sha256(data).hexdigest()}


def encode_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
