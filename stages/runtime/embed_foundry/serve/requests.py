"""What crosses the line between a door and the service."""

from dataclasses import dataclass, field

from ..encoder import Vectors

AUTO = "auto"


@dataclass(frozen=True)
class EmbedRequest:
    """Texts to embed, whatever dialect they came in.

    Attributes:
        texts: at least one; strings as the client sent them.
        model: a variant's name, the model's name, an alias, or "auto"; ":PROMPT" at its end names a prompt.
        prompt: a key of the model's prompts; None adds none.
        dimensions: length of the vectors (Matryoshka, renormalised); None keeps all.
        truncate: whether texts over the token limit are truncated (and reported) or refused.
        expected_space: the space id that the client's index was built in; "" accepts any.
        client: who asks, for the limit on concurrent requests; never logged with a text.
        deadline_s: seconds from now after which the answer is useless; None takes the service's own.
        probe: a health check: it is computed, never answered from the cache, and keeps no variant in memory.
    """

    texts: tuple[str, ...]
    model: str = AUTO
    prompt: str | None = None
    dimensions: int | None = None
    truncate: bool = True
    expected_space: str = ""
    client: str = ""
    deadline_s: float | None = None
    probe: bool = False


@dataclass(frozen=True)
class Timings:
    """Where the time of a request went, in seconds."""

    tokenize_s: float = 0.0
    queue_s: float = 0.0
    load_s: float = 0.0
    compute_s: float = 0.0
    total_s: float = 0.0


@dataclass(frozen=True)
class EmbedAnswer:
    """The vectors of a request, and what a client must know of them.

    Attributes:
        vectors: float32 [n, dimensions], unit length, in the order of the texts.
        variant: the variant that computed them.
        model: the base model's name and revision.
        space_id: its vector space.
        release: digest of the release.
        tokens: of each text as computed: prompt and special tokens included, after truncation.
        truncated: positions of the texts that lost tokens.
        unknown: positions of the texts of which the variant knows no token.
        cached: how many texts were answered from the cache.
        skipped: why variants that were asked for, or come first, did not answer; empty if the first did.
        timings: where the time went.
    """

    vectors: Vectors
    variant: str
    model: str
    space_id: str
    release: str
    tokens: tuple[int, ...]
    truncated: tuple[int, ...] = ()
    unknown: tuple[int, ...] = ()
    cached: int = 0
    skipped: tuple[str, ...] = ()
    timings: Timings = field(default_factory=Timings)
