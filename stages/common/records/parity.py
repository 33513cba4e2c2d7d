"""How close a converted variant is to its base model: the `parity` of variant.json."""

import json

from embed_foundry import IntegrityError, Variant
from pydantic import TypeAdapter, ValidationError

from stages.common.records.base import Failure, SparseRecord


class Parity(SparseRecord):
    """Figures over the probe texts; cosines are absent for a variant with a vector space of its own.

    Attributes:
        texts: how many were compared.
        batch_shift_max: largest L2 distance that a text's vector moves from alone to batched with others.
        batch_rank_changes: texts whose ten nearest others change their order when all are batched.
        median_cosine: of all pairs; near 1 if the space has collapsed.
        similarity_spearman: rank correlation of all pairwise similarities with the base model's.
        cosine_mean, cosine_min: to the base model's vectors, each text alone.
        median_cosine_shift: how far median_cosine is from the base model's.
        worst_text: the text of cosine_min.
        padded_batch_min: least cosine when a long text pads the short ones.
        one_token, at_limit: cosine of a one-token text, and of one truncated at the token limit.
        lengths: where each length has a graph of its own: tokens -> least cosine through that very graph.
        hard_texts: texts of hard_texts.json, without and with a prompt, whose token ids are the base model's.
        hard_l2_max: largest L2 distance of their vectors to the base model's.
    """

    texts: int
    batch_shift_max: float
    batch_rank_changes: int
    median_cosine: float
    similarity_spearman: float
    cosine_mean: float | None = None
    cosine_min: float | None = None
    median_cosine_shift: float | None = None
    worst_text: str | None = None
    padded_batch_min: float | None = None
    one_token: float | None = None
    at_limit: float | None = None
    lengths: dict[int, float] | None = None
    hard_texts: int | None = None
    hard_l2_max: float | None = None


_ADAPTER: TypeAdapter[Parity | Failure] = TypeAdapter(Parity | Failure)


def parity_of(variant: Variant) -> Parity | Failure:
    """Return the parity figures of a variant's record, or why there are none.

    Raises:
        IntegrityError: they are not what the convert stage writes.
    """
    try:
        return _ADAPTER.validate_json(json.dumps(variant.parity), strict=True)
    except ValidationError as error:
        raise IntegrityError(
            f"{variant.name}: the parity of its variant.json is not what this version writes "
            f"({error.errors()[0]['msg']}). Next: dvc repro convert@{variant.name}."
        ) from None
