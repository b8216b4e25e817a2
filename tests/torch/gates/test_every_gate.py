"""Tests of every gate: a new one is a row in GATES_UNDER_TEST."""

import copy

import pytest

torch = pytest.importorskip("torch")

from shortlist.errors import UsageError  # noqa: E402
from shortlist.torch.gates import GATES, WRAPPERS, ConstantNorm, Permuted  # noqa: E402

WIDTH, K = 16, 2
WITHOUT_K = {"k_means", "l1", "norm_threshold"}
WEIGHTS_ADD_UP_TO = {  # one where nothing else is documented
    "expert_choice": "at most one",
    "gumbel": "k",
    "l1": "anything",
    "norm_threshold": "anything",
}
WITHOUT_ROUTER = {"hash", "random", "k_means"}
TRAINED_APART = {"norm_threshold"}  # by a loss of its own
BY_CHANCE = {"random"}
SEES_THE_BATCH = {"expert_choice", "random"}


def make(name, experts):
    inner = name.rpartition(" of ")[2]
    options = {} if inner in WITHOUT_K else {"k": min(K, experts)}
    gate = GATES[inner](WIDTH, experts, **options)
    return WRAPPERS[name.partition(" of ")[0]](gate) if " of " in name else gate


def tokens_of(count, dtype=torch.float32):
    """States, token ids."""
    generator = torch.Generator().manual_seed(count)
    x = torch.randn(count, WIDTH, generator=generator).to(dtype)
    return x.requires_grad_(), torch.arange(count) * 7 % 31


GATES_UNDER_TEST = [*GATES, "constant_norm of softmax", "permuted of comet", "permuted of hash"]
every_gate = pytest.mark.parametrize("name", GATES_UNDER_TEST)


def test_every_gate_and_wrapper_is_tested():
    assert set(GATES) <= set(GATES_UNDER_TEST)
    assert set(WRAPPERS) == {name.partition(" of ")[0] for name in GATES_UNDER_TEST if " of " in name}


@every_gate
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float64], ids=["float32", "bfloat16", "float64"]
)
@pytest.mark.parametrize("experts", [1, 8])
@pytest.mark.parametrize("count", [0, 1, 33])
def test_routing_is_well_formed_and_its_gradients_are_finite(name, count, experts, dtype):
    torch.manual_seed(0)
    gate = make(name, experts).to(dtype)
    for progress in (0.0, 0.5, 1.0):
        gate.progress = progress
        x, ids = tokens_of(count, dtype)
        routing = gate(x, ids)
        assert routing.shape == (count, experts)
        assert routing.tokens.dtype == routing.experts.dtype == torch.int64
        assert (routing.tokens.diff() >= 0).all()
        pairs = routing.tokens * experts + routing.experts
        assert len(pairs.unique()) == len(pairs) == len(routing.weights)
        assert not len(pairs) or (pairs.min() >= 0 and pairs.max() < count * experts)
        assert routing.weights.dtype == torch.promote_types(dtype, torch.float32)
        assert (routing.weights > 0).all()
        assert routing.load.sum() == len(pairs)
        assert set(routing.losses) == gate.gives
        assert all(loss.shape == () and loss.isfinite() for loss in routing.losses.values())
        total = routing.dense().sum() + sum(routing.losses.values())
        if total.requires_grad:
            total.backward()
        gradients = [p.grad for p in gate.parameters() if p.grad is not None]
        assert all(gradient.isfinite().all() for gradient in gradients)
        gate.after_step()


@every_gate
def test_weights_add_up_to_what_is_documented(name):
    torch.manual_seed(0)
    gate = make(name, 8)
    for progress in (0.0, 1.0):
        gate.progress = progress
        sums = gate(*tokens_of(33)).dense().sum(-1)
        wanted = WEIGHTS_ADD_UP_TO.get(name, "one")
        if wanted == "at most one":
            assert (sums < 1 + 1e-5).all()
            assert (sums > 0.1).any()
        elif wanted != "anything":
            near = 0.05 if name.startswith("permuted") else 1e-5  # the search leaves out small weights
            assert sums.tolist() == pytest.approx([K if wanted == "k" else 1] * 33, abs=near)


@every_gate
def test_the_task_reaches_every_parameter_of_the_router(name):
    torch.manual_seed(0)
    gate = make(name, 8)
    routing = gate(*tokens_of(64))
    parameters = dict(gate.named_parameters())
    if name in WITHOUT_ROUTER | TRAINED_APART:
        assert bool(parameters) == (name in TRAINED_APART)
        assert not routing.weights.requires_grad
        return
    (routing.dense() * torch.randn(64, 8)).sum().backward()  # of the task alone, no auxiliary loss
    for part, parameter in parameters.items():
        assert parameter.grad is not None, part
        assert parameter.grad.abs().max() > 0, part


@every_gate
def test_a_single_expert_of_a_token_still_teaches_the_router(name):
    if name in WITHOUT_ROUTER | WITHOUT_K | TRAINED_APART or " of " in name:
        pytest.skip("has no k, or no router")
    torch.manual_seed(0)
    gate = GATES[name](WIDTH, 8, k=1)
    (gate(*tokens_of(64)).dense() * torch.randn(64, 8)).sum().backward()
    gradients = [parameter.grad for parameter in gate.parameters()]
    assert all(gradient is not None and gradient.any() for gradient in gradients)


def same(one, other):
    return (
        torch.equal(one.tokens, other.tokens)
        and torch.equal(one.experts, other.experts)
        and torch.equal(one.weights, other.weights)
    )


@every_gate
def test_a_seed_repeats_everything(name):
    routings = []
    for _ in range(2):
        torch.manual_seed(3)
        gate = make(name, 8)
        for _ in range(3):
            routing = gate(*tokens_of(33))
            gate.after_step()
        routings.append(routing)
    assert same(*routings)


@every_gate
def test_a_forward_pass_that_is_run_again_chooses_the_same_experts(name):
    """As gradient checkpointing does, with torch's generator set back."""
    torch.manual_seed(0)
    gate = make(name, 8)
    gate(*tokens_of(33))
    gate.after_step()
    routings = []
    for _ in range(2):
        torch.manual_seed(3)
        routings.append(gate(*tokens_of(33)))
    assert same(*routings)


@every_gate
def test_at_inference_a_token_is_routed_whatever_the_others_are(name):
    if name in SEES_THE_BATCH:
        pytest.skip("documented to depend on the batch")
    torch.manual_seed(0)
    gate = make(name, 8)
    gate.progress = 1.0
    gate(*tokens_of(33))
    gate.eval()
    x, ids = tokens_of(33)
    together = gate(x, ids).dense()
    alone = torch.cat([gate(x[i : i + 1], ids[i : i + 1]).dense() for i in range(33)])
    torch.testing.assert_close(together, alone)


@every_gate
def test_all_tokens_may_go_to_the_same_experts(name):
    torch.manual_seed(0)
    gate = make(name, 8).eval()
    gate.progress = 1.0
    x, ids = tokens_of(1)
    routing = gate(x.expand(48, -1), ids.expand(48))
    if name in SEES_THE_BATCH:
        assert routing.active == K
        return
    assert routing.load[routing.load > 0].tolist() == [48] * int(routing.active)
    assert routing.imbalance == 8 / routing.active


@every_gate
def test_what_is_loaded_decides_as_what_was_saved(name):
    torch.manual_seed(0)
    trained, other = make(name, 8), make(name, 8)
    trained.progress = 0.7
    for _ in range(3):
        trained(*tokens_of(33))
        trained.after_step()
    other.load_state_dict(trained.state_dict())
    if name not in BY_CHANCE:
        assert same(trained.eval()(*tokens_of(20)), other.eval()(*tokens_of(20)))
        assert same(trained(*tokens_of(20)), copy.deepcopy(trained)(*tokens_of(20)))
    assert all(
        torch.is_tensor(value) for value in trained.state_dict().values()
    )  # safetensors takes no others


@every_gate
def test_buffers_stay_in_float32(name):
    gate = make(name, 8).to(torch.bfloat16)
    assert all(b.dtype == torch.float32 for b in gate.buffers() if b.is_floating_point())
    assert all(p.dtype == torch.bfloat16 for p in gate.parameters())


@every_gate
def test_buffers_keep_their_digits_where_weights_lose_theirs(name):
    gate = make(name, 8)
    for buffer in gate.buffers():
        if buffer.is_floating_point():
            buffer.fill_(1 / 3)
    before = [buffer.clone() for buffer in gate.buffers()]
    assert all(map(torch.equal, gate.to(torch.bfloat16).buffers(), before))
    doubled = [b for b in gate.double().buffers() if b.is_floating_point()]
    assert all(b.dtype == torch.float64 for b in doubled)


@every_gate
@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
def test_autocast_changes_nothing(name, training):
    torch.manual_seed(0)
    gate = make(name, 8).train(training)
    gate.progress = 0.1
    routings = []
    for enabled in (False, True):
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            routings.append(gate(*tokens_of(33)))
    assert same(*routings)


@every_gate
@pytest.mark.parametrize("router", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_a_gate_in_bfloat16_decides_in_float32(name, router):
    """Whatever type its own weights have, as if states and weights were float32."""
    torch.manual_seed(0)
    gate, (x, ids) = make(name, 8).bfloat16().to(router), tokens_of(33, torch.bfloat16)
    exact = copy.deepcopy(gate).to(torch.promote_types(router, torch.float32))
    routings = []
    for each, states in ((gate, x), (exact, x.to(torch.promote_types(router, torch.float32)))):
        torch.manual_seed(1)
        routings.append(each(states, ids))
    if name != "constant_norm of softmax":  # which rounds the states that it has scaled
        assert torch.equal(routings[0].experts, routings[1].experts)
        torch.testing.assert_close(*(r.weights for r in routings), check_dtype=False)


def test_router_dtype_none_leaves_it_to_autocast():
    torch.manual_seed(0)
    gate, (x, _) = make("softmax", 8), tokens_of(33)
    exact = gate.estimate(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert gate.estimate(x).dtype == torch.float32
        gate.router_dtype = None
        assert gate.estimate(x).dtype == torch.bfloat16
    gate.router_dtype = torch.float64
    assert gate.estimate(x).dtype == torch.float64
    torch.testing.assert_close(gate.estimate(x), exact, check_dtype=False)


EXACT = [name for name in GATES_UNDER_TEST if name not in BY_CHANCE | {"noisy_top_k", "evomoe", "gumbel"}]


@pytest.mark.parametrize("name", EXACT)
def test_gradients_are_exact_in_float64(name):
    torch.manual_seed(0)
    gate = make(name, 4).double().eval()
    gate.progress = 0.5
    x, ids = (t.detach() for t in tokens_of(6, torch.float64))
    parts = [p for p in gate.parameters() if p.requires_grad]
    if not parts:
        return

    def weights_and_losses(*values):
        given = dict(zip((n for n, _ in gate.named_parameters()), values, strict=True))
        routing = torch.func.functional_call(gate, given, (x, ids))
        return (routing.dense(), *routing.losses.values())

    values = [p.detach().clone().requires_grad_() for p in parts]
    if any(out.requires_grad for out in weights_and_losses(*values)):
        assert torch.autograd.gradcheck(weights_and_losses, values)


@pytest.mark.parametrize("name", [name for name in GATES if name not in WITHOUT_K])
@pytest.mark.parametrize("k", [0, 9])
def test_k_must_be_a_number_of_experts(name, k):
    with pytest.raises(UsageError, match="k must be from 1 to the number of experts, 8"):
        GATES[name](WIDTH, 8, k=k)


def test_a_gate_needs_experts():
    with pytest.raises(UsageError, match="at least 1"):
        GATES["l1"](WIDTH, 0)


@pytest.mark.parametrize("wrapper", [ConstantNorm, Permuted])
def test_a_wrapper_passes_on_progress_and_steps(wrapper):
    gate = wrapper(GATES["temperature"](WIDTH, 8))
    gate.progress = 0.25
    assert gate.progress == gate.gate.progress == 0.25
    balanced = wrapper(GATES["sigmoid"](WIDTH, 8, rate=0.1))
    balanced(*tokens_of(33))
    balanced.after_step()
    assert balanced.gate.bias.any()
