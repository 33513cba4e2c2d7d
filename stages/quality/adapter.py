"""The runtime's encoder as mteb sees it: each text is encoded once at full length, then cut for every dimension."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from embed_foundry import Encoder
from embed_foundry.encoder import Vectors, cut
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta
from threadpoolctl import threadpool_limits


@dataclass
class Asked:
    """The texts of one side of a retrieval task, in mteb's order: ids, texts, and the prompt before them."""

    prompt: str | None
    ids: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)


class Adapter(AbsEncoder):  # type: ignore[misc]  # mteb has no types
    """One variant for mteb's tasks.

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
        # (subset, split) -> "query" or "document" -> what was asked for since `start`.
        self.asked: dict[tuple[str, str], dict[str, Asked]] = {}
        self._known: dict[tuple[str | None, str], Vectors] = {}

    def forget(self) -> None:
        """Drop the kept vectors."""
        self._known.clear()

    def encode(
        self,
        inputs: Any,  # noqa: ANN401 - a DataLoader of {"text": [...]}
        *,
        task_metadata: Any,  # noqa: ANN401
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,  # noqa: ANN401
        **_: Any,  # noqa: ANN401
    ) -> Vectors:
        """Return the vectors of all texts of a DataLoader, cut to `self.dimensions`: float32 [n, dimensions]."""
        prompt = self.get_prompt_name(task_metadata, prompt_type) if self.model_prompts else None
        texts, ids = [], []
        for batch in inputs:
            texts += batch["text"]
            ids += batch.get("id", [])
        if prompt_type is not None and ids:
            asked = self.asked.setdefault((hf_subset, hf_split), {}).setdefault(prompt_type.value, Asked(prompt))
            asked.ids += ids
            asked.texts += texts
        fresh = list(dict.fromkeys(text for text in texts if (prompt, text) not in self._known))
        if fresh:
            with threadpool_limits(self.encoder.threads):  # scoring around it runs on one
                vectors = self.encoder.encode(fresh, prompt=prompt, batch_size=self.batch_size)
            self._known |= {(prompt, text): vector for text, vector in zip(fresh, vectors, strict=True)}
        return cut(np.stack([self._known[prompt, text] for text in texts]), self.dimensions)

    def start(self, dimensions: int) -> None:
        """Cut vectors to this length from now on, and forget what was asked for before."""
        self.dimensions, self.asked = dimensions, {}

    def vectors(self, asked: Asked) -> Vectors:
        """Return the vectors of texts that were asked for, cut to `self.dimensions`: float32 [n, dimensions]."""
        return cut(np.stack([self._known[asked.prompt, text] for text in asked.texts]), self.dimensions)
