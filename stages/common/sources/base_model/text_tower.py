"""The text tower of a multimodal checkpoint, as a SentenceTransformer folder of its own.

transformers writes a multimodal model as one configuration that nests each tower's, and one set of weights whose names
begin with the tower's. A text needs the text tower only: the others are dropped when the model is downloaded, and
everything after that sees a plain model of the tower's own architecture.
"""

from dataclasses import dataclass
from pathlib import Path

from embed_foundry import manifest
from embed_foundry.errors import InputError, IntegrityError

from stages.common.sources.base_model.layout import INDEX, WEIGHTS, find_transformer, list_weights
from stages.common.sources.intake import JsonObject, read_object

CONFIG = "config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"


@dataclass(frozen=True)
class Tower:
    """The text tower of one multimodal architecture.

    Attributes:
        architecture: transformers' class of the tower alone.
        prefix: of its weights' names, after "model." in checkpoints that have a head.
    """

    architecture: str
    prefix: str


# model_type of the multimodal configuration -> its text tower
TOWERS = {"embedding_gemma2": Tower("EmbeddingGemma2TextModel", "language_model.")}
# Files about images, audio and video, which would make sentence-transformers load a processor for them.
PROCESSORS = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")


def take_text_tower(folder: Path) -> bool:
    """Make a multimodal model's folder its text tower's, in place; the same bytes give the same bytes.

    Args:
        folder: a SentenceTransformer folder whose files are checked: they are data only.

    Returns:
        Whether it was a multimodal model of TOWERS; other folders stay as they are.

    Raises:
        IntegrityError: it has no configuration, or no weights, of a text tower.
        InputError: its texts go through a chat template, so the tower alone would read other tokens.
    """
    if not (folder / "modules.json").is_file():
        return False  # the check of the files says what is missing
    transformer = find_transformer(folder)
    config = read_object(transformer / CONFIG)
    tower = TOWERS.get(str(config.get("model_type")))
    if tower is None:
        return False
    text = config.get("text_config")
    if not isinstance(text, dict):
        raise IntegrityError(f"{transformer / CONFIG}: has no text_config, which {config['model_type']} nests.")
    dtype = {key: config[key] for key in ("dtype", "torch_dtype") if key in config}
    _write(transformer / CONFIG, dtype | text | {"architectures": [tower.architecture]})
    _keep_text_modality(transformer)
    _take_weights(transformer, tower.prefix)
    for name in PROCESSORS:
        (transformer / name).unlink(missing_ok=True)
    path = transformer / TOKENIZER_CONFIG
    if path.is_file():
        _write(path, {key: value for key, value in read_object(path).items() if key != "processor_class"})
    return True


def _keep_text_modality(transformer: Path) -> None:
    """Leave "text" only in what sentence-transformers records of the modalities."""
    for path in sorted(transformer.glob("sentence_*_config.json")):
        settings = read_object(path)
        modalities = settings.get("modality_config")
        if not isinstance(modalities, dict):
            continue
        if "message" in modalities:
            raise InputError(
                f"{path}: has the modality message, so sentence-transformers puts every text through a chat template; "
                'variants encode plain texts. If plain texts are right, take "message" out of modality_config in a '
                "copy (model.source=folder)."
            )
        _write(path, settings | {"modality_config": {"text": modalities["text"]} if "text" in modalities else None})


def _take_weights(transformer: Path, prefix: str) -> None:
    """Write the tower's weights, in the order of their names, as one file in place of the model's."""
    from safetensors import safe_open
    from safetensors.torch import save_file

    shards = list_weights(transformer)
    tensors = {}
    for shard in shards:
        if not (transformer / shard).is_file():
            return  # the check of the files says what is missing
        with safe_open(transformer / shard, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - not a dictionary
                own = name.removeprefix("model.")
                if own.startswith(prefix):
                    tensors[own.removeprefix(prefix)] = file.get_tensor(name)
    if not tensors:
        raise IntegrityError(f"{transformer}: no weight's name begins with {prefix}, as those of the text tower do.")
    for shard in shards:
        (transformer / shard).unlink()
    (transformer / INDEX).unlink(missing_ok=True)
    save_file(dict(sorted(tensors.items())), transformer / WEIGHTS, {"format": "pt"})
    (transformer / WEIGHTS).chmod(0o644)


def _write(path: Path, value: JsonObject) -> None:
    path.write_bytes(manifest.canonical(value))
