"""The command itself: read a model, describe it, and write the description if conf/ composes with it."""

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import yaml
from embed_foundry.errors import InputError, IntegrityError
from embed_foundry.output.folder import replace_file

from stages.commands import compose
from stages.commands.add_model.description import Place, describe
from stages.commands.add_model.names import derive_name, require_name
from stages.commands.add_model.origin import FolderOrigin, HubOrigin, digest_of_pins
from stages.commands.add_model.proposal import Proposal, read_proposal
from stages.common import config
from stages.common.sources.base_model.quiet import silence_libraries
from stages.common.sources.base_model.servable import check_settings
from stages.common.sources.hub import Connection

# The hub whose pages people know, whatever mirror the files come from.
PAGE = "https://huggingface.co"
BRANCH = "main"


@dataclass(frozen=True)
class AddedModel:
    """What the command wrote.

    Attributes:
        path: of the YAML.
        written: False if it was there already, with the same bytes.
        lines: what the model is, for a reader.
        unused_prompts: names of the model's prompts that mteb never asks for.
    """

    path: Path
    written: bool
    lines: list[str]
    unused_prompts: list[str]


def run(
    origin: str,
    revision: str | None = None,
    name: str | None = None,
    conf: Path = compose.CONF,
    connection: Connection | None = None,
) -> AddedModel:
    """Write conf/model/NAME.yaml for a model.

    Args:
        origin: a folder, or the name of a repository of the hub.
        revision: a commit, branch or tag of the repository; None is its main branch.
        name: of the option; None derives it from the origin's.
        conf: the folder of config groups.
        connection: how to reach the hub.

    Raises:
        InputError: the model cannot be converted, the name is taken or unsafe, or this is no clone.
        IntegrityError: the hub sends wrong bytes.
        RemoteError: the hub refuses.
        RetryableError: the hub stays unavailable after bounded retries.
    """
    if not (conf / "model").is_dir():
        raise InputError(f"{conf / 'model'}: missing; run this in the repository root.")
    folder = Path(origin).expanduser()
    chosen = require_name(derive_name(origin) or origin if name is None else name)
    read = _read_folder if folder.is_dir() else _read_repository
    with tempfile.TemporaryDirectory(prefix="add-model-") as stage:
        place, proposal = read(origin, revision, connection or Connection(), Path(stage).resolve())
    text = describe(chosen, place, proposal)
    model = config.Model.model_validate(yaml.safe_load(text))
    with silence_libraries():
        check_settings(proposal.loaded, model)
    path = conf / "model" / f"{chosen}.yaml"
    written = _write(path, text.encode())
    return AddedModel(path, written, proposal.loaded.describe(model), list(proposal.unused_prompts))


def _read_folder(origin: str, revision: str | None, _: Connection, stage: Path) -> tuple[Place, Proposal]:
    folder = Path(origin).expanduser().resolve()
    if revision:
        raise InputError(f"--revision {revision}: a folder has no revisions. Leave it out.")
    try:
        files = FolderOrigin(folder)
    except IntegrityError as error:
        raise InputError(str(error)) from None
    repo = re.sub(r"[^\w.-]+", "-", folder.name, flags=re.ASCII).strip("-") or "model"
    proposal = read_proposal(files, str(folder), None, stage)
    return Place(repo, digest_of_pins(proposal.pins), str(folder)), proposal


def _read_repository(origin: str, revision: str | None, connection: Connection, stage: Path) -> tuple[Place, Proposal]:
    if origin.startswith((".", "/", "~")) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", origin):
        raise InputError(f"{origin}: is neither a folder nor the name of a repository, such as BAAI/bge-small-en-v1.5.")
    files = HubOrigin(origin, revision or BRANCH, connection)
    proposal = read_proposal(files, f"{origin}@{files.commit[:12]}", f"{PAGE}/{origin}", stage)
    return Place(origin, files.commit), proposal


def _write(path: Path, content: bytes) -> bool:
    """Write a new option if conf/ composes with it; return whether it was new.

    Raises:
        InputError: another option has the name, or it does not compose.
    """
    if path.exists():
        if path.read_bytes() == content:
            return False
        raise InputError(
            f"{path}: is there already and says something else; nothing was written. Choose another name "
            "(--name NAME), or remove the file first."
        )
    with tempfile.TemporaryDirectory(prefix="add-model-") as scratch:
        copy = Path(shutil.copytree(path.parent.parent, Path(scratch, "conf")))
        (copy / "model" / path.name).write_bytes(content)
        compose.compose([f"model={path.stem}"], copy)
    replace_file(path, content)
    return True
