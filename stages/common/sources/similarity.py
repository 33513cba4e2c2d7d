"""Graded similarity, read from gensim's installed test data: word pairs and short news documents judged by people."""

from itertools import combinations
from pathlib import Path

WORDS, NEWS = "WordSim353STS", "LeeDocumentsSTS"


def load_pairs() -> dict[str, list[tuple[str, str, str]]]:
    """Return task name -> (text, text, score as the source writes it).

    WordSim353 (Finkelstein et al. 2002) has 353 pairs scored 0 to 10; all 1,225 pairs of the 50 Lee documents (Lee,
    Pincombe & Welsh 2005) are scored 0 to 1.
    """
    import gensim

    source = Path(gensim.__file__).parent / "test" / "test_data"
    lines = (source / "wordsim353.tsv").read_text(encoding="utf-8").splitlines()
    words = [line.split("\t") for line in lines if not line.startswith("#")]
    documents = [line for line in (source / "lee.cor").read_text(encoding="latin-1").splitlines() if line.strip()]
    scores = [line.split() for line in (source / "similarities0-1.txt").read_text(encoding="ascii").splitlines()]
    return {
        WORDS: [(left, right, score) for left, right, score in words],
        NEWS: [(documents[a], documents[b], scores[a][b]) for a, b in combinations(range(len(documents)), 2)],
    }
