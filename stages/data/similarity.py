"""Graded similarity, read from gensim's installed test data: word pairs and short news documents judged by people."""

from itertools import combinations
from pathlib import Path

from stages.data import Record
from stages.data.tables import csv_file

WORDS, NEWS = "WordSim353STS", "LeeDocumentsSTS"


def write(work: Path) -> list[Record]:
    """Write WordSim353 (Finkelstein et al. 2002) and the Lee documents (Lee, Pincombe & Welsh 2005)."""
    import gensim

    source = Path(gensim.__file__).parent / "test" / "test_data"
    lines = (source / "wordsim353.tsv").read_text(encoding="utf-8").splitlines()
    words = [line.split("\t") for line in lines if not line.startswith("#")]
    csv_file(work / WORDS / "test.csv", ("sentence1", "sentence2", "score"), words)
    documents = [line for line in (source / "lee.cor").read_text(encoding="latin-1").splitlines() if line.strip()]
    judged = [line.split() for line in (source / "similarities0-1.txt").read_text(encoding="ascii").splitlines()]
    pairs = [(documents[a], documents[b], judged[a][b]) for a, b in combinations(range(len(documents)), 2)]
    csv_file(work / NEWS / "test.csv", ("sentence1", "sentence2", "score"), pairs)
    return [
        _record(WORDS, "353 word pairs.", "https://aclanthology.org/N09-1003"),
        _record(NEWS, "1,225 pairs of 50 news documents.", "https://escholarship.org/uc/item/48g155nq"),
    ]


def _record(name: str, description: str, reference: str) -> Record:
    return Record(
        name=name,
        type="STS",
        description=f"Similarity as people judged it: {description}",
        main_score="cosine_spearman",
        languages={"default": ["eng-Latn"]},
        license="not specified",
        reference=reference,
        package="gensim",
    )
