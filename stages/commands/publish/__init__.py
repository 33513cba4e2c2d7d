"""publish: upload a release that the gate passed to a store; a command, since no run cache may repeat it.

In: release/, and gate/ and catalog/ of the build that made it.
Out: a store, S3 or a folder (embed_foundry/store).
Fails: 2 a folder is missing, 3 bytes differ, also when read back, or the verdict is about other bytes, 4 the gate did
not pass, 5 the store refused, 75 it is unavailable.
"""

from stages.commands.publish.command import PublishResult, publish

__all__ = ["PublishResult", "publish"]
