"""Bitext mining from Django's human translations of its messages (BSD-3-Clause), English against each language."""

import gettext
import re
from collections import Counter
from pathlib import Path

from embed_foundry.errors import InputError

from stages.common.config.suite import BuiltinSuite
from stages.common.contract.tables import csv_file
from stages.common.records.tasks import TaskRecord

NAME = "DjangoMessagesBitextMining"
# Shorter messages ("Yes", "Delete") are ambiguous; mark-up and placeholders would match by themselves.
WORDS_MIN = 4
NOISE = re.compile(r"[<>&%{}\x04\n]")
# Django locale code -> mteb's language code (ISO 639-3 and script).
LANGUAGES = {
    "ar": "ara-Arab",
    "de": "deu-Latn",
    "es": "spa-Latn",
    "fr": "fra-Latn",
    "it": "ita-Latn",
    "ja": "jpn-Jpan",
    "ko": "kor-Hang",
    "nl": "nld-Latn",
    "pl": "pol-Latn",
    "pt": "por-Latn",
    "ru": "rus-Cyrl",
    "tr": "tur-Latn",
    "uk": "ukr-Cyrl",
    "zh_Hans": "zho-Hans",
}


def write(suite: BuiltinSuite, work: Path) -> list[TaskRecord]:
    """Write one folder a language with English and translated messages.

    Raises:
        InputError: a language is not known here.
    """
    if unknown := sorted(set(suite.languages) - set(LANGUAGES)):
        raise InputError(f"suite: languages {unknown} are unknown; there are {sorted(LANGUAGES)}.")
    for code in suite.languages:
        csv_file(work / NAME / f"en-{code}" / "test.csv", ("sentence1", "sentence2"), sorted(_messages(code).items()))
    return [
        TaskRecord(
            name=NAME,
            type="BitextMining",
            description="Django's messages: find each English message's translation.",
            main_score="f1",
            languages={f"en-{code}": ["eng-Latn", LANGUAGES[code]] for code in suite.languages},
            license="bsd-3-clause",
            reference="https://www.djangoproject.com",
            package="django",
        )
    ]


def _messages(code: str) -> dict[str, str]:
    """Return English message -> translation over all of Django's catalogs."""
    import django

    found: dict[str, str] = {}
    for path in sorted(Path(django.__file__).parent.glob(f"**/locale/{code}/LC_MESSAGES/*.mo")):
        with path.open("rb") as file:
            catalog = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]  # no public listing
        for english, translated in sorted((key, value) for key, value in catalog.items() if isinstance(key, str)):
            clean = not NOISE.search(english) and not NOISE.search(translated)
            if clean and len(english.split()) >= WORDS_MIN and translated not in ("", english):
                found.setdefault(english, translated)
    seen = Counter(found.values())
    return {english: text for english, text in found.items() if seen[text] == 1}
