"""promote, rollback, history: a channel's pointer moves by compare and swap."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .. import manifest
from ..errors import GateError, InputError, IntegrityError, RetryableError
from ..spaces.linear_map import LinearMap
from .channel import Action, Channel, append_move
from .releases import load_space, require_complete
from .store import CHANNELS, DIGEST, Store, VersionedBytes, channel_key, is_channel_name


@dataclass(frozen=True)
class ChannelUpdate:
    """A channel before and after a command.

    Attributes:
        before: None for a new channel.
        after: the same object as `before` if nothing moved.
    """

    before: Channel | None
    after: Channel


def promote(
    store: Store,
    name: str,
    release: str,
    *,
    expect: str | None = None,
    reason: str | None = None,
    new_space: bool = False,
    index_map: LinearMap | None = None,
    dry_run: bool = False,
) -> ChannelUpdate:
    """Point a channel at a published release.

    Whoever follows a channel searches an index with it: a release of another vector space would find nothing in it.

    Args:
        store: the store.
        name: the channel; created if it does not exist.
        release: a digest, a release folder (with a slash in its path), or a channel whose current release is meant.
        expect: the digest that the channel must still point at, "none" for a new channel; None accepts any.
        reason: recorded in the history.
        new_space: the release may have another vector space than the channel's.
        index_map: or it may, because this map takes the channel's index there.
        dry_run: check only.

    Raises:
        InputError: the release was not published.
        GateError: it has another vector space.
        IntegrityError: it is incomplete in the store.
        RetryableError: the channel moved, or is not at `expect`; the message says where it is.
    """
    channel_key(name)  # refuses a bad name before the store is asked
    digest = resolve_digest(store, release)
    require_complete(store, digest)
    pointer, before = _read_channel(store, name)
    if expect is not None and (before.release if before else "none") != expect:
        raise RetryableError(
            f"{_describe(store, name, before)}, expected {expect}. Look at its history, then decide again."
        )
    if before and before.release == digest:
        return ChannelUpdate(before, before)
    if before and not new_space:
        _require_space(store, before.release, digest, index_map)
    after = _append_move(before, name, "promote", digest, reason)
    if not dry_run:
        _write_channel(store, pointer, after)
    return ChannelUpdate(before, after)


def rollback(
    store: Store, name: str, *, to: str | None = None, reason: str | None = None, dry_run: bool = False
) -> ChannelUpdate:
    """Point a channel at the release before the current one; called again, at the one before that.

    Args:
        store: the store.
        name: the channel.
        to: the digest of an earlier release; None is the one just before the current.
        reason: recorded in the history.
        dry_run: check only.

    Raises:
        InputError: there is no such channel, or no release to go back to.
        IntegrityError: that release is no longer complete in the store.
        RetryableError: the channel moved meanwhile.
    """
    pointer, before = _read_channel(store, name)
    if before is None:
        raise _unknown_channel(store, name)
    digest = before.choose_earlier(to)
    require_complete(store, digest)
    after = _append_move(before, name, "rollback", digest, reason)
    if not dry_run:
        _write_channel(store, pointer, after)
    return ChannelUpdate(before, after)


def load_channel(store: Store, name: str) -> Channel:
    """Return a channel with all its moves.

    Raises:
        InputError: there is no such channel.
        IntegrityError: its pointer is not readable.
    """
    channel = _read_channel(store, name)[1]
    if channel is None:
        raise _unknown_channel(store, name)
    return channel


def list_channels(store: Store) -> list[str]:
    """Return the names of all channels; other files beside the pointers are ignored."""
    names = [key.removeprefix(CHANNELS).removesuffix(".json") for key in store.list_keys(CHANNELS)]
    return [name for name in names if is_channel_name(name)]


def resolve_digest(store: Store, release: str) -> str:
    """Return the digest of a release given as a digest, a release folder (with a slash), or a channel's name.

    Raises:
        InputError: there is no such channel.
        IntegrityError: the folder is not a release.
    """
    if DIGEST.fullmatch(release):
        return release
    return manifest.read(Path(release)).digest if "/" in release else load_channel(store, release).release


def _require_space(store: Store, before: str, after: str, index_map: LinearMap | None) -> None:
    """Check that a release may search the index of the one before it, by itself or by a map."""
    source, target = load_space(store, before), load_space(store, after)
    if source is not None and source == target:
        return
    if index_map is None:
        raise GateError(
            f"release {after} has vector space {target}, the channel's {before} has {source}: it would search an index "
            "of other vectors. Next: embed-foundry compare says whether a map will do (--map); once all documents are "
            "embedded again, promote with --new-space."
        )
    if (index_map.source.space_id, index_map.target.release) != (source, after):
        raise GateError(
            f"the map is from space {index_map.source.space_id} to release {index_map.target.release}; expected one "
            f"from {source} to {after}. Make it: embed-foundry compare {before} {after} --write-map FOLDER"
        )


def _read_channel(store: Store, name: str) -> tuple[VersionedBytes | None, Channel | None]:
    key = channel_key(name)
    pointer = store.read(key)
    return pointer, Channel.parse(pointer.data, f"{store.address}/{key}") if pointer else None


def _append_move(before: Channel | None, name: str, action: Action, digest: str, reason: str | None) -> Channel:
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    one_line = " ".join((reason or "").split()) or None  # the history shows one line a move
    return append_move(before, name, action, digest, now, uuid.uuid4().hex, one_line)


def _write_channel(store: Store, pointer: VersionedBytes | None, channel: Channel) -> None:
    """Replace a channel's pointer and read it back."""
    key = channel_key(channel.name)
    if not store.compare_and_swap(key, channel.dump(), pointer.version if pointer else None):
        current = _read_channel(store, channel.name)[1]
        raise RetryableError(
            f"{_describe(store, channel.name, current)}: another move came first and this one was not written. "
            "Look at its history, then decide again."
        )
    written = _read_channel(store, channel.name)[1]
    if written is None or written.moves[: len(channel.moves)] != channel.moves:
        raise IntegrityError(
            f"{store.address}/{key}: does not hold the move just written. Check it with embed-foundry history."
        )


def _describe(store: Store, name: str, channel: Channel | None) -> str:
    if channel is None:
        return f"{store.address}: channel {name} does not exist"
    last = channel.moves[-1]
    return f"{store.address}: channel {name} is at {channel.release} (move {last.number}, {last.action}, {last.at})"


def _unknown_channel(store: Store, name: str) -> InputError:
    channels = ", ".join(list_channels(store)) or "none yet"
    return InputError(f"{store.address}: no channel {name}; its channels: {channels}.")
