"""promote: publish, promote, roll back and fetch releases through a store; a command, for no run-cache may repeat it.

In: release/, and gate/ and catalog/ of the build that made it.
Out: a store, S3 or a folder (store.py shows the names in it); a fetched release folder.
Fails: 2 unknown release, channel or store, 3 bytes differ, also as read back, or the verdict is about other bytes,
4 the gate did not pass, 5 the store refused, 75 another one moved the channel first, or the store is unavailable.
"""

from stages.commands.promote.addresses import open_store
from stages.commands.promote.moves import Change, history, names, promote, rollback
from stages.commands.promote.transfer import Published, fetch, publish

__all__ = ["Change", "Published", "fetch", "history", "names", "open_store", "promote", "publish", "rollback"]
