"""Families, configurations and tensor names: what a checkpoint says about its model."""
