"""The model hub: files of one commit, through huggingface_hub and its cache, each hashed before it is used.

huggingface_hub checks sizes only and serves a cached file for ever; so every file is hashed here, and wrong bytes leave
the cache.
"""

from stages.common.sources.hub.client import CommitInfo, HubClient, HubFile
from stages.common.sources.hub.connection import Connection
from stages.common.sources.hub.repository import Guidance, Reason, Refusal, Repository

__all__ = ["CommitInfo", "Connection", "Guidance", "HubClient", "HubFile", "Reason", "Refusal", "Repository"]
