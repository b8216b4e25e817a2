"""How tokens were spread over the experts of a model."""

from typing import Any

import numpy as np


def describe_loads(loads: np.ndarray, tokens: int) -> dict[str, Any] | None:
    """What a run read of its mixtures of experts; None where there are none, or nothing was computed.

    Parameters
    ----------
    loads : int [mixtures, experts]
        Tokens that chose each expert.
    tokens
        That went through every mixture.

    Returns
    -------
    dict
        `per_token`: experts that a token computed in a mixture, on average. `busiest`: the most loaded expert
        of a mixture in units of its mean load, the worst of all mixtures. `unused`: experts that no token
        chose. `loads`: for each mixture and expert the share of the tokens that chose it.
    """
    if not loads.size or tokens < 1:
        return None
    mixtures, experts = loads.shape
    return {
        "mixtures": mixtures,
        "experts": experts,
        "per_token": float(loads.sum() / (mixtures * tokens)),
        "busiest": float((loads.max(axis=1) / loads.mean(axis=1)).max()),
        "unused": int((loads == 0).sum()),
        "loads": (loads / tokens).round(4).tolist(),
    }
