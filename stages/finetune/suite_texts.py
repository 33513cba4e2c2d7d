"""The texts that the suite measures, which must not be trained on."""

from collections.abc import Iterator
from pathlib import Path

from stages.common.sources import aws
from stages.common.sources.sentences import measure_width
from stages.common.sources.suite_files import read_texts
from stages.finetune.triplets import normalize_text

# Searching in all texts is slow, so a text is searched for only if its first words, this many, occur in a row.
START_WORDS = 5


class SuiteTexts:
    """Tells whether a text is one of the suite's texts or, unless it is short, part of one.

    Args:
        suite: data/, the suite's task files.
    """

    def __init__(self, suite: Path) -> None:
        self.texts = {normalize_text(text) for text in read_texts(suite)}
        self.joined = "\n".join(sorted(self.texts))
        self.starts = {start for text in self.texts for start in _word_sequences(text.split())}

    def __contains__(self, text: str) -> bool:
        """Return whether a normalized text is measured."""
        if text in self.texts or measure_width(text) < aws.QUERY_MIN:
            return text in self.texts
        # The last word may be longer in the suite's text.
        words = text.split()[:-1]
        return (len(words) < START_WORDS or tuple(words[:START_WORDS]) in self.starts) and text in self.joined


def _word_sequences(words: list[str]) -> Iterator[tuple[str, ...]]:
    return (tuple(words[index : index + START_WORDS]) for index in range(len(words) - START_WORDS + 1))
