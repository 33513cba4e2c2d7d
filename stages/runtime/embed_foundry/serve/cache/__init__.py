"""Vectors by content: sound, because a text's vector is the same bytes whatever it was computed with."""

from .layers import open_cache
from .vector_cache import VectorCache, VectorKey

__all__ = ["VectorCache", "VectorKey", "open_cache"]
