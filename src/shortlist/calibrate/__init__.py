"""Calibrate: collect hidden states, fit a shortlist to them, tune it from data and measure it."""

from shortlist.calibrate.fitting import fit
from shortlist.calibrate.head import calibrate_head

__all__ = ["calibrate_head", "fit"]
