"""The old name of `shortlist.torch`, for code that was written for it."""

import sys
import warnings

import shortlist.torch as moved
import shortlist.torch.gates

warnings.warn("shortlist.nn is now shortlist.torch", FutureWarning, stacklevel=2)
sys.modules[__name__] = moved
sys.modules[f"{__name__}.gates"] = shortlist.torch.gates
