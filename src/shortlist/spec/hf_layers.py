"""Which layers of a Hugging Face model attend through a window: each family's class has a rule of its own."""

from shortlist.spec.families.base import Family
from shortlist.spec.hf_rope import GLOBAL, WINDOWED
from shortlist.spec.settings import MAX_CONTEXT, MAX_LAYERS, Settings


def layer_types(settings: Settings, family: Family) -> list[str]:
    """For each layer `sliding_attention` or `full_attention`.

    Raises
    ------
    CheckpointError
        The file's list is of another length, names other types, or is not what the family's class computes.
    """
    layers = settings.integer("num_hidden_layers", MAX_LAYERS)
    window = settings.integer("sliding_window", MAX_CONTEXT, default=0, least=0)
    in_force = family.window_rule != "none" and window > 0 and settings.flag("use_sliding_window", True)
    by_rule = _rule(settings, family, layers)
    rule = by_rule if in_force else [GLOBAL] * layers
    types = settings.get("layer_types", by_rule if family.local_rope_base else rule)
    if (
        not isinstance(types, list)
        or len(types) != layers
        or any(kind not in (WINDOWED, GLOBAL) for kind in types)
    ):
        settings.fail("layer_types", f"must name {WINDOWED} or {GLOBAL} for each of {layers} layers")
    if WINDOWED in types and not in_force:
        settings.fail(
            "layer_types", f"has {WINDOWED}, but no sliding_window is in force in this family's class"
        )
    if family.window_rule in ("none", "all") and types != rule:
        settings.fail("layer_types", f"has {GLOBAL}, but this family's class has its window in every layer")
    return types


def _rule(settings: Settings, family: Family, layers: int) -> list[str]:
    """The types that a class gives the layers of a model with a window whose file does not list them."""
    match family.window_rule:
        case "late":
            first = settings.integer("max_window_layers", MAX_LAYERS, least=0)
            windowed = [i >= first for i in range(layers)]
        case "alternate":
            end = settings.integer("max_window_layers", MAX_LAYERS, least=0)
            windowed = [i % 2 == 0 and i < end for i in range(layers)]
        case "most":
            every = settings.integer("sliding_window_pattern", MAX_LAYERS, default=family.global_every)
            windowed = [(i + 1) % every != 0 for i in range(layers)]
        case rule:
            windowed = [rule == "all"] * layers
    return [WINDOWED if each else GLOBAL for each in windowed]
