"""Calibrate: collect hidden states, fit a shortlist to them, tune it from data and measure it."""

from shortlist.calibrate.cached import head_recipe
from shortlist.calibrate.head import calibrate_head

__all__ = ["calibrate_head", "head_recipe"]
