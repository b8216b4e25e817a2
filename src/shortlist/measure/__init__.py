"""Measure: quality against the dense head, and speed against other engines on the same file."""
