"""A channel's pointer: the release it points at, and every move that led there. Pure: no store, no clock."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from .. import manifest
from ..errors import InputError, IntegrityError, one_line
from .store import DIGEST

Action = Literal["promote", "rollback"]
SCHEMA = 1


@dataclass(frozen=True)
class Move:
    """One move of a channel.

    Attributes:
        number: 1, 2, 3 ...
        action: the command that moved it.
        release: digest of the release that the channel points at from then on.
        at: when, UTC, ISO 8601.
        id: random; distinguishes two moves to the same release within one second.
        reason: as given by the user.
    """

    number: int
    action: Action
    release: str
    at: str
    id: str
    reason: str | None

    @classmethod
    def parse(cls, raw: object) -> "Move":
        """Return a move, given the JSON value of one.

        Raises:
            ValueError: a field is missing, unknown or wrong.
        """
        fields = _require_fields(raw, cls.__dataclass_fields__)
        for name in ("action", "release", "at", "id"):
            if not isinstance(fields[name], str):
                raise ValueError(f"{name} is {fields[name]!a:.60}, expected text")
        if type(fields["number"]) is not int:
            raise ValueError(f"number is {fields['number']!a:.60}, expected a whole number")
        if fields["action"] not in get_args(Action):
            raise ValueError(f"action is {fields['action']!a:.60}, expected one of {get_args(Action)}")
        if not DIGEST.fullmatch(fields["release"]):
            raise ValueError(f"release is {fields['release']!a:.60}, expected a digest")
        if not isinstance(fields["reason"], str | None):
            raise ValueError(f"reason is {fields['reason']!a:.60}, expected text or null")
        return cls(**fields)


@dataclass(frozen=True)
class Channel:
    """The content of channels/NAME.json.

    Attributes:
        name: the channel's.
        release: digest of the release that it points at now.
        moves: all of them, oldest first.
        schema_version: of the file's layout.
    """

    name: str
    release: str
    moves: tuple[Move, ...]
    schema_version: int = SCHEMA

    def __post_init__(self) -> None:
        """Check that the moves are whole, and lead to the release; raises ValueError."""
        if [move.number for move in self.moves] != list(range(1, len(self.moves) + 1)):
            raise ValueError("moves are not numbered 1, 2, 3 ...")
        if self.replay_moves()[-1:] != [self.release]:
            raise ValueError(f"its moves do not lead to {self.release}")

    @classmethod
    def parse(cls, data: bytes, location: str) -> "Channel":
        """Read a pointer's bytes; `location` is where they were read, for the message.

        Raises:
            IntegrityError: they are not a pointer, or one that contradicts itself.
        """
        try:
            fields = _require_fields(json.loads(data), cls.__dataclass_fields__)
            if fields["schema_version"] != SCHEMA or not isinstance(fields["name"], str):
                raise ValueError(f"schema_version is {fields['schema_version']!a:.60}, expected {SCHEMA}")
            if not isinstance(fields["moves"], list):
                raise ValueError("moves is no list")
            return cls(**fields | {"moves": tuple(map(Move.parse, fields["moves"]))})
        except (ValueError, RecursionError) as error:
            raise IntegrityError(
                f"{location}: is not a channel pointer ({one_line(error)}). "
                "Restore an earlier version of it; an S3 bucket with versioning keeps them."
            ) from None

    def dump(self) -> bytes:
        """Return the pointer's bytes."""
        return manifest.canonical(asdict(self))

    def replay_moves(self) -> list[str]:
        """Return the releases that were promoted and not rolled back, oldest first. Rollback goes back through them.

        A promotion adds one; a rollback removes the last one, and more down to the release that it names. So two
        rollbacks in a row go back two releases, and never to the one that was just left.

        Raises:
            ValueError: a rollback names a release that is not among the earlier ones.
        """
        releases: list[str] = []
        for move in self.moves:
            if move.action == "promote":
                releases.append(move.release)
                continue
            if move.release not in releases[:-1]:
                raise ValueError(f"move {move.number} rolls back to a release that is not among the earlier ones")
            releases.pop()
            while releases[-1] != move.release:
                releases.pop()
        return releases

    def choose_earlier(self, release: str | None) -> str:
        """Return the digest of the release to roll back to.

        Args:
            release: one of the earlier releases; None is the one just before the current.

        Raises:
            InputError: there is no earlier release, or `release` is not one of them.
        """
        earlier = self.replay_moves()[:-1]
        if not earlier:
            raise InputError(f"channel {self.name}: has no release before {self.release}. Promote another release.")
        if release is not None and release not in earlier:
            raise InputError(
                f"channel {self.name}: {release} is not among its earlier releases: {', '.join(earlier)}. "
                f"Roll back to one of these, or promote {release}."
            )
        return release or earlier[-1]


def append_move(
    channel: Channel | None,
    name: str,
    action: Action,
    release: str,
    at: str,
    identity: str,
    reason: str | None,
) -> Channel:
    """Return the channel after one more move; see `Move` for the arguments."""
    earlier = channel.moves if channel else ()
    move = Move(number=len(earlier) + 1, action=action, release=release, at=at, id=identity, reason=reason)
    return Channel(name=name, release=release, moves=(*earlier, move))


def _require_fields(raw: object, names: Mapping[str, object]) -> manifest.JsonObject:
    """Return an object that has exactly these fields.

    Raises:
        ValueError: it is no object, lacks one, or has others.
    """
    if not isinstance(raw, dict):
        raise ValueError(f"a {type(raw).__name__}, expected an object")
    if missing := sorted(names.keys() - raw.keys()):
        raise ValueError(f"{missing[0]} is missing")
    if unknown := sorted(raw.keys() - names.keys()):
        raise ValueError(f"{unknown[0]!a:.60} is no field of it")
    return raw
