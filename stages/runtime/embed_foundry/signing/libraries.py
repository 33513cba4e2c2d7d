"""The signing libraries: missing ones are named, and what they raise becomes this package's errors."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError, IntegrityError, one_line

if TYPE_CHECKING:
    from ..signer import Signer

# The parts of model-signing's messages that name files; the rest is digests, shown as Python's repr of bytes.
MISMATCH = re.compile(r"Hash mismatch for [^:]*|(?:Extra|Missing) files [^\"\]]*")


@contextmanager
def require_libraries() -> Iterator[None]:
    """Turn a missing library into an InputError that says what to install."""
    try:
        yield
    except ImportError as error:
        raise InputError(
            f"signatures need libraries that are missing ({error}). Next: pip install 'embed_foundry[verify]'"
        ) from None


@contextmanager
def translate_errors(path: Path, signer: "Signer") -> Iterator[None]:
    """Turn whatever the signing libraries raise into an IntegrityError: their errors have no common base."""
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        mismatches = [part.replace("\\", "") for part in MISMATCH.findall(str(error))]
        reason = "; ".join(mismatches) or one_line(error) or type(error).__name__
        raise IntegrityError(
            f"{path}: not a valid signature by {signer} ({reason}). Do not use this bundle; {signer.advice}"
        ) from None
