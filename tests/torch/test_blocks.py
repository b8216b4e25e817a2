"""The blocks that are found, and those that are refused because of their use in a layer."""

from typing import Any

import pytest
import transformers
from torch import nn

from shortlist.errors import UsageError
from shortlist.torch import Experts, MoE, SoftmaxTopK, patch
from shortlist.torch.blocks import check_use, find_blocks, find_stack

SIZES = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 40,
    "head_dim": 8,
}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}


def multimodal(name, text, vision, **rest):
    config = getattr(transformers, f"{name}Config")(text_config=text, vision_config=vision, **rest)
    return getattr(transformers, f"{name}ForConditionalGeneration")(config)


def qwen():
    rope = {"rope_type": "default", "type": "mrope", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    vision = {"depth": 3, "embed_dim": 16, "num_heads": 2, "hidden_size": 16, "mlp_ratio": 2}
    return multimodal("Qwen2VL", SIZES | {"rope_parameters": rope}, vision)


def llava():
    return multimodal("Llava", transformers.LlamaConfig(**SIZES), transformers.CLIPVisionConfig(**VISION))


def gemma():
    return multimodal(
        "Gemma3", transformers.Gemma3TextConfig(**SIZES), transformers.SiglipVisionConfig(**VISION)
    )


@pytest.mark.parametrize("build", [qwen, llava, gemma])
def test_only_the_language_model_of_several_parts_is_taken(build):
    model = build()
    done = patch(model, lambda *_: MoE(SoftmaxTopK(16, 4), Experts(4, 16, 24)))
    names = [name for name, module in model.named_modules() if isinstance(module, MoE)]
    assert names == [f"model.language_model.layers.{index}.mlp" for index in range(2)]
    assert find_stack(model).owner is model.model.language_model
    done.undo()


def test_a_tower_is_taken_where_it_is_passed():
    tower = llava().model.vision_tower
    assert len(find_blocks(tower)) == 3


def test_a_tower_is_no_language_model_where_that_has_no_blocks():
    config = transformers.GitConfig(
        vision_config=VISION, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, vocab_size=40
    )
    with pytest.raises(UsageError, match="GitForCausalLM has no decoder layers"):
        find_blocks(transformers.GitForCausalLM(config))


class Block(nn.Linear):
    pass


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.mlp = Block(4, 4)

    def forward(self, x):
        return x + self.mlp(x)


def stacked(layer, *stacks) -> Any:
    model = nn.Module()
    for stack in stacks:
        setattr(model, stack, nn.ModuleList([layer(), layer()]))
    return model


def test_two_stacks_are_ambiguous():
    with pytest.raises(UsageError, match="Module has layers at first and second: pass the part"):
        find_blocks(stacked(Layer, "first", "second"))
    assert find_stack(model := stacked(Layer, "first")).owner is model
    assert find_blocks(model) == [(layer, "mlp") for layer in model.first]


def test_parts_of_a_plain_model_may_have_any_name():
    assert len(find_blocks(stacked(Layer, "vision"))) == 2


class Named(Layer):
    def forward(self, x):
        y = self.mlp(x)
        if isinstance(y, tuple):
            y, _ = y
        a, b = x, y
        return a + b


class Apart(Layer):
    def forward(self, x):
        y, _ = self.mlp(x)
        return x + y


class ApartLater(Layer):
    def forward(self, x):
        y = self.mlp(x)
        if self.training:
            y, _ = y
        return x + y


class Indexed(Layer):
    def forward(self, x):
        return x + self.mlp(x)[0]


class WithMore(Layer):
    def forward(self, x, ids):
        return x + self.mlp(x, ids)


class WithKeyword(Layer):
    def forward(self, x, ids):
        return x + self.mlp(x, ids=ids)


class Spread(Layer):
    def forward(self, *x):
        return x[0] + self.mlp(*x)


class Sometimes(Layer):
    def forward(self, x, ids):
        return x + (self.mlp(x) if ids is None else self.mlp(x, ids))


class Elsewhere(Layer):
    def forward(self, x):
        return checkpoint(self.mlp, x)  # noqa: F821  # pyright: ignore[reportUndefinedVariable]


@pytest.mark.parametrize("layer", [Layer, Named])
def test_a_map_from_states_to_states_is_taken(layer):
    check_use(layer(), "mlp")


@pytest.mark.parametrize("layer", [Apart, ApartLater, Indexed, WithMore, WithKeyword, Spread, Sometimes])
def test_other_uses_are_refused_before_anything_is_replaced(layer):
    model = stacked(layer, "layers")
    with pytest.raises(
        UsageError, match=rf"^Block in a {layer.__name__} cannot be replaced: the layer does not"
    ):
        patch(model, lambda *_: nn.Linear(4, 4))
    assert {type(each.mlp) for each in model.layers} == {Block}


def test_code_that_cannot_be_read_is_taken_from_the_class_that_was_extended():
    made = type("Made", (Layer,), {})()
    check_use(made, "mlp")
    made.__class__ = type("Made", (Apart,), {})
    with pytest.raises(UsageError, match=r"^Block in a Made cannot be replaced"):
        check_use(made, "mlp")


def test_code_without_a_call_is_refused():
    layer = nn.Module()
    layer.mlp = Block(4, 4)
    with pytest.raises(UsageError, match="no code of the layer that calls it can be read"):
        check_use(layer, "mlp")


REFUSED = {
    "gpt_oss": "GptOss",
    "bloom": "Bloom",
    "llama4": "Llama4Text",
    "zaya": "Zaya",
    "deepseek_v4": "DeepseekV4",
}


@pytest.mark.parametrize("folder", REFUSED)
def test_layers_of_transformers_that_use_their_block_otherwise_are_refused(folder):
    module = __import__(f"transformers.models.{folder}.modeling_{folder}", fromlist=["x"])
    prefix, name = REFUSED[folder], "feed_forward" if folder == "llama4" else "mlp"
    cls = next(c for n, c in vars(module).items() if n in (f"{prefix}DecoderLayer", f"{prefix}Block"))
    layer = cls.__new__(cls)
    nn.Module.__init__(layer)
    setattr(layer, name, Block(4, 4))
    with pytest.raises(UsageError, match=f"^Block in a {prefix}"):
        check_use(layer, name)


@pytest.mark.parametrize("folder", ["llama", "qwen3_next", "gpt2", "modernbert"])
def test_layers_of_transformers_that_use_it_so_are_taken(folder):
    module = __import__(f"transformers.models.{folder}.modeling_{folder}", fromlist=["x"])
    cls = next(
        c for n, c in vars(module).items() if n.endswith(("DecoderLayer", "EncoderLayer", "GPT2Block"))
    )
    layer = cls.__new__(cls)
    nn.Module.__init__(layer)
    layer.mlp = Block(4, 4)
    check_use(layer, "mlp")
