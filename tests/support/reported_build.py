"""A build with its report: the real catalog, latency figures and gate, made of small synthetic measurements."""

import random
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

from embed_foundry import Variant, manifest
from embed_foundry.timing.rounds import Sample

from stages import catalog, gate, report
from stages.common.config import Limits, Target
from stages.common.contract.output import stage_output
from stages.common.records.catalog import load_catalogued_variants
from stages.latency import figures
from support import small_release
from support.gate_facts import HOST, MACHINE, latency_report

LENGTHS, BATCH = (8, 128), (32, 128)
SPEED = {"fp32": 1.0, "bf16": 1.4, "onnx_fp32": 1.5, "onnx_int8": 2.5, "static": 40.0}
KEPT = {"fp32": 1.0, "bf16": 0.999, "onnx_fp32": 1.0, "onnx_int8": 0.98, "static": 0.7}
TASKS = {
    "Operations": ("Retrieval", "ndcg_at_10", 0.64, ()),
    "Messages": ("BitextMining", "f1", 0.4, ("de", "fr")),
    "Words": ("STS", "cosine_spearman", 0.72, ()),
}
PAIR = {"ndcg_at_10": 0.61, "recall_at_10": 0.7, "overlap_at_10": 0.93}
LOST = PAIR | {"ndcg_at_10": 0.21}
MIXED = {
    "fp32": {"fp32": PAIR | {"ndcg_at_10": 0.64}, "onnx_int8": PAIR, "bf16": LOST},
    "onnx_int8": {"fp32": PAIR, "onnx_int8": PAIR},
    "bf16": {"fp32": PAIR},
}


@dataclass
class Build:
    """Folders of one build, and the faults to put into it before `judge`."""

    root: Path
    params: object
    limits: dict[str, Limits] = field(default_factory=dict)
    errors: dict[str, tuple[str, str]] = field(default_factory=dict)
    tasks: dict[str, tuple] = field(default_factory=lambda: dict(TASKS))
    rounds: int = 60
    worst_text: str = "the worst text"
    others_cpus: float = 0.02
    crowded: bool = False
    shorter: dict[str, dict] = field(default_factory=dict)

    def judge(self) -> "Build":
        """Write what the stages up to the gate would have written, run the gate, and return self."""
        for name in SPEED:
            self._variant(name)
        self._measured("quality", "scores.json", {name: self._scores(name) for name in SPEED})
        self._measured("latency", "latency.json", self._latency())
        kinds = {name: Variant.load(self.root / "variants" / name).kind for name in SPEED}
        catalog.run(kinds, self.root / "variants", self.root / "catalog")
        gate.run(
            self.target,
            small_release.GATE,
            "fp32",
            *(self.root / name for name in ("catalog", "variants", "quality", "latency", "gate")),
        )
        return self

    @property
    def target(self) -> Target:
        """The default target with three candidates and these limits."""
        values = self.params.target.model_dump() | {"candidates": ["onnx_int8", "onnx_fp32", "static"], "required": 1}
        limits = {name: limits.model_dump() for name, limits in self.limits.items()}
        return Target.model_validate(values | {"limits": limits})

    def report(self, out: str = "report") -> str:
        """Run the report stage and return its table."""
        variants = load_catalogued_variants(self.root / "catalog", self.root / "variants")
        folders = (self.root / name for name in ("quality", "latency", "gate", out))
        return report.run(self.params.model, self.target.name, variants, *folders)

    @property
    def page(self) -> str:
        """The written page."""
        return (self.root / "report" / report.PAGE).read_text(encoding="utf-8")

    def _error(self, name: str, part: str) -> dict[str, str] | None:
        failed = self.errors.get(name)
        return {"error": failed[1]} if failed and failed[0] == part else None

    def _variant(self, name: str) -> None:
        torch, static = name in ("fp32", "bf16"), name == "static"
        parity = {"texts": 50, "similarity_spearman": 0.51, "batch_shift_max": 0.0}
        parity |= {"batch_rank_changes": 0, "median_cosine": 0.2}
        if not static:
            parity |= {"cosine_min": KEPT[name], "cosine_mean": KEPT[name], "worst_text": self.worst_text}
        variant = Variant(
            name=name,
            kind="torch" if torch else "static" if static else "onnx",
            precision="fp32",
            model="repo@revision",
            space_id=name,
            dimensions=256 if static else 384,
            matryoshka=(256, 128) if static else (384, 256, 128),
            max_tokens=256,
            prompts={},
            files={},
            parity=self._error(name, "parity") or parity,
        )
        with stage_output(self.root / "variants" / name, stage=f"convert@{name}", parameters={}, inputs={}) as work:
            (work / "variant.json").write_bytes(manifest.canonical(variant.to_json()))
            (work / "weights").write_bytes(bytes(100_000))

    def _scores(self, name: str) -> dict:
        dimensions = {384: 1.0, 256: 0.98, 128: 0.9}
        return self._error(name, "quality") or {
            str(dimension): {
                task: {"type": kind, "metric": metric, "main_score": round(full * KEPT[name] * cut, 6), "samples": 300}
                | ({"subsets": dict.fromkeys(subsets, 0.25)} if subsets else {})
                for task, (kind, metric, full, subsets) in self.tasks.items()
            }
            for dimension, cut in dimensions.items()
            if (name, dimension) != ("static", 384)
        }

    def _samples(self, scores: dict) -> dict:
        """Return values whose means are the scores, spread alike for all variants."""
        return {
            dimension: {
                task: {"default": {"value": [score["main_score"] * (0.9 + 0.2 * index / 299) for index in range(300)]}}
                for task, score in tasks.items()
            }
            for dimension, tasks in scores.items()
        }

    def _latency(self) -> dict:
        noise = random.Random(0)
        calls = figures.group_by_variant(
            Sample(name, tokens, batch, number, ms, ms * 1.2 if batch == 1 else None)
            for number in range(self.rounds)
            for name in SPEED
            for tokens, batch in [*((tokens, 1) for tokens in LENGTHS), (BATCH[1], BATCH[0])]
            for ms in [batch * tokens * noise.uniform(0.99, 1.1) / 8 / SPEED[name]]
        )
        variants = {
            name: self._error(name, "latency")
            or {
                "lengths": {
                    str(tokens): length.model_dump()
                    for tokens, length in figures.summarize_lengths(calls[name], calls["fp32"]).items()
                },
                "batch": figures.summarize_batch(calls[name], calls["fp32"], BATCH[1], BATCH[0]).model_dump(),
                "cold_start_s": {"median": 0.5, "values": [0.4, 0.5, 0.6]},
                "peak_rss_mb": 300.0,
            }
            for name in SPEED
        }
        return latency_report(
            variants,
            budget_s=300,
            series=[{"tokens": 32, "batch": 1, "rounds": 60, "seconds": 9.4, "periods": {"fp32": 2}}],
            peak_gops={"fp32": 100.0, "int8": 400.0},
            operations={str(tokens): tokens * 10**7 for tokens in LENGTHS},  # ms of fp32 are tokens / 8: 80 Gop/s
            machine=MACHINE,
            host=HOST | {"others_cpus": self.others_cpus, "crowded": self.crowded},
        )

    def _measured(self, stage: str, name: str, content: dict) -> None:
        inputs = {f"variants/{name}": self.root / "variants" / name for name in SPEED}
        with stage_output(self.root / stage, stage=stage, parameters={}, inputs=inputs, libraries=("numpy",)) as work:
            (work / name).write_bytes(manifest.canonical(content))
            if stage == "quality":
                (work / "floor.json").write_bytes(manifest.canonical(dict.fromkeys(self.tasks, 0.125)))
                (work / "compatibility.json").write_bytes(manifest.canonical({"Operations": MIXED}))
                (work / "shorter.json").write_bytes(manifest.canonical(self.shorter))
            for variant in SPEED if stage == "quality" else ():
                if "error" not in content[variant]:
                    path = work / "samples" / f"{variant}.json"
                    path.parent.mkdir(exist_ok=True)
                    path.write_bytes(manifest.canonical(self._samples(content[variant])))


class Page(HTMLParser):
    """Rows of cells, all attributes, and the text outside of markup."""

    def __init__(self, text: str):
        super().__init__()
        self.rows, self.links, self.tags, self.text, self.inside = [], [], set(), "", False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href", "action")]
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
            self.inside = True

    def handle_endtag(self, tag):
        self.inside = self.inside and tag not in ("td", "th")

    def handle_data(self, data):
        self.text += data
        if self.inside:
            self.rows[-1][-1] += data.strip()

    def row(self, *cells: str) -> list[str]:
        """Return the one row that holds all these cells."""
        (match,) = [row for row in self.rows if all(cell in row for cell in cells)]
        return match
