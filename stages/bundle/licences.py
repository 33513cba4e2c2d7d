"""Whose work a bundle holds, and under which terms it may be handed on."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from stages.bundle.npm import NpmPackage
from stages.common.config import Model

# Sentences that a licence requires word for word.
# Gemma Terms of Use, section 3.1: a "Notice" text file with this line accompanies every distribution.
REQUIRED = {
    "Gemma Terms of Use": (
        "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms\n"
    )
}
# A licence's name -> its id on the Hugging Face hub; all others are "other" there, with name and link.
HUB = {"Apache-2.0": "apache-2.0", "MIT": "mit", "Gemma Terms of Use": "gemma"}


def write(work: Path, model: Model, project: Path, packages: Sequence[NpmPackage] = ()) -> None:
    """Write LICENSE (the runtime's, and the text of Apache-2.0 for models under it) and NOTICE.

    Args:
        work: the bundle.
        model: the base model's configuration.
        project: the repository root.
        packages: those of npm in browser/packages.
    """
    shutil.copyfile(project / "LICENSE", work / "LICENSE")
    included = model.license.name == "Apache-2.0"
    text = "in LICENSE" if included else f"at {model.license.url}, which you must pass on with this bundle"
    (work / "NOTICE").write_text(
        f"The variants in this bundle are derived from {model.repo} at revision {model.revision},\n"
        f"licensed under {model.license.name} ({model.license.url}); its text is {text}.\n"
        "They are modified: converted and, where their variant.json says so, quantised or distilled.\n"
        f"{REQUIRED.get(model.license.name, '')}"
        "The runtime in runtime/ is under Apache-2.0 (LICENSE).\n"
        + "".join(
            f"browser/packages/{package.folder} holds files of {package.name} {package.version}, under "
            f"{package.license}; its terms are beside them.\n"
            for package in packages
        ),
        encoding="utf-8",
    )
