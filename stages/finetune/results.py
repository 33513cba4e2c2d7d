"""What one fine-tuning reports: metrics.json, training.json, speed.json and what the stage prints."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from embed_foundry import manifest


@dataclass(frozen=True)
class RetrievalGain:
    """Mean ndcg@10 over the held-out queries at one dimension.

    Attributes:
        base, merged: of the base model and of the merged one.
        gain: mean of the queries' differences.
        low, high: the gain's 95 % interval.
        queries: how many there are.
    """

    base: float
    merged: float
    gain: float
    low: float
    high: float
    queries: int


@dataclass(frozen=True)
class GradedChange:
    """Spearman's correlation with people's scores in points (100 is perfect), of the base model and the merged one."""

    base: float
    merged: float


@dataclass(frozen=True)
class Evaluation:
    """The merged model compared with the base model.

    Attributes:
        retrieval: dimension -> gain on the held-out split.
        graded: graded similarity task -> change.
    """

    retrieval: dict[str, RetrievalGain]
    graded: dict[str, GradedChange]


@dataclass(frozen=True)
class Metrics(Evaluation):
    """metrics.json.

    Attributes:
        best_step: step of the checkpoint whose weights were taken.
        steps: steps taken.
        parity: least cosine between the base model with its adapter and the merged model.
    """

    best_step: int
    steps: int
    parity: float


@dataclass(frozen=True)
class Speed:
    """speed.json: measured figures of the training, which differ from run to run.

    Attributes:
        seconds: elapsed time.
        cpu_s: CPU time of all processes.
        tokens: tokens trained on.
        tokens_per_s: tokens by elapsed second.
        rss_mb: peak memory of the largest process.
        vram_mb: peak memory of the fullest GPU; None without a GPU, and then absent from the file.
    """

    seconds: float
    cpu_s: float
    tokens: int
    tokens_per_s: float
    rss_mb: float
    vram_mb: float | None = None

    @property
    def figures(self) -> dict[str, float]:
        """Return name -> value of everything that was measured."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class TrainingRecord:
    """training.json.

    Attributes:
        finetune: the settings.
        model: the base model's settings that shape the result.
        base: digest of the base model's manifest.
        examples: split -> number of examples.
        left_out: reason -> number of examples.
        cut: training texts that were truncated.
        parity, best_step, steps: as in `Metrics`.
        words: the notes that the stage prints.
    """

    finetune: Mapping[str, object]
    model: Mapping[str, object]
    base: str
    examples: dict[str, int]
    left_out: dict[str, int]
    cut: int
    parity: float
    best_step: int
    steps: int
    words: list[str]


@dataclass(frozen=True)
class FinetuneReport:
    """What the stage did.

    Attributes:
        metrics: content of metrics.json.
        notes: sentences about the training and its result; those that warn begin with "warning".
        speed: content of speed.json.
    """

    metrics: Metrics
    notes: list[str]
    speed: Speed

    def write(self, folder: Path, record: TrainingRecord) -> None:
        """Write the three JSON files."""
        (folder / "training.json").write_bytes(manifest.canonical(asdict(record)))
        (folder / "metrics.json").write_bytes(manifest.canonical(asdict(self.metrics)))
        (folder / "speed.json").write_bytes(manifest.canonical(self.speed.figures))
