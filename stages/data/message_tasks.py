"""Bitext mining from Django's human translations of its messages (BSD-3-Clause), English against each language."""

import gettext
import re
from collections import Counter
from pathlib import Path

from embed_foundry.errors import InputError

from stages.common.config.suite import BuiltinSuite
from stages.common.records.tasks import TaskRecord
from stages.common.sources.suite_files import BUILTIN_LAYOUTS, TaskFiles

NAME = "DjangoMessagesBitextMining"
# Shorter messages ("Yes", "Delete") are ambiguous; mark-up and placeholders match across languages by themselves.
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


def write_tasks(suite: BuiltinSuite, work: Path) -> list[TaskRecord]:
    """Write English and translated messages, one folder per language, and return the task's record.

    Raises:
        InputError: a language has no code in LANGUAGES.
    """
    if unknown := sorted(set(suite.languages) - set(LANGUAGES)):
        raise InputError(f"suite: languages {unknown} are unknown. Choose from {sorted(LANGUAGES)}.")
    files = TaskFiles(work / NAME, BUILTIN_LAYOUTS["BitextMining"])
    for code in suite.languages:
        pairs = sorted(_load_messages(code).items())
        files.write(
            f"en-{code}", "test", [{"sentence1": english, "sentence2": translated} for english, translated in pairs]
        )
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


def _load_messages(code: str) -> dict[str, str]:
    """Return English message -> translation over all of Django's catalogs, without translations of two messages."""
    import django

    translations: dict[str, str] = {}
    for path in sorted(Path(django.__file__).parent.glob(f"**/locale/{code}/LC_MESSAGES/*.mo")):
        with path.open("rb") as file:
            catalog = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]  # no public listing
        for english, translated in sorted((key, value) for key, value in catalog.items() if isinstance(key, str)):
            clean = not NOISE.search(english) and not NOISE.search(translated)
            if clean and len(english.split()) >= WORDS_MIN and translated not in ("", english):
                translations.setdefault(english, translated)
    occurrences = Counter(translations.values())
    return {english: text for english, text in translations.items() if occurrences[text] == 1}
