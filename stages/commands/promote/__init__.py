"""promote: publish, promote, roll back and fetch releases through a store; a command, since no run cache may repeat it.

In: release/, and gate/ and catalog/ of the build that made it.
Out: a store, S3 or a folder (store.py lists its keys); a fetched release folder.
Fails: 2 unknown release, channel or store, 3 bytes differ, also when read back, or the verdict is about other bytes,
4 the gate did not pass, 5 the store refused, 75 another move of the channel came first, or the store is unavailable.
"""

from stages.commands.promote.addresses import open_store
from stages.commands.promote.moves import ChannelUpdate, list_channels, load_channel, promote, rollback
from stages.commands.promote.transfer import PublishResult, fetch, publish

__all__ = [
    "ChannelUpdate",
    "PublishResult",
    "fetch",
    "list_channels",
    "load_channel",
    "open_store",
    "promote",
    "publish",
    "rollback",
]
