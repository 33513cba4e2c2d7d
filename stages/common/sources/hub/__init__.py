"""The model hub: files of one commit, through huggingface_hub and its cache, each hashed before it is used.

huggingface_hub checks sizes only, and what it once cached it serves for ever; so every file is hashed here, and wrong
bytes leave the cache. Only this room and s3.py touch a network.
"""

from stages.common.sources.hub.client import Connection, Hub

__all__ = ["Connection", "Hub"]
