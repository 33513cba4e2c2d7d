"""bundle: the passing variants, with everything needed to trust and run them, as one folder.

In: catalog/, variants/, quality/, latency/, gate/, report/, data/, the weights, the runtime's source, the lock.
Out: release/: bundle.json and its schema, variants/, probes/ with golden vectors, evidence/, runtime/ (the wheel),
README.md (the model card), bom.cdx.json, LICENSE, NOTICE, SHA256SUMS, manifest.json; android.json where tflite ships.
Fails: 3 an input differs from its manifest or the verdict is about other bytes, 4 the gate did not pass.
"""

from stages.bundle.inputs import EVIDENCE, BundleInputs
from stages.bundle.stage import run

__all__ = ["EVIDENCE", "BundleInputs", "run"]
