"""The activation of a feed-forward layer, as transformers names it."""

from shortlist.spec.config import ACTIVATIONS_WITH_ZEROS, Activation
from shortlist.spec.families import Family
from shortlist.spec.settings import Settings

_NAMES: dict[str, Activation] = {
    "silu": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "relu2": "relu2",
}


def activation_of(settings: Settings, family: Family, key: str) -> Activation:
    """What `key` names: the family's own activation, the default, or one with exact zeros.

    Models that were trained on to have sparse activations keep the rest of their family (ProSparse,
    https://arxiv.org/abs/2402.13516, is a llama with `hidden_act` relu). Any other change is a mistake.

    Raises
    ------
    CheckpointError
        It names another.
    """
    possible = (family.activation, *ACTIVATIONS_WITH_ZEROS)
    allowed: dict[str, Activation] = {name: ours for name, ours in _NAMES.items() if ours in possible}
    default = next(name for name, ours in _NAMES.items() if ours == family.activation)
    return allowed[settings.one_of(key, allowed, default)]
