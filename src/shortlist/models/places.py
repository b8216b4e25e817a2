"""Places in a model's layers whose input channels can be shortlisted: the inputs of their matrices."""

from collections.abc import Mapping
from dataclasses import dataclass

from shortlist.checkpoints.base import Checkpoint
from shortlist.errors import RecipeError
from shortlist.recipe import Part

KINDS = {"qkv": ("q", "k", "v"), "o": ("o",), "gate_up": ("gate", "up"), "down": ("down",)}
"""The matrices that share an input, and with it one shortlist of channels."""


@dataclass(frozen=True)
class Place:
    """An input of a layer, and the matrices that it is multiplied with.

    Attributes
    ----------
    layer : int
    kind : str
        Key of `KINDS`.
    matrices : tuple of str
        Names of the tensors; an FFN without gates has no gate among them.
    units, width : int
        Inputs, and outputs of all the matrices together.
    """

    layer: int
    kind: str
    matrices: tuple[str, ...]
    units: int
    width: int

    @property
    def name(self) -> str:
        """As a recipe calls it."""
        return f"layers.{self.layer}.{self.kind}"


def places_of(checkpoint: Checkpoint) -> dict[str, Place]:
    """All places of a model's layers, by name."""
    found = {}
    for layer in range(checkpoint.config.layers):
        for kind, names in KINDS.items():
            tensors = {
                full: checkpoint.tensors[full]
                for name in names
                if (full := f"layers.{layer}.{name}") in checkpoint.tensors
            }
            shapes = [tensor.shape for tensor in tensors.values()]
            place = Place(layer, kind, tuple(tensors), shapes[0][1], sum(shape[0] for shape in shapes))
            found[place.name] = place
    return found


def check_parts(parts: Mapping[str, Part], checkpoint: Checkpoint) -> None:
    """Refuse parts of layers that a model does not have, or of other shapes.

    Raises
    ------
    RecipeError
    """
    places = places_of(checkpoint)
    for name, part in parts.items():
        place = places.get(name)
        if place is None:
            raise RecipeError(
                f"the recipe shortlists {name}, and this model has the layers 0 to "
                f"{checkpoint.config.layers - 1}: name the recipe of this model"
            )
        if (part.units, part.width) != (place.units, place.width):
            raise RecipeError(
                f"the recipe's part {name} is {part.units} by {part.width} and the model's is "
                f"{place.units} by {place.width}: name the recipe of this model"
            )
