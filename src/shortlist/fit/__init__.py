"""Calibrate: collect hidden states, fit a shortlist to them, tune it from data and measure it."""

from shortlist.fit.fitting import fit
from shortlist.fit.head import calibrate_head

__all__ = ["calibrate_head", "fit"]
