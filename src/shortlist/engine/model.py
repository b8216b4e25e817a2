"""A loaded model: text in, text out."""

import dataclasses
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Self, Unpack

import numpy as np

from shortlist.engine.adjust import Adjustment
from shortlist.engine.choose import Chooser
from shortlist.engine.engine import Engine
from shortlist.engine.generation import Generation, Stream
from shortlist.engine.logprobs import TokenLogprobs
from shortlist.engine.options import GenerationOptions, Options
from shortlist.engine.sequence import Sequence as TextSequence
from shortlist.engine.stats import RunStats
from shortlist.errors import UsageError
from shortlist.model.decoder import PREFILL_CHUNK, Decoder
from shortlist.model.tokenizer.tokenizer import Tokenizer
from shortlist.recipe import Recipe
from shortlist.sites.head import Head
from shortlist.spec.config import ModelConfig

RELEASED = ("decoder", "head", "dense_head", "_engine")
"""What holds the memory of a model: gone once it is closed."""


class Model:
    """A decoder, a head, a tokenizer and one KV cache. `shortlist.load` makes one.

    Texts of one model may be interleaved, by several threads too; each continues from the part of the cache
    that it shares with the last.

    Parameters
    ----------
    decoder
    tokenizer
    head
    name
        What a user calls it, for messages.
    context
        Most tokens of prompt and answer together; None takes what the model was trained for. Memory for the
        KV cache is taken as it fills.
    recipe
        That the head was made from, or that was consulted when it was chosen.
    warnings
        What the model's files say that is not taken as it stands, one line each.
    notes
        What explains this run, such as why a head was chosen. The attribute `notes` holds the warnings too.
    sampling_defaults
        How the model's files say that texts are sampled: fields of `GenerationOptions` and their values. What
        the files leave open is not in it. `generate` and `stream` use it only where it is handed to them, as
        `stream(prompt, **model.sampling_defaults)`.

    Attributes
    ----------
    stats : RunStats or None
        Of the latest text.

    Raises
    ------
    UsageError
        `context` is out of range.
    """

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: Tokenizer,
        head: Head,
        *,
        name: str = "",
        context: int | None = None,
        recipe: Recipe | None = None,
        warnings: Sequence[str] = (),
        notes: Sequence[str] = (),
        sampling_defaults: Mapping[str, float | int] | None = None,
    ):
        self.decoder = decoder
        self.tokenizer = tokenizer
        self.head = head
        self.name = name
        self.context = context_of(decoder.config, context)
        self.recipe = recipe
        self.warnings = tuple(warnings)
        self.notes = (*warnings, *notes)
        self.sampling_defaults = dict(sampling_defaults or {})
        self.stats: RunStats | None = None

    def __repr__(self) -> str:
        if "decoder" not in vars(self):
            return f"<Model {self.name}, closed>"
        what = f"{self.config.family}, {self.config.layers} layers, {self.head.name} head"
        return f"<Model {self.name}: {what}, context {self.context}>"

    @property
    def config(self) -> ModelConfig:
        """Sizes and constants of the decoder."""
        return self.decoder.config

    def stream(
        self,
        prompt: str | Sequence[int],
        options: GenerationOptions | None = None,
        *,
        on_prompt: Callable[[int, int], None] | None = None,
        **fields: Unpack[Options],
    ) -> Stream:
        """Generate a text piece by piece.

        Parameters
        ----------
        prompt
            Text, or tokens such as `tokenizer.encode_chat` returns.
        options
            How the text is generated; or, in its place, its fields by name:
        on_prompt
            Called while a long prompt is read, with the tokens that were read and all of them.
        **fields
            Fields of `GenerationOptions`.

        Returns
        -------
        Stream
            An iterator of strings. Its `generation` holds the text so far, and at the end why it ended.

        Raises
        ------
        UsageError
            An option is unknown or out of range, the prompt is empty, or prompt and answer do not fit the
            context; raised here, before any work.
        """
        if options is not None and fields:
            raise UsageError("give options whole or by name, not both: use dataclasses.replace for a change")
        sequence = self.prepare(self.encode(prompt), options or GenerationOptions(**fields))
        self.stats = sequence.generation.stats
        return Stream(self._engine.pieces(sequence, on_prompt), sequence.generation)

    def prepare(self, tokens: Sequence[int], options: GenerationOptions) -> TextSequence:
        """A sequence that is about to be generated, with what the options leave open filled in.

        Parameters
        ----------
        tokens
            The prompt, from `encode`.
        options

        Raises
        ------
        UsageError
            Prompt and answer do not fit the context, a bias is for no token of the vocabulary, or the
            constraint cannot be used.
        """
        self._check_fits(len(tokens), options.max_tokens or 1)
        chosen = dataclasses.replace(
            options,
            max_tokens=options.max_tokens or self.context - len(tokens),
            seed=None if options.greedy else secrets.randbits(32) if options.seed is None else options.seed,
        )
        adjust = Adjustment(chosen, tokens, self.config.vocab_size, self.tokenizer)
        chooser = Chooser(self.head, self.dense_head, chosen, adjust, self.tokenizer)
        stats = RunStats(
            head=chooser.head.name,
            vocab_size=self.config.vocab_size,
            layer_bytes=self.decoder.layer_bytes,
            prompt_tokens=len(tokens),
        )
        generation = Generation(stats, chosen.seed, logprobs=None if chosen.logprobs is None else [])
        return TextSequence(tokens, chosen, self.tokenizer, generation, chooser)

    def generate(
        self, prompt: str | Sequence[int], options: GenerationOptions | None = None, **fields: Unpack[Options]
    ) -> Generation:
        """Generate a whole text; parameters and errors as for `stream`."""
        stream = self.stream(prompt, options, **fields)
        for _ in stream:
            pass
        return stream.generation

    @cached_property
    def _engine(self) -> Engine:
        """The engine whose steps the caller's thread takes."""
        return Engine(self.decoder, self.dense_head, self.context)

    @cached_property
    def dense_head(self) -> Head:
        """All rows of the same head: what others are compared with. It shares their memory."""
        return self.head.dense()

    def encode(self, prompt: str | Sequence[int]) -> list[int]:
        """The tokens of a prompt, those that the model wants at its start included.

        Raises
        ------
        UsageError
            The prompt is empty or not valid text, or a token is not in the vocabulary.
        """
        if isinstance(prompt, str):
            try:
                prompt.encode()
            except UnicodeEncodeError as error:
                raise UsageError(
                    f"the prompt is not valid text: character {error.start + 1} is half of a surrogate pair"
                ) from None
            tokens = self.tokenizer.encode(prompt) if prompt else []
        else:
            tokens = [int(token) for token in prompt]
        if not tokens:
            raise UsageError("the prompt is empty: give the model some text to continue")
        vocabulary = self.config.vocab_size
        for token in tokens:
            if not 0 <= token < vocabulary:
                raise UsageError(f"token {token} is not in the vocabulary (0 to {vocabulary - 1})")
        return tokens

    def hidden(self, tokens: Sequence[int]) -> np.ndarray:
        """The final hidden state after each token, as the head gets it; float32 [tokens, width]."""
        return np.concatenate(list(self.hidden_pieces(tokens)))

    def hidden_pieces(self, tokens: Sequence[int]) -> Iterator[np.ndarray]:
        """`hidden` in pieces of at most `PREFILL_CHUNK` tokens, each computed when it is asked for."""
        cache = self.decoder.new_cache(len(tokens))
        for start in range(0, len(tokens), PREFILL_CHUNK):
            piece = np.asarray(tokens[start : start + PREFILL_CHUNK], dtype=np.int32)
            with self._engine.lock:
                hidden = self.decoder.forward(piece, cache)
            yield hidden

    def score(self, prompt: str | Sequence[int], *, logprobs: int = 0) -> list[TokenLogprobs | None]:
        """How likely each token of a text is after those before it, by the dense head.

        Parameters
        ----------
        prompt
            As for `stream`.
        logprobs
            How many of the likeliest tokens to list at each place.

        Returns
        -------
        list
            One for each token; None for the first, which follows nothing.

        Raises
        ------
        UsageError
            The prompt cannot be used, or does not fit the context.
        """
        from shortlist.engine.scoring import score_pieces

        tokens = self.encode(prompt)
        self._check_fits(len(tokens), 0)
        return [entry for piece in score_pieces(self, tokens, logprobs) for entry in piece]

    def logits(self, tokens: Sequence[int]) -> np.ndarray:
        """The dense logits after each token, whatever head is loaded; float32 [tokens, vocab]."""
        return self.dense_head.logits_together(self.hidden(tokens))

    def close(self) -> None:
        """Release the weights and the KV cache; the model cannot be used afterwards."""
        for name in RELEASED:
            self.__dict__.pop(name, None)

    def __getattr__(self, name: str) -> Any:
        if name in RELEASED:
            raise UsageError("the model is closed: load it again")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_fits(self, prompt: int, answer: int) -> None:
        if prompt + answer <= self.context:
            return
        steps = []
        if prompt + answer <= self.config.context_length:
            steps.append(f"load it with a context of {prompt + answer} (--context)")
        if prompt < self.context:
            steps.append(f"ask for at most {self.context - prompt} tokens (-n)")
        else:
            steps.append("shorten the prompt")
        raise UsageError(
            f"the prompt has {prompt} tokens and {answer} more are asked for, "
            f"but the context holds {self.context}: {' or '.join(steps)}"
        )


def context_of(config: ModelConfig, context: int | None) -> int:
    """The context that was asked for, or what the model was trained for.

    Raises
    ------
    UsageError
        It is longer than that, or not positive.
    """
    trained = config.context_length
    if context is not None and not 1 <= context <= trained:
        raise UsageError(
            f"the context must be from 1 to {trained}, what this model was trained for, not {context}"
        )
    return context or trained
