"""A store of releases, S3 or a folder: its channels, and how a release comes from it.

store.py lists its keys. `publish`, which a build does, writes releases; everything here works on a host with the wheel
alone.
"""

from .addresses import open_store
from .channels import ChannelUpdate, list_channels, load_channel, promote, rollback
from .fetch import fetch

__all__ = ["ChannelUpdate", "fetch", "list_channels", "load_channel", "open_store", "promote", "rollback"]
