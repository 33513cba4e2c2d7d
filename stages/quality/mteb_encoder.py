"""The runtime's encoder as mteb calls it: each text is encoded once, in full, then truncated to each dimension."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from embed_foundry import Encoder
from embed_foundry.encoders.vectors import Vectors, truncate
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta
from mteb.types import PromptType

from stages.quality.mteb_types import Batch


@dataclass
class EncodedTexts:
    """The texts of one side of a retrieval task, in mteb's order: ids, texts, and the prompt before them."""

    prompt: str | None
    ids: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)


class MtebEncoder(AbsEncoder):  # type: ignore[misc]  # mteb has no types
    """One variant on one task; texts that were encoded are kept for further dimensions.

    Args:
        encoder: the encoder that ships.
        revision: the variant's digest, recorded in mteb's results.
        batch_size: texts per call of the encoder.
    """

    def __init__(self, encoder: Encoder, revision: str, batch_size: int) -> None:
        variant = encoder.variant
        self.encoder = encoder
        self.batch_size = batch_size
        self.dimensions = variant.dimensions
        self.model_prompts = variant.prompts
        self.mteb_model_meta = ModelMeta.create_empty(
            overwrites={"name": f"{variant.model.partition('@')[0]}-{variant.name}", "revision": revision}
        )
        # (subset, split) -> "query" or "document" -> what mteb had encoded since `start`.
        self.encoded: dict[tuple[str, str], dict[str, EncodedTexts]] = {}
        self._vectors: dict[tuple[str | None, str], Vectors] = {}

    def encode(
        self,
        inputs: Iterable[Batch],
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        **_: object,
    ) -> Vectors:
        """Return the vectors of all texts of a DataLoader, truncated to `self.dimensions`: float32 [n, dimensions]."""
        prompt = self.get_prompt_name(task_metadata, prompt_type) if self.model_prompts else None
        texts: list[str] = []
        ids: list[str] = []
        for batch in inputs:
            texts += batch["text"]
            ids += batch.get("id", [])
        if prompt_type is not None and ids:
            sides = self.encoded.setdefault((hf_subset, hf_split), {})
            side = sides.setdefault(prompt_type.value, EncodedTexts(prompt))
            side.ids += ids
            side.texts += texts
        missing = list(dict.fromkeys(text for text in texts if (prompt, text) not in self._vectors))
        if missing:
            vectors = self.encoder.encode(missing, prompt=prompt, batch_size=self.batch_size)
            self._vectors |= {(prompt, text): vector for text, vector in zip(missing, vectors, strict=True)}
        return self._truncated_vectors(prompt, texts)

    def start(self, dimensions: int) -> None:
        """Truncate vectors to this length from now on, and forget which texts mteb had encoded before."""
        self.dimensions, self.encoded = dimensions, {}

    def vectors_of(self, side: EncodedTexts) -> Vectors:
        """Return the vectors of encoded texts, truncated to `self.dimensions`: float32 [n, dimensions]."""
        return self._truncated_vectors(side.prompt, side.texts)

    def _truncated_vectors(self, prompt: str | None, texts: list[str]) -> Vectors:
        return truncate(np.stack([self._vectors[prompt, text] for text in texts]), self.dimensions, texts)
