"""Reads the activation of a feed-forward layer, by the names of transformers."""

from shortlist.spec.config import ACTIVATIONS_WITH_ZEROS, Activation
from shortlist.spec.families.base import Family
from shortlist.spec.settings import Settings

_NAMES: dict[str, Activation] = {
    "silu": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "relu2": "relu2",
}


def activation_of(settings: Settings, family: Family, key: str) -> Activation:
    """The activation in the setting `key`: the family's own, which is the default, or one with exact zeros.

    Models that were trained further for sparse activations are otherwise of their family (ProSparse,
    https://arxiv.org/abs/2402.13516, is a llama with `hidden_act` relu). Any other activation is an error.

    Raises
    ------
    CheckpointError
        The setting names another activation.
    """
    possible = (family.activation, *ACTIVATIONS_WITH_ZEROS)
    allowed: dict[str, Activation] = {name: ours for name, ours in _NAMES.items() if ours in possible}
    default = next(name for name, ours in _NAMES.items() if ours == family.activation)
    return allowed[settings.one_of(key, allowed, default)]
