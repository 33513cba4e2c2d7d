"""A channel's pointer: the release it points at, and every move that led there. Pure: no store, no clock."""

from typing import Annotated, Literal

from embed_foundry import InputError, IntegrityError, manifest
from pydantic import Field, ValidationError, model_validator

from stages.common.config.strict import Strict

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Action = Literal["promote", "rollback"]


class Move(Strict):
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
    release: Digest
    at: str
    id: str
    reason: str | None


class Channel(Strict):
    """The content of channels/NAME.json.

    Attributes:
        schema_version: of this file's layout.
        name: the channel's.
        release: digest of the release that it points at now.
        moves: all of them, oldest first.
    """

    schema_version: Literal[1] = 1
    name: str
    release: Digest
    moves: tuple[Move, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _require_consistent_moves(self) -> "Channel":
        if [move.number for move in self.moves] != list(range(1, len(self.moves) + 1)):
            raise ValueError("moves are not numbered 1, 2, 3 ...")
        if self.replay_moves()[-1:] != [self.release]:
            raise ValueError(f"its moves do not lead to {self.release}")
        return self

    @classmethod
    def parse(cls, data: bytes, location: str) -> "Channel":
        """Read a pointer's bytes; `location` is where they were read, for the message.

        Raises:
            IntegrityError: they are not a pointer, or one that contradicts itself.
        """
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            raise IntegrityError(
                f"{location}: is not a channel pointer ({'.'.join(map(str, first['loc']))}: {first['msg']}). "
                "Restore an earlier version of it; an S3 bucket with versioning keeps them."
            ) from None

    def dump(self) -> bytes:
        """Return the pointer's bytes."""
        return manifest.canonical(self.model_dump(mode="json"))

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
