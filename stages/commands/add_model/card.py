"""What a model's card (README.md) says: licence, languages, and the lengths that Matryoshka training used."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from stages.common.config import License

# The hub's ids of licences -> SPDX id, or name, and where the text is. https://huggingface.co/docs/hub/repositories-licenses
LICENSES = {
    "agpl-3.0": ("AGPL-3.0-only", "https://www.gnu.org/licenses/agpl-3.0.html"),
    "apache-2.0": ("Apache-2.0", "https://www.apache.org/licenses/LICENSE-2.0"),
    "bsd-3-clause": ("BSD-3-Clause", "https://opensource.org/license/bsd-3-clause"),
    "cc-by-4.0": ("CC-BY-4.0", "https://creativecommons.org/licenses/by/4.0/legalcode"),
    "cc-by-nc-4.0": ("CC-BY-NC-4.0", "https://creativecommons.org/licenses/by-nc/4.0/legalcode"),
    "cc-by-nc-sa-4.0": ("CC-BY-NC-SA-4.0", "https://creativecommons.org/licenses/by-nc-sa/4.0/legalcode"),
    "cc-by-sa-4.0": ("CC-BY-SA-4.0", "https://creativecommons.org/licenses/by-sa/4.0/legalcode"),
    "cc0-1.0": ("CC0-1.0", "https://creativecommons.org/publicdomain/zero/1.0/legalcode"),
    "gemma": ("Gemma Terms of Use", "https://ai.google.dev/gemma/terms"),
    "gpl-3.0": ("GPL-3.0-only", "https://www.gnu.org/licenses/gpl-3.0.html"),
    "mit": ("MIT", "https://opensource.org/license/mit"),
}
# The word that the rest of the build knows for a licence that nobody names.
UNKNOWN = "not specified"
# sentence-transformers writes a trained model's losses into its card as JSON, among it the lengths.
LENGTHS = re.compile(r'"matryoshka_dims":\s*(\[[\d,\s]*\])')


@dataclass(frozen=True)
class Card:
    """What a card says.

    Attributes:
        license_id: the hub's id of its licence, in lower case; "" if it names none.
        license_name, license_link: what it says of a licence that the hub has no id for.
        languages: codes of the languages it was trained for.
        lengths: of vectors that it was trained for; [] if it names none.
    """

    license_id: str = ""
    license_name: str = ""
    license_link: str = ""
    languages: list[str] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)

    def license(self, page: str | None, *, gated: bool) -> License:
        """Return the licence.

        Args:
            page: the model's, for a licence whose text has no other address; None if it has none.
            gated: whether the hub asks users to accept it.
        """
        key, link = self.license_id, self.license_link
        name, url = LICENSES.get(key, (self.license_name or key or UNKNOWN, page or UNKNOWN))
        if key not in LICENSES and "://" in link:
            url = link
        elif key not in LICENSES and link and page:
            url = f"{page}/blob/main/{link}"
        return License(name=UNKNOWN if name == "other" else name, url=url, gated=gated)


def read_card(path: Path | None) -> Card:
    """Return what a card says; a card that does not parse says nothing."""
    if path is None:
        return Card()
    from huggingface_hub import RepoCard

    try:
        text = path.read_text(encoding="utf-8")
        card = RepoCard(text, ignore_metadata_errors=True)
    except Exception:
        return Card()
    metadata = card.data.to_dict()
    languages = metadata.get("language") or []
    lengths = LENGTHS.search(card.text)
    return Card(
        license_id=str(metadata.get("license") or "").lower(),
        license_name=str(metadata.get("license_name") or ""),
        license_link=str(metadata.get("license_link") or ""),
        languages=[str(code) for code in (languages if isinstance(languages, list) else [languages])],
        lengths=[int(length) for length in json.loads(lengths[1])] if lengths else [],
    )
