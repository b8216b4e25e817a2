"""What is done to the logits of one text before a token is drawn: penalties, biases, a constraint."""

from collections.abc import Sequence

import numpy as np

from shortlist.engine.options import SamplingOptions
from shortlist.errors import UsageError
from shortlist.model.tokenizer.tokenizer import Tokenizer


class Adjustment:
    """Penalties, biases and the constraint of one text, which grows token by token.

    Each value is mapped by a function that never falls, rounding included, so bounds of a logit become bounds
    of its adjusted value; what the constraint forbids becomes minus infinity.

    Parameters
    ----------
    options
    prompt
        Tokens, for the repetition penalty. The other penalties count the answer alone.
    vocab_size
        Rows of the head.
    tokenizer
        For the constraint.

    Raises
    ------
    UsageError
        A bias is for a token that is not in the vocabulary, or the constraint cannot be used.
    """

    def __init__(
        self,
        options: SamplingOptions,
        prompt: Sequence[int],
        vocab_size: int,
        tokenizer: Tokenizer | None = None,
    ):
        for token in options.logit_bias:
            if not 0 <= token < vocab_size:
                raise UsageError(
                    f"logit bias: token {token} is not in the vocabulary (0 to {vocab_size - 1})"
                )
        self._options = options
        self._seen = np.zeros(vocab_size, bool)
        self._seen[np.asarray(prompt, np.int64)] = True
        self._repeats = options.repetition_penalty != 1
        self._counts: dict[int, int] = {}  # of the tokens of the answer
        self._penalises = options.frequency_penalty != 0 or options.presence_penalty != 0
        self._offsets = None
        if self._penalises or options.logit_bias:
            self._offsets = np.zeros(vocab_size, np.float32)
            for token, bias in options.logit_bias.items():
                self._offsets[token] = bias
        self._state = None
        if options.constraint is not None:
            assert tokenizer is not None
            self._state = options.constraint.start(tokenizer, vocab_size)
        self._allowed: np.ndarray | None = None  # computed when it is needed, once for each token

    @property
    def changes_nothing(self) -> bool:
        """Whether every logit stays what it is, and will."""
        return not self._repeats and self._offsets is None and self._state is None

    @property
    def only_constrains(self) -> bool:
        """Whether logits are forbidden, but not changed."""
        return not self._repeats and self._offsets is None and self._state is not None

    @property
    def lifts(self) -> bool:
        """Whether rows that a head holds for unlikely may be likely after it: a bias, or a constraint."""
        return bool(self._options.logit_bias) or self._state is not None

    @property
    def seen(self) -> np.ndarray | None:
        """Rows whose logits the repetition penalty changes, bool [vocab]; None without one."""
        return self._seen if self._repeats else None

    @property
    def offsets(self) -> np.ndarray | None:
        """What biases and penalties add to the logits, float32 [vocab]; None where there are none."""
        return self._offsets

    @property
    def allowed(self) -> np.ndarray | None:
        """Which rows the constraint allows next, bool [vocab]; None where there is none.

        Raises
        ------
        UsageError
            It has become too complex.
        """
        if self._state is not None and self._allowed is None:
            self._allowed = self._state.allowed()
        return self._allowed

    def push(self, token: int) -> None:
        """Add a token to the text."""
        self._seen[token] = True
        if self._penalises and self._offsets is not None:
            options = self._options
            count = self._counts[token] = self._counts.get(token, 0) + 1
            penalty = options.frequency_penalty * count + options.presence_penalty
            self._offsets[token] = options.logit_bias.get(token, 0.0) - penalty
        if self._state is not None:
            self._state.push(token)
            self._allowed = None

    def __call__(self, logits: np.ndarray, rows: np.ndarray | slice = np.s_[:]) -> np.ndarray:
        """Adjusted logits, float32 [n], of the given rows; of the whole vocabulary where none are given."""
        if self._repeats:
            penalty = np.float32(self._options.repetition_penalty)
            penalised = np.where(logits > 0, logits / penalty, logits * penalty)
            logits = np.where(self._seen[rows], penalised, logits)
        if self._offsets is not None:
            logits = logits + self._offsets[rows]
        if (allowed := self.allowed) is not None:
            logits = np.where(allowed[rows], logits, np.float32(-np.inf))
        return logits
