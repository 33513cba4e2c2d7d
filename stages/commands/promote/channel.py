"""A channel's pointer: which release it names, and every move that led there. Pure: no store, no clock."""

from typing import Annotated, Literal

from embed_foundry import InputError, IntegrityError, manifest
from pydantic import Field, ValidationError, model_validator

from stages.common.config.strict import Strict

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Move(Strict):
    """One move of a channel.

    Attributes:
        number: 1, 2, 3 ...
        action: what was done.
        release: digest of the release that the channel names since.
        at: when, UTC, ISO 8601.
        id: random; tells a move from another one to the same release in the same second.
        reason: what was given for it.
    """

    number: int
    action: Literal["promote", "rollback"]
    release: Digest
    at: str
    id: str
    reason: str | None


class Channel(Strict):
    """The content of channels/NAME.json.

    Attributes:
        schema_version: of this file's form.
        name: the channel's.
        release: digest of the release that it names now.
        moves: all of them, the oldest first.
    """

    schema_version: Literal[1] = 1
    name: str
    release: Digest
    moves: tuple[Move, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _told_by_its_moves(self) -> "Channel":
        if [move.number for move in self.moves] != list(range(1, len(self.moves) + 1)):
            raise ValueError("moves are not numbered 1, 2, 3 ...")
        if self.standing()[-1:] != [self.release]:
            raise ValueError(f"its moves do not lead to {self.release}")
        return self

    @classmethod
    def parse(cls, data: bytes, where: str) -> "Channel":
        """Read a pointer's bytes.

        Raises:
            IntegrityError: they are no pointer, or one that contradicts itself.
        """
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            raise IntegrityError(
                f"{where}: is no channel pointer ({'.'.join(map(str, first['loc']))}: {first['msg']}). "
                "Put back an earlier version of it; an S3 bucket with versioning has one."
            ) from None

    def dump(self) -> bytes:
        """Return the pointer's bytes."""
        return manifest.canonical(self.model_dump(mode="json"))

    def standing(self) -> list[str]:
        """Return the releases that were promoted and not rolled back, the oldest first: what rollback walks.

        A promotion adds one; a rollback takes away the last one, and more down to the release that it names. So two
        rollbacks in a row go back two releases, and never to the one that was just left.

        Raises:
            ValueError: a rollback names a release that did not stand.
        """
        standing: list[str] = []
        for move in self.moves:
            if move.action == "promote":
                standing.append(move.release)
                continue
            if move.release not in standing[:-1]:
                raise ValueError(f"move {move.number} rolls back to a release that did not stand")
            standing.pop()
            while standing[-1] != move.release:
                standing.pop()
        return standing

    def earlier(self, release: str | None) -> str:
        """Return the release to roll back to.

        Args:
            release: a standing one's digest; None is the one before the current.

        Raises:
            InputError: there is none, or `release` does not stand.
        """
        before = self.standing()[:-1]
        if not before:
            raise InputError(f"channel {self.name}: no release before {self.release} stands. Promote another release.")
        if release is not None and release not in before:
            raise InputError(
                f"channel {self.name}: {release} is not among the releases before the current one: "
                f"{', '.join(before)}. Roll back to one of these, or promote {release}."
            )
        return release or before[-1]


def moved(
    channel: Channel | None,
    name: str,
    action: Literal["promote", "rollback"],
    release: str,
    at: str,
    identity: str,
    reason: str | None,
) -> Channel:
    """Return the pointer after one more move; see `Move` for the arguments."""
    before = channel.moves if channel else ()
    move = Move(number=len(before) + 1, action=action, release=release, at=at, id=identity, reason=reason)
    return Channel(name=name, release=release, moves=(*before, move))
