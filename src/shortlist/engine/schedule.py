"""Which tokens a step computes: one of every sequence in decode, and some of each prompt."""

from collections.abc import Sequence

import numpy as np

LEAST = 16
"""Tokens of prompts in a step, whatever they cost: below, a step is mostly its fixed part."""

FORGET = 0.98
"""Weight of a step in the next one's eyes: a machine that gets slower is noticed within some fifty steps."""

# Until something else was measured: a fixed part, a decoded token, a token of a prompt, and a thousand
# positions that are attended to, in seconds.
PRIOR = np.array([1e-3, 2e-3, 1e-3, 2e-4])
TRUST = 1e-4
"""Weight of that prior, in steps."""


class StepCost:
    """Seconds of a step: least squares over the latest steps, held near a prior.

    A step is described by what it computes: tokens that are decoded, tokens of prompts, and how many
    positions of the cache these attend to in all. Decoded tokens are apart because each also needs the head.
    After the batch scheduler of Nexus (https://arxiv.org/abs/2507.06608), whose phases share one processor.
    """

    def __init__(self) -> None:
        self._products = TRUST * PRIOR[0] ** 2 * np.diag(1 / PRIOR**2)
        self._weights = PRIOR.copy()
        self._targets = self._products @ PRIOR
        self._prior = (self._products.copy(), self._targets.copy())

    def seconds(self, decoded: int, read: int, attended: int) -> float:
        """Expected seconds of a step of `decoded` tokens and `read` tokens of prompts."""
        fixed, per_decoded, per_read, per_attended = self._weights
        return float(fixed + per_decoded * decoded + per_read * read + per_attended * attended / 1000)

    def observe(self, decoded: int, read: int, attended: int, seconds: float) -> None:
        """Learn from a step."""
        features = np.array([1.0, decoded, read, attended / 1000])
        products, targets = self._prior
        self._products = FORGET * self._products + (1 - FORGET) * products
        self._targets = FORGET * self._targets + (1 - FORGET) * targets
        self._products += np.outer(features, features)
        self._targets += features * seconds
        self._weights = self._solved()

    def _solved(self) -> np.ndarray:
        """The best weights of which none is negative: nothing makes a step shorter."""
        weights = np.zeros(len(PRIOR))
        kept = np.arange(len(PRIOR))
        while len(kept):
            solved = np.linalg.solve(self._products[np.ix_(kept, kept)], self._targets[kept])
            if (solved >= 0).all():
                weights[kept] = solved
                break
            kept = kept[solved >= 0]
        return weights

    def chunk(self, decoded: int, attended: int, start: int, most: int, seconds: float) -> int:
        """The most tokens of a prompt that a step can take on and still end in time, at least one.

        Parameters
        ----------
        decoded, attended
            Tokens that are decoded in it, and what these attend to.
        start
            Tokens of the prompt that were read before.
        most
            More are not needed.
        seconds
            That the step may take.
        """
        low, high = 1, max(most, 1)
        while low < high:
            middle = (low + high + 1) // 2
            if self.seconds(decoded, middle, attended + middle * (start + middle // 2)) <= seconds:
                low = middle
            else:
                high = middle - 1
        return low


def read_budget(
    cost: StepCost,
    remaining: Sequence[int],
    starts: Sequence[int],
    written: Sequence[int],
    seconds: float,
    most: int,
) -> int:
    """How many prompt tokens the next step computes.

    Without a text that waits for its next token, as many as one step takes. Otherwise the most with which the
    step is expected to end in time.

    Parameters
    ----------
    cost
    remaining, starts
        Of each prompt, oldest first: tokens still to read, and tokens that were read.
    written
        Positions that each text which is being written attends to.
    seconds
        That a step may take while texts are being written.
    most
        Tokens that a step takes.
    """
    wanted = min(sum(remaining), most)
    if not written or wanted <= LEAST:
        return wanted
    fitting = cost.chunk(len(written), sum(written), starts[0], wanted, seconds)
    return min(wanted, max(fitting, LEAST))


def share_out(remaining: Sequence[int], budget: int) -> list[int]:
    """How many tokens of each prompt are read, oldest first.

    The oldest gets half at least, so that none waits for ever; what is left goes to the shortest first, so
    that a short prompt does not wait for a long one.

    Parameters
    ----------
    remaining
        Tokens that each prompt still has to read, one at least.
    budget
        Tokens to share out.
    """
    counts = [0] * len(remaining)
    if remaining:
        counts[0] = min(remaining[0], (budget + 1) // 2)
        budget -= counts[0]
    for i in sorted(range(len(remaining)), key=lambda i: remaining[i] - counts[i]):
        more = min(remaining[i] - counts[i], budget)
        counts[i] += more
        budget -= more
    return counts
