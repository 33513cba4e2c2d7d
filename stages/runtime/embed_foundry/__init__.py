"""Embed Foundry's runtime: opens a release bundle, or one variant folder, and encodes texts. No torch needed.

>>> encoder = open_bundle("release")              # doctest: +SKIP
>>> encoder.encode(["hello"], prompt=None).shape  # doctest: +SKIP
(1, 384)
"""

from .bundle import Bundle, FallbackWarning, open_bundle
from .encoders.encoder import Encoder, TruncationWarning, UnknownTextWarning, open_variant
from .encoders.variant import Variant
from .environment import Environment
from .errors import FoundryError, GateError, InputError, IntegrityError, RemoteError, RetryableError
from .signer import Identity, Key

__all__ = [
    "Bundle",
    "Encoder",
    "Environment",
    "FallbackWarning",
    "FoundryError",
    "GateError",
    "Identity",
    "InputError",
    "IntegrityError",
    "Key",
    "RemoteError",
    "RetryableError",
    "TruncationWarning",
    "UnknownTextWarning",
    "Variant",
    "open_bundle",
    "open_variant",
]
