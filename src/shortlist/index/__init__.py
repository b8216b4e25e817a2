"""A small vector index: estimates the scores of all vectors, and computes a shortlist exactly."""

from shortlist.index.storage import IndexFileError
from shortlist.index.vector_index import Index, Matches

__all__ = ["Index", "IndexFileError", "Matches"]
