"""What the served release has, as doors list it: names that clients may use, variants, prompts, tokenizers."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ...bundle import Bundle
from ...contract import NAME, REFUSAL, ShippedVariant
from ...encoders.tokenized import load_tokenizer
from ...encoders.variant import Variant
from ...manifest import JsonObject, read_object
from .. import names
from ..answers import server_timing
from ..names import Named
from ..refusals import INVALID_INPUT, RefusalError
from ..requests import AUTO, Timings
from ..service import Service

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class Model:
    """One name that a client may use.

    Attributes:
        name: the name.
        variant: the variant that answers to it first.
        shipped: what the contract says of that variant.
    """

    name: str
    variant: Variant
    shipped: ShippedVariant


@dataclass(frozen=True)
class Catalog:
    """What one release has.

    Attributes:
        service: that serves it.
        bundle: the release.
    """

    service: Service
    bundle: Bundle

    @classmethod
    def of(cls, service: Service) -> "Catalog":
        """Return the catalog of the release that answers now."""
        return cls(service, service.engine.bundle)

    @property
    def created(self) -> float:
        """When the release was written here, in seconds since 1970."""
        return (self.bundle.folder / NAME).stat().st_mtime

    @property
    def license(self) -> str:
        """Name and address of the model's licence."""
        terms = _read_license(self.bundle.folder, self.bundle.digest)
        return f"{terms['name']} ({terms['url']})"

    @property
    def loaded(self) -> tuple[str, ...]:
        """Names of the variants in memory."""
        return self.service.engine.loaded

    def list_models(self) -> list[Model]:
        """Return every name: "auto", the model's own, the variants', the aliases."""
        contract = self.bundle.contract
        listed = dict.fromkeys([AUTO, contract.model, *contract.order, *sorted(self.service.settings.aliases)])
        return [self.find(name) for name in listed]

    def find(self, name: str) -> Model:
        """Return what a name stands for, a prompt after it aside.

        Raises:
            RefusalError: unknown_model.
        """
        order = self.resolve(name).order
        first = order[0] if order else self.bundle.contract.order[0]
        return Model(name, self._read(first), self.bundle.contract.variants[first])

    def resolve(self, name: str) -> Named:
        """Return what a name stands for.

        Raises:
            RefusalError: unknown_model.
        """
        engine = self.service.engine
        return names.resolve(name, self.bundle.contract, engine.environment, engine.settings.aliases, engine.prompts)

    def headers(self, model: Model) -> dict[str, str]:
        """Return the headers of an answer without vectors: those that `answers.answer_headers` always gives."""
        return {
            "X-Space-Id": model.shipped.space_id,
            "X-Variant": model.variant.name,
            "X-Release": self.bundle.digest,
            "Server-Timing": server_timing(Timings()),
        }

    def prompt(self, variant: Variant, name: str | None, param: str) -> str:
        """Return the text that a prompt puts before an input; "" for None.

        Raises:
            RefusalError: the model has no such prompt.
        """
        if name is None:
            return ""
        if name not in variant.prompts:
            known = ", ".join(sorted(variant.prompts)) or "none"
            raise RefusalError(INVALID_INPUT, f"{param} is unknown to {variant.name}; it has: {known}.", param)
        return "" if variant.kind == "static" else variant.prompts[name]

    def tokenizer(self, variant: Variant) -> "Tokenizer":
        """Return a variant's tokenizer.

        Raises:
            RefusalError: it is no tokenizer.json.
        """
        file = variant.files.get("tokenizer")
        if file is None:
            raise RefusalError(
                INVALID_INPUT,
                f"the tokenizer of {variant.name} is no tokenizer.json, and its tokens cannot be listed. "
                "Name another variant.",
                "model",
            )
        return _open_tokenizer(self.bundle.folder / "variants" / variant.name / file, self.bundle.digest)

    def _read(self, name: str) -> Variant:
        return _read_variant(self.bundle.folder / "variants" / name, self.bundle.digest)


@lru_cache(maxsize=2)
def _read_license(folder: Path, _release: str) -> JsonObject:
    terms: JsonObject = read_object(folder / NAME, REFUSAL)["model"]["license"]
    return terms


@lru_cache(maxsize=64)
def _read_variant(folder: Path, _release: str) -> Variant:
    return Variant.load(folder)


@lru_cache(maxsize=1)  # a large one takes hundreds of megabytes
def _open_tokenizer(path: Path, _release: str) -> "Tokenizer":
    return load_tokenizer(path)
