"""The golden probe: one text of the release whose vector is known, through the same lanes as every request."""

from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load_file

from ..bundle import GOLDEN, PROBES, Bundle
from ..contract import REFUSAL
from ..encoders.vectors import Vectors
from ..errors import IntegrityError
from ..selftest import COSINE, read_probes
from .requests import AUTO, EmbedAnswer, EmbedRequest


@dataclass(frozen=True)
class GoldenProbe:
    """A text and what each variant gave for it at release.

    Attributes:
        text: the release's shortest probe.
        prompt: its prompt.
        vectors: variant -> the vector at release, float32 [dimensions].
    """

    text: str
    prompt: str | None
    vectors: dict[str, Vectors]

    @classmethod
    def load(cls, bundle: Bundle) -> "GoldenProbe":
        """Read a release's shortest probe.

        Raises:
            IntegrityError: the release's probes cannot be read.
        """
        probes = read_probes(bundle.folder / PROBES)
        golden = _load_golden(bundle.folder / GOLDEN)
        shortest = min(range(len(probes)), key=lambda index: len(str(probes[index]["text"])))
        vectors = {name: rows[shortest].copy() for name, rows in golden.items()}
        return cls(str(probes[shortest]["text"]), probes[shortest]["prompt"], vectors)

    def request(self, model: str = AUTO, deadline_s: float | None = None) -> EmbedRequest:
        """Return the request that asks for the probe's vector."""
        return EmbedRequest((self.text,), model, self.prompt, deadline_s=deadline_s, probe=True)

    def check(self, answer: EmbedAnswer) -> None:
        """Check an answer to the probe.

        Raises:
            IntegrityError: its vector is not the one at release.
        """
        cosine = float(answer.vectors[0] @ self.vectors[answer.variant])
        if not cosine >= COSINE:  # NaN fails
            raise IntegrityError(
                f"the golden probe's vector by {answer.variant} has cosine {cosine:.4f} to the one at release, "
                f"expected at least {COSINE}. Restart the service; if it persists, use another host or variant."
            )


def _load_golden(path: Path) -> dict[str, Vectors]:
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError, ValueError) as error:
        raise IntegrityError(f"{path}: safetensors cannot load it ({error}). {REFUSAL}") from None
