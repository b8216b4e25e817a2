"""A small vector index: estimate all stored vectors, shortlist a few, compute these exactly."""

from shortlist.index.storage import IndexFileError
from shortlist.index.vector_index import Index, Matches

__all__ = ["Index", "IndexFileError", "Matches"]
