"""Reading a base model once, as sentence-transformers runs it: on the CPU, from local files, without its own code."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from embed_foundry.errors import InputError
from embed_foundry.system_errors import retryable_error
from pydantic import JsonValue

from stages.common.sources.base_model.layout import find_transformer, read_modules
from stages.common.sources.base_model.loaded import Head, LoadedModel, PoolingSettings, Vocabulary, Weights, shorten
from stages.common.sources.base_model.positions import measure_limit
from stages.common.sources.base_model.quiet import silence_libraries
from stages.common.sources.base_model.weights import read_weights
from stages.common.sources.intake import list_named_classes, read_json

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

# Keys of the transformer's sentence-transformers configuration that have a field of their own, or no effect on vectors.
KNOWN_SETTINGS = {
    "do_lower_case",
    "max_seq_length",
    "modality_config",
    "module_output_name",
    "transformer_task",
    "unpad_inputs",
}
# transformers' way to say that a tokenizer knows no limit is a number like 10^30.
MOST_TOKENS = 10**9
# bf16 rounds a norm of one by up to 0.4 %.
NORM_TOLERANCE = 0.01
PROBE = "A short text."
# Characters that are shown of a library's error.
LONGEST = 300
NEXT = "Repair its files so that SentenceTransformer(FOLDER).encode works, or choose another model."


def load_model(folder: Path, **settings: Any) -> "SentenceTransformer":  # noqa: ANN401 - sentence-transformers' own
    """Load a model from a folder without its own code; `settings` go to SentenceTransformer.

    Raises:
        InputError: sentence-transformers cannot load it.
    """
    from sentence_transformers import SentenceTransformer

    try:
        model = SentenceTransformer(
            str(folder), **{"device": "cpu", **settings}, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # whatever one of some hundred architectures raises
        raise retryable_error(error, folder) or InputError(
            f"sentence-transformers cannot load it ({_summarise(error)}). {NEXT}"
        ) from None
    return model.eval()


def read_model(
    folder: Path,
    load: "Callable[[Path], SentenceTransformer]" = load_model,
    compare_weights: "Callable[[SentenceTransformer, Path], Weights]" = read_weights,
) -> LoadedModel:
    """Load a model and return what it is.

    Args:
        folder: a SentenceTransformer folder whose files are checked: they are data only, and complete.
        load: loads it.
        compare_weights: says what its weights are beside those in its files.

    Raises:
        InputError: sentence-transformers cannot load or run it, or it has no vector of a plain text that a conversion
            can reproduce; the message does not name the model.
    """
    with silence_libraries():
        model = load(folder)
        modalities = _read_modalities(model)
        vocabulary = _read_vocabulary(model)
        try:
            weights = compare_weights(model, folder)
            vector = _encode(model)
            limit = measure_limit(model[0])
        except (IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(
                f"sentence-transformers loads it, but cannot run it ({_summarise(error)}). {NEXT}"
            ) from None
    transformer, tokenizer = model[0], model[0].tokenizer
    length = tokenizer.model_max_length
    return LoadedModel(
        architecture=transformer.config.model_type,
        transformer=type(transformer.auto_model).__name__,
        modules=tuple(module.kind for module in read_modules(folder)),
        pooling=_read_pooling(model),
        heads=tuple(_read_heads(model)),
        dimensions=vector.shape[0],
        unit_norm=abs(float(vector.norm()) - 1) < NORM_TOLERANCE,
        similarity=str(model.similarity_fn_name),
        prompts={name: text for name, text in model.prompts.items() if text},
        default_prompt=model.default_prompt_name,
        truncate_dim=model.truncate_dim,
        limit=limit,
        max_seq_length=length if length is not None and length < MOST_TOKENS else None,
        truncation_side=tokenizer.truncation_side,
        padding_side=tokenizer.padding_side,
        lower_case=bool(transformer.do_lower_case),
        modalities=modalities,
        chat_template=bool(tokenizer.chat_template),
        vocabulary=vocabulary,
        weights=weights,
        code=_read_ignored_code(folder),
        settings=_read_settings(model, folder),
    )


def _read_modalities(model: "SentenceTransformer") -> tuple[str, ...]:
    names = tuple(name if isinstance(name, str) else "+".join(name) for name in model[0].modality_config)
    if "message" in names:
        raise InputError(
            'every text goes through its chat template (modality "message"), expected plain texts: variants have no '
            "chat template. If it was trained on plain texts, set modality_config in sentence_bert_config.json to "
            '{"text": {"method": "forward", "method_output_name": "last_hidden_state"}}; or choose another model.'
        )
    if "text" not in names:
        raise InputError(f"it takes {', '.join(names)}, expected text. Choose another model.")
    return names


def _read_vocabulary(model: "SentenceTransformer") -> Vocabulary:
    tokenizer = model[0].tokenizer
    if not tokenizer.is_fast:
        raise InputError(
            f"its tokenizer {type(tokenizer).__name__} is written in Python, expected one of the tokenizers library, "
            "which every variant runs. Save the model with a fast tokenizer (tokenizer.json), or choose another one."
        )
    rows = model[0].auto_model.get_input_embeddings().weight.shape[0]
    beyond = sorted((number, token) for token, number in tokenizer.get_vocab().items() if number >= rows)
    special = tokenizer("")["input_ids"]
    added = tokenizer.get_added_vocab()
    ordinary = [token for number, token in beyond if token not in added or number in special]
    if ordinary:
        raise InputError(
            f"its tokenizer has {len(tokenizer):,} tokens, its table of token vectors {rows:,} rows: none for "
            f"{shorten(tuple(map(repr, ordinary)))}. Take the tokenizer that the model was trained with."
        )
    return Vocabulary(
        tokenizer=type(tokenizer).__name__,
        tokens=len(tokenizer),
        rows=rows,
        without_row=tuple(token for _, token in beyond),
        special=len(special),
    )


def _encode(model: "SentenceTransformer") -> torch.Tensor:
    """Return a short text's vector: [dimensions]."""
    with torch.inference_mode():
        features = model(model.preprocess([PROBE]))
    if "sentence_embedding" not in features:
        raise InputError(
            f"its modules ({', '.join(type(module).__name__ for module in model)}) give one vector a token, expected "
            "one a text. Add a Pooling module, and save the model again."
        )
    vector: torch.Tensor = features["sentence_embedding"][0].float()
    if not torch.isfinite(vector).all():
        raise InputError(
            f"its vector of {PROBE!r} is not finite in {model.dtype}. Convert its weights to float32, save it again."
        )
    return vector


def _read_pooling(model: "SentenceTransformer") -> PoolingSettings | None:
    for module in model:
        if type(module).__name__ == "Pooling":
            modes = (module.pooling_mode,) if isinstance(module.pooling_mode, str) else tuple(module.pooling_mode)
            return PoolingSettings(modes=modes, include_prompt=module.include_prompt)
    return None


def _read_heads(model: "SentenceTransformer") -> Iterator[Head]:
    for module in model:
        if type(module).__name__ == "Dense":
            yield Head(
                inputs=module.in_features,
                outputs=module.out_features,
                activation=type(module.activation_function).__name__,
                bias=module.bias,
                residual=module.use_residual,
            )


def _read_ignored_code(folder: Path) -> tuple[str, ...]:
    """Return the classes that configurations name as code; intake let them pass because transformers has them, too."""
    transformer = find_transformer(folder)
    configs = [path for path in (transformer / "config.json", transformer / "tokenizer_config.json") if path.is_file()]
    return tuple(sorted({name for path in configs for name in list_named_classes(read_json(path))}))


def _read_settings(model: "SentenceTransformer", folder: Path) -> dict[str, JsonValue]:
    path = read_modules(folder)[0].path
    settings: dict[str, Any] = type(model[0]).load_config(str(folder), subfolder=path, local_files_only=True)
    return {name: value for name, value in sorted(settings.items()) if value and name not in KNOWN_SETTINGS}


def _summarise(error: Exception) -> str:
    """Return the first sentence of a library's error, which may have many lines."""
    sentence = re.split(r"(?<=[.!?]) ", " ".join(str(error).split()))[0]
    return f"{type(error).__name__}: {sentence[:LONGEST]}"
