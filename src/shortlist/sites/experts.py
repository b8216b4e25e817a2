"""Experts as units: a router scores them, and a token computes the best few."""

from __future__ import annotations

from typing import ClassVar

from shortlist import _native
from shortlist.checkpoints.base import Checkpoint
from shortlist.errors import UsageError
from shortlist.selectors.top_k import TopK
from shortlist.sites.base import Packing, Part, Site


class ExpertSite(Site):
    """The experts of a layer; its table is the router. The file says how many experts a token computes."""

    natively: ClassVar[frozenset[tuple[str, str]]] = frozenset({("exact", "top_k")})

    def __init__(self, name: str, checkpoint: Checkpoint):
        super().__init__(name, checkpoint)
        prefix = f"layers.{self.layer}.experts."
        self.tensors = [tensor for tensor in checkpoint.tensors if tensor.startswith(prefix)]
        self.units, self.width = checkpoint.tensors[f"layers.{self.layer}.router"].shape

    @classmethod
    def missing(cls, checkpoint: Checkpoint, layer: int | None, kind: str) -> str | None:
        if f"layers.{layer}.router" not in checkpoint.tensors:
            return f"layer {layer} has no router of its own"
        mixture = checkpoint.config.mixture
        return None if mixture and mixture.per_token else "its router chooses as many as a token needs"

    def check(self, part: Part) -> None:
        super().check(part)
        mixture = self.checkpoint.config.mixture
        assert isinstance(part.selector, TopK)
        if mixture and part.selector.count != mixture.per_token:
            raise UsageError(
                f"{self.name}: the model's file says {mixture.per_token} experts for each token, not "
                f"{part.selector.count}: leave it out"
            )

    def table(self, weights: str = "") -> _native.Rows:
        return self._matrix(f"layers.{self.layer}.router", "")

    def install(self, part: Part, into: Packing) -> None:
        """Nothing: the block of a mixture chooses as its file says, and `check` refuses anything else."""
