"""sign: who made a bundle, as a signature over every file and a signed provenance beside it (a command, not a stage).

In: a release bundle, a private key or an OIDC token, the checkout that built the bundle.
Out: NAME.signature/ beside the bundle (model.sig, provenance.intoto.json); no byte of the bundle changes.
Fails: 2 the key, no OIDC token, or code or configuration that differs from the commit or from what built the bundle,
3 a bundle that does not verify, 5 Sigstore refused, 75 it cannot be reached.
"""

from stages.commands.sign.key_pair import KeyPairSigner, generate_key_pair
from stages.commands.sign.keyless import KeylessSigner
from stages.commands.sign.signing import SigningResult, run

__all__ = ["KeyPairSigner", "KeylessSigner", "SigningResult", "generate_key_pair", "run"]
