"""RoPE as `config.json` describes it, in the spellings of transformers 4 and 5."""

from shortlist.spec import rope
from shortlist.spec.families.base import Family
from shortlist.spec.hf_keys import ROPE, ROPE_BASE
from shortlist.spec.keys import Key, check_keys, refused, used
from shortlist.spec.settings import MAX_CONTEXT, Settings

WINDOWED, GLOBAL = "sliding_attention", "full_attention"

_KINDS = {
    GLOBAL: used("RoPE of layers that see everything"),
    WINDOWED: used("RoPE of layers with a window"),
}
# transformers reads it beside the two objects, where it refuses to have it.
_NESTED = {"truncate": refused("transformers does not read it here", True)}
_PARTIAL = "partial_rotary_factor"
_ORIGINAL = "original_max_position_embeddings"


def rotations(settings: Settings, family: Family, head_dim: int) -> dict[str, rope.Rotation]:
    """How layers that see everything and those with a window turn queries and keys.

    Raises
    ------
    CheckpointError
        A setting is missing, absurd or not supported.
    """
    longest = settings.integer("max_position_embeddings", MAX_CONTEXT)
    scaling = settings.part("rope_scaling")
    if family.local_rope_base is None:
        # transformers takes the older key where both stand there.
        parameters = scaling if len(scaling) else settings.part("rope_parameters")
        if _ORIGINAL in settings:
            parameters = parameters.updated({_ORIGINAL: settings.get(_ORIGINAL)})
        base = settings.positive("rope_theta", family.hf_rope_base)
        own = {}
        if family.partial_rope:
            own = {_PARTIAL: family.hf_keys[_PARTIAL]}
            share = parameters.between(_PARTIAL, 1e-6, 1, settings.between(_PARTIAL, 1e-6, 1, 1.0))
            head_dim = int(head_dim * share)
            if not head_dim or head_dim % 2:
                settings.fail(
                    _PARTIAL, f"is {share}, so {head_dim} numbers of a head turn: not an even number"
                )
        return dict.fromkeys(
            _KINDS, _rotation(parameters, base, head_dim, longest, own, family.hf_rope_types)
        )
    if _ORIGINAL in settings:
        settings.fail(_ORIGINAL, "is for families with one RoPE: state it in rope_scaling")
    nested = settings.part("rope_parameters")
    check_keys(nested, _KINDS)
    parameters = {GLOBAL: nested.part(GLOBAL).updated(dict(scaling.items())), WINDOWED: nested.part(WINDOWED)}
    bases = {
        GLOBAL: settings.positive("rope_theta", family.hf_rope_base),
        WINDOWED: settings.positive("rope_local_base_freq", family.local_rope_base),
    }
    return {kind: _rotation(parameters[kind], bases[kind], head_dim, longest, _NESTED) for kind in parameters}


def _rotation(
    scaling: Settings,
    base: float,
    head_dim: int,
    longest: int,
    others: dict[str, Key],
    types: tuple[str, ...] = (),
) -> rope.Rotation:
    """The rotation that one object describes; `base` stands beside it, `others` are keys of its place."""
    key = "rope_type" if "rope_type" in scaling else "type"
    kind = scaling.one_of(key, types or tuple(ROPE), default="default")
    check_keys(scaling, ROPE_BASE | ROPE[kind] | others | _read_by_types(kind))
    base = scaling.positive("rope_theta", base)
    plain = rope.plain(base, head_dim)
    match kind:
        case "linear":
            return rope.Rotation(rope.linear(plain, scaling.positive("factor")))
        case "llama3":
            low, high = scaling.positive("low_freq_factor"), scaling.positive("high_freq_factor")
            if low >= high:
                scaling.fail(
                    "low_freq_factor", f"is {low}, but must be below high_freq_factor, which is {high}"
                )
            original = scaling.between(_ORIGINAL, 1, MAX_CONTEXT, longest)
            return rope.Rotation(rope.llama3(plain, scaling.positive("factor"), low, high, original))
        case "yarn":
            return _yarn(scaling, plain, base, longest)
    return rope.Rotation(plain)


def _read_by_types(kind: str) -> dict[str, Key]:
    # The key beside rope_scaling holds for every type, and most do not read it.
    return {} if _ORIGINAL in ROPE[kind] else {_ORIGINAL: Key("harmless", "this type does not read it")}


def _yarn(scaling: Settings, plain: rope.Frequencies, base: float, longest: int) -> rope.Rotation:
    original = scaling.between(_ORIGINAL, 1, MAX_CONTEXT, longest)
    factor = scaling.positive("factor", longest / original)
    # 0 and null are the defaults, as in transformers.
    fast, slow = (
        scaling.between(key, 1e-6, 1e6) if scaling.get(key, 0) else default
        for key, default in (("beta_fast", 32.0), ("beta_slow", 1.0))
    )
    mscales = [scaling.positive(key) if scaling.get(key, 0) else 0.0 for key in ("mscale", "mscale_all_dim")]
    if base <= 1:
        scaling.fail("rope_theta", f"is {base}, but must be above 1 for yarn")
    frequencies = rope.yarn(
        plain,
        factor,
        original,
        base=base,
        beta_fast=fast,
        beta_slow=slow,
        truncate=scaling.flag("truncate", True),
    )
    scale = scaling.positive("attention_factor", rope.yarn_attention_factor(factor, *mscales))
    return rope.Rotation(frequencies, scale)
