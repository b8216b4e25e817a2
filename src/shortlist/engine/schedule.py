"""Which tokens a step computes: one of every text that is being written, and a share of those to be read."""

from collections.abc import Sequence

from shortlist.engine.cost import StepCost

LEAST = 16
"""Tokens of prompts in a step, whatever they cost: below, a step is mostly its fixed part."""


def read_budget(
    cost: StepCost,
    remaining: Sequence[int],
    starts: Sequence[int],
    written: Sequence[int],
    seconds: float,
    most: int,
) -> int:
    """How many tokens of prompts the next step reads.

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


def deal(remaining: Sequence[int], budget: int) -> list[int]:
    """How many tokens of each prompt are read, oldest first.

    The oldest gets half at least, so that none waits for ever; what is left goes to the shortest first, so
    that a short prompt does not wait for a long one.

    Parameters
    ----------
    remaining
        Tokens that each prompt still has to read, one at least.
    budget
        Tokens to deal out.
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
