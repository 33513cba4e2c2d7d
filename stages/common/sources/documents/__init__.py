"""A user's documents as blocks of headings, prose, code and tables, whatever format they have."""

from stages.common.sources.documents.blocks import Block, BlockKind
from stages.common.sources.documents.files import READERS, count_unread, list_documents, read_document

__all__ = ["READERS", "Block", "BlockKind", "count_unread", "list_documents", "read_document"]
