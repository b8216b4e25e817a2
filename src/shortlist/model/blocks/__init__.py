"""Blocks: the parts of a layer, each packed for the native decoder."""
