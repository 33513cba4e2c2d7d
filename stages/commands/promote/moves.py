"""promote, rollback, history: moves of a channel's pointer by compare and swap."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from embed_foundry import InputError, IntegrityError, RetryableError, manifest

from stages.commands.promote.channel import Channel, moved
from stages.commands.promote.releases import require_whole
from stages.commands.promote.store import CHANNELS, DIGEST, Document, Store, channel_key


@dataclass(frozen=True)
class Change:
    """A channel before and after a move; `before` is None for a new channel, equal to `after` if nothing moved."""

    before: Channel | None
    after: Channel


def promote(
    store: Store,
    name: str,
    release: str,
    *,
    expect: str | None = None,
    reason: str | None = None,
    dry_run: bool = False,
) -> Change:
    """Point a channel at a published release.

    Args:
        store: the store.
        name: the channel; made if it does not exist.
        release: a digest, a release folder (with a slash in its path), or a channel for what that one is at.
        expect: the digest that the channel must still point at, "none" for a new channel; None takes what is there.
        reason: recorded in the history.
        dry_run: only check.

    Raises:
        InputError: the release was not published.
        IntegrityError: it is not whole in the store.
        RetryableError: the channel moved, or is not at `expect`; the message names where it is.
    """
    key = channel_key(name)
    digest = resolve(store, release)
    require_whole(store, digest)
    document, before = _channel(store, name)
    if expect is not None and (before.release if before else "none") != expect:
        raise RetryableError(
            f"{_now(store, name, before)}, not at {expect} as expected. Look at it, then decide again."
        )
    if before and before.release == digest:
        return Change(before, before)
    after = _moved(before, name, "promote", digest, reason)
    return Change(before, after if dry_run else _swap(store, key, document, after))


def rollback(
    store: Store, name: str, *, to: str | None = None, reason: str | None = None, dry_run: bool = False
) -> Change:
    """Point a channel at the release before the current one; called again, at the one before that.

    Args:
        store: the store.
        name: the channel.
        to: the digest of an earlier release that still stands; None is the last one before the current.
        reason: recorded in the history.
        dry_run: only check.

    Raises:
        InputError: no such channel, or no release to go back to.
        IntegrityError: that release is no longer whole in the store.
        RetryableError: the channel moved meanwhile.
    """
    document, before = _channel(store, name)
    if before is None:
        raise _unknown(store, name)
    digest = before.earlier(to)
    require_whole(store, digest)
    after = _moved(before, name, "rollback", digest, reason)
    return Change(before, after if dry_run else _swap(store, channel_key(name), document, after))


def history(store: Store, name: str) -> Channel:
    """Return a channel with all its moves.

    Raises:
        InputError: no such channel.
        IntegrityError: its pointer is not readable.
    """
    channel = _channel(store, name)[1]
    if channel is None:
        raise _unknown(store, name)
    return channel


def names(store: Store) -> list[str]:
    """Return the names of all channels."""
    return [key.removeprefix(CHANNELS).removesuffix(".json") for key in store.keys(CHANNELS)]


def resolve(store: Store, release: str) -> str:
    """Return the digest that is meant: itself, that of a release folder (with a slash), or what a channel is at.

    Raises:
        InputError: no such channel.
        IntegrityError: the folder is no release.
    """
    if DIGEST.fullmatch(release):
        return release
    return str(manifest.read(Path(release)).digest) if "/" in release else history(store, release).release


def _channel(store: Store, name: str) -> tuple[Document | None, Channel | None]:
    key = channel_key(name)
    document = store.read(key)
    return document, Channel.parse(document.data, f"{store.where}/{key}") if document else None


def _moved(
    before: Channel | None, name: str, action: Literal["promote", "rollback"], digest: str, reason: str | None
) -> Channel:
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    told = " ".join((reason or "").split()) or None  # a line of the history stays one
    return moved(before, name, action, digest, now, uuid.uuid4().hex, told)


def _swap(store: Store, key: str, document: Document | None, after: Channel) -> Channel:
    """Move the pointer and read it back."""
    if not store.swap(key, after.dump(), document.version if document else None):
        raise RetryableError(
            f"{_now(store, after.name, _channel(store, after.name)[1])}: another move came first and this one was "
            "not written. Look at it, then decide again."
        )
    found = _channel(store, after.name)[1]
    if found is None or found.moves[: len(after.moves)] != after.moves:
        raise IntegrityError(f"{store.where}/{key}: does not hold the move that was written. Look at it with history.")
    return after


def _now(store: Store, name: str, channel: Channel | None) -> str:
    if channel is None:
        return f"{store.where}: channel {name} does not exist"
    last = channel.moves[-1]
    return f"{store.where}: channel {name} is at {channel.release} (move {last.number}, {last.action}, {last.at})"


def _unknown(store: Store, name: str) -> InputError:
    there = ", ".join(names(store)) or "none yet"
    return InputError(f"{store.where}: no channel {name}; there are: {there}.")
