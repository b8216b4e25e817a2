"""The decoder of an open checkpoint: its tensors packed, its family's data handed to the native runtime."""

import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from shortlist import _native
from shortlist.checkpoints.base import TYPES, Checkpoint
from shortlist.errors import CheckpointError, UsageError
from shortlist.model.blocks.base import Packing
from shortlist.model.blocks.layer import pack_layer
from shortlist.model.blocks.streams import pack_streams
from shortlist.sites.base import Part, Site, Way, site_class
from shortlist.sites.neurons import Ffn, neuron_parts

PREFILL_CHUNK = 256
"""Tokens per native call: enough to use the batched kernels well, few enough that Ctrl-C is heard soon."""


class Decoder:
    """All layers of a model up to the final norm, and the rows of its head.

    Parameters
    ----------
    checkpoint : Checkpoint
        Read during construction only; it can be closed afterwards.
    weights : {"q8", "q4"}, optional
        Quantize float matrices. Matrices that are quantized already keep what they have, and `q4` leaves the
        embedding and the head at 8 bits.
    ffn : {"auto", "dense", "exact", "estimated"}
        What is done at the neurons of all layers. `dense`: all are read. For layers with exact zeros also
        `exact`: all gates, and up and down rows of the neurons that fire, which leaves out nothing but
        zeros. `estimated`: gates, too, only of the neurons that 4-bit copies of them leave; not where zeros
        come from a cutoff. `auto`: what `parts` says; where it says nothing, exact where there are zeros and
        the weights are floats (the down projection of quantized ones would be rounded again), else dense.
    threads : int, optional
        That compute what is asked of this decoder, and of heads that read its rows. Default: every core that
        the process may use.
    parts : mapping of str to Part or None, optional
        What a recipe says of sites (`sites.base`); None reads all units, and `head` is not the decoder's.

    Attributes
    ----------
    config : ModelConfig
    embedding, head_rows : _native.Rows
        The same object when the model ties them.
    ffn : {"dense", "exact", "estimated"}
        What was chosen.
    listable_neurons : int
        Neurons of all layers that a token may leave out.
    threads : int
    nbytes : int
        Packed bytes of all weights.

    Raises
    ------
    UsageError
        `threads`, `weights` or `ffn` is out of range, the activation has no zeros, or a part does not fit.
    """

    def __repr__(self) -> str:
        return f"<Decoder of {self.config.family}, {self.config.layers} layers>"

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        weights: str | None = None,
        ffn: Ffn = "auto",
        threads: int | None = None,
        parts: Mapping[str, Part | None] | None = None,
    ):
        _check_weights(weights, checkpoint)
        self.config = checkpoint.config
        sites = _sites(checkpoint, ffn, parts or {})
        neurons = {part.way for name, (_, part) in sites.items() if name.endswith(".neurons")}
        self.ffn: Way = "dense" if not neurons else "exact" if neurons == {"exact"} else "estimated"
        self.threads = thread_count(threads)
        self._workers = _native.Workers(self.threads)
        self.fingerprint = checkpoint.fingerprint
        self._source = str(checkpoint.path)
        self._tokens = 0
        with self._workers:
            self._pack(Packing(weights or "", _native.Arena(), checkpoint, sites))

    def _pack(self, packing: Packing) -> None:
        config = self.config
        self.embedding = packing.table("embedding")
        self.head_rows = self.embedding if config.tied_head else packing.table("head")
        self.head_rows.threads, self.head_rows.source = self.threads, self._source
        self._native = _native.Decoder(
            embedding=self.embedding,
            # The scale of logits, which all heads and bounds share, goes into what they read.
            final_norm=packing.needed_norm("final_norm") * np.float32(config.logit_scale),
            norm_eps=config.norm_eps,
            embedding_scale=config.embedding_scale,
            streams=pack_streams(packing),
        )
        layers = [pack_layer(packing, i) for i in range(config.layers)]
        for branches in layers:
            self._native.add_layer(branches)
        self._inputs = packing.inputs
        blocks = [block for branches in layers for branch in branches for block in branch.blocks]
        self._mixtures = [block for block in blocks if isinstance(block, _native.Mixture)]
        self._neurons = [block for block in blocks if isinstance(block, _native.NeuronFfn)]
        tables = {id(rows): rows.nbytes for rows in (self.embedding, self.head_rows)}
        self.nbytes = self._native.nbytes + sum(tables.values())

    @property
    def logit_cap(self) -> float | None:
        """What the model caps its logits with; `sites.head.Head` applies it."""
        return self.config.logit_cap

    @property
    def neurons_read(self) -> int:
        """Neurons whose rows were read so far, over all tokens and layers; 0 where all are dense."""
        return sum(each.neurons_read for each in self._neurons)

    @property
    def listable_neurons(self) -> int:
        """Neurons of all layers that a token may leave out."""
        return sum(each.neurons for each in self._neurons)

    @property
    def channels_read(self) -> dict[str, int]:
        """For each place with a shortlist of input channels, those that were read so far, over all tokens."""
        return {place: each.channels_read for place, each in self._inputs.items()}

    @property
    def channel_bytes(self) -> dict[str, int]:
        """For each place with a shortlist of input channels, what one channel weighs, without scales."""
        return {place: each.channel_bytes for place, each in self._inputs.items()}

    @property
    def place_bytes(self) -> dict[str, int]:
        """For each place with a shortlist of input channels, what a token reads there that lists all."""
        return {place: each.all_bytes for place, each in self._inputs.items()}

    def set_threshold(self, place: str, value: float) -> None:
        """Read at a place, from now on, the channels with a score of at least `value`; 0 reads all.

        Raises
        ------
        UsageError
            No shortlist of input channels was asked for there.
        """
        self._input(place).threshold = value

    def all_inputs(self, tokens: np.ndarray) -> dict[str, np.ndarray]:
        """The inputs, float32 [n, units], that tokens [n] bring to every place with a shortlist."""
        for each in self._inputs.values():
            each.record()
        self.forward(tokens, self.new_cache(len(tokens)))
        return {place: each.recorded() for place, each in self._inputs.items()}

    def _input(self, place: str) -> _native.ChannelInput:
        if place not in self._inputs:
            raise UsageError(f"{place} has no shortlist in this decoder: name it among its parts")
        return self._inputs[place]

    @property
    def expert_loads(self) -> np.ndarray:
        """How many tokens chose each expert so far; int64 [mixtures, experts], empty in a dense model."""
        return np.array([each.loads for each in self._mixtures], np.int64)

    @property
    def layer_bytes(self) -> int:
        """Packed bytes of the layers that a token reads: with shortlists, the mean so far."""
        return self._native.token_bytes(self._tokens)

    def new_cache(self, capacity: int | None = None, *, full_precision: bool = False) -> _native.Cache:
        """An empty KV cache. Memory is reserved at once, and used only as positions fill.

        Parameters
        ----------
        capacity
            Positions; default is the model's context length.
        full_precision
            Keep keys and values in float32 instead of float16.
        """
        return _native.Cache(self._native, capacity or self.config.context_length, full_precision)

    def forward(
        self, tokens: np.ndarray, cache: _native.Cache, on_chunk: Callable[[int], object] | None = None
    ) -> np.ndarray:
        """Append tokens to the cache.

        Parameters
        ----------
        tokens : int [n]
        cache
            Must have room for n more positions.
        on_chunk
            Called with the number of tokens done after each chunk.

        Returns
        -------
        float32 [n, width]
            Final-normed hidden states.

        Raises
        ------
        CheckpointError
            Not all of them are finite.
        """
        tokens = np.ascontiguousarray(tokens, np.int32)
        chunks = []
        for start in range(0, len(tokens), PREFILL_CHUNK):
            chunk = tokens[start : start + PREFILL_CHUNK]
            chunks.append(self.forward_together([(chunk, cache)]))
            if on_chunk:
                on_chunk(start + len(chunk))
        return chunks[0] if len(chunks) == 1 else np.concatenate(chunks)

    def forward_together(self, segments: Sequence[tuple[np.ndarray, _native.Cache]]) -> np.ndarray:
        """Append tokens to several caches in one pass, which reads the weights once.

        Parameters
        ----------
        segments
            For each sequence its next tokens, int [n], and its cache, which must have room for them.

        Returns
        -------
        float32 [tokens, width]
            Final-normed hidden states, those of one segment after those of another.

        Raises
        ------
        CheckpointError
            Not all of them are finite.
        """
        tokens = np.concatenate([np.asarray(each, np.int32) for each, _ in segments])
        with self._workers:
            hidden = self._native.forward(
                tokens,
                [cache for _, cache in segments],
                [len(each) for each, _ in segments],
                self.config.vocab_size,
            )
        self._tokens += len(tokens)
        if not np.isfinite(hidden).all():
            raise CheckpointError(
                f"{self._source} computes values that are not numbers, so its weights are damaged: "
                "fetch it again, or convert it again"
            )
        return hidden


def _sites(
    checkpoint: Checkpoint, ffn: str, parts: Mapping[str, Part | None]
) -> dict[str, tuple[Site, Part]]:
    """The sites of layers where something is done, each looked at before anything is packed.

    Raises
    ------
    UsageError
        The model has no such site, or a part does not fit it.
    """
    others = {name: part for name, part in parts.items() if not name.endswith(("head", ".neurons"))}
    chosen = {**others, **neuron_parts(checkpoint, ffn, parts)}
    sites = {}
    for name, part in chosen.items():
        if part is not None:
            sites[name] = site_class(name)(name, checkpoint), part
            sites[name][0].check(part)
    return sites


def _check_weights(weights: str | None, checkpoint: Checkpoint) -> None:
    """Raise `UsageError` where `weights` is unknown, or there is nothing that it could quantize."""
    if weights not in (None, "q8", "q4"):
        raise UsageError(f"--weights {weights} is unknown: choose q8 or q4, or leave it out")
    kept = ("router", "shared_gate")  # small, and never quantized
    if weights is not None and not any(
        len(tensor.shape) > 1
        and not TYPES[tensor.type].quantized
        and not name.rpartition(".")[2].startswith(kept)
        for name, tensor in checkpoint.tensors.items()
    ):
        raise UsageError(
            f"--weights {weights} does nothing: {checkpoint.path.name} is quantized already, so leave it out"
        )


def available_threads() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_count(threads: int | None) -> int:
    """The number that was asked for, or every core that this process may use.

    Raises
    ------
    UsageError
        It is out of range.
    """
    available = available_threads()
    if threads is not None and not 1 <= threads <= 1024:
        raise UsageError(f"--threads {threads} is out of range: choose between 1 and {available}")
    return threads or available
