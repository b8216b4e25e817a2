"""Dense-to-sparse gates (s2-1): can their parameters be estimated, and does a language model lose by it.

A mixture of two linear regressions of one input, gated by softmax(act(b x + c) / temperature), is drawn and
fitted by maximum likelihood, from starts near the truth, for growing samples: with a linear gate temperature
and weights can cancel, so that the error of the parameters stays, with a nonlinearity it falls. Measured is
the slope of log error against log sample size. Then the character model with either gate, three seeds, equal
compute. Exits with 1 where the slope of the activation gate is not steeper by 0.25, or its loss is higher by
more than twice the standard error.

    .venv/bin/python lab/systems/s2_1_activation.py [--text FILE] [--tasks synthetic text]
"""

import sys
from collections.abc import Callable

import torch
from criteria import print_criteria
from small_mixtures import Text, Training, task_arguments, train
from torch import Tensor

from shortlist.torch.gates import Activation, Temperature
from shortlist.torch.gates.activation import ACTIVATIONS

SAMPLES, REPLICATES, SEEDS, STEPS = (100, 1000, 10_000, 100_000), 8, 3, 150
# Of each expert: gate weight and bias, slope, intercept; then temperature and noise, as logarithms.
TRUTH = torch.tensor([2.0, -1.0, 1.5, 0.5, -1.0, 0.5, -1.0, -0.5, 0.0, -1.2], dtype=torch.float64)
START = 0.3  # standard deviation of the first guesses around the truth

Act = Callable[[Tensor], Tensor]


def main() -> None:
    torch.set_num_threads(1)
    arguments = task_arguments(__doc__, ("synthetic", "text"))
    criteria = []
    if "synthetic" in arguments.tasks:
        slopes = parameter_slopes({"linear": lambda z: z, "gelu": ACTIVATIONS["gelu"]})
        difference = slopes["linear"] - slopes["gelu"]
        criteria.append(("slope, linear minus activation", difference, difference >= 0.25, "0.25"))
    if "text" in arguments.tasks:
        criteria.append(loss_criterion(Text(arguments.text)))
    sys.exit(not print_criteria(criteria))


def parameter_slopes(gates: dict[str, Act]) -> dict[str, float]:
    """Of log mean error against log sample size."""
    print("| gate | " + " | ".join(f"n = {n}" for n in SAMPLES) + " | slope |")
    print("| --- |" + " ---: |" * (len(SAMPLES) + 1))
    slopes = {}
    for name, act in gates.items():
        errors = torch.tensor([[fit_error(act, n, seed) for seed in range(REPLICATES)] for n in SAMPLES])
        means = errors.mean(1)
        x, y = torch.tensor(SAMPLES).log(), means.log()
        slopes[name] = (((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()).item()
        cells = " | ".join(f"{mean:.4f}" for mean in means)
        print(f"| {name} | {cells} | {slopes[name]:.2f} |", flush=True)
    return slopes


def fit_error(act: Act, samples: int, seed: int) -> float:
    """Distance of the fitted from the true parameters."""
    generator = torch.Generator().manual_seed(seed)
    x = 4 * torch.rand(samples, generator=generator, dtype=torch.float64) - 2
    weights, means, scale = mixture(TRUTH, x, act)
    chosen = weights.multinomial(1, generator=generator)
    noise = torch.randn(samples, generator=generator, dtype=torch.float64)
    y = means.gather(1, chosen)[:, 0] + scale * noise
    start = TRUTH + START * torch.randn(len(TRUTH), generator=generator, dtype=torch.float64)
    parameters = start.requires_grad_()
    optimizer = torch.optim.LBFGS([parameters], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = negative_log_likelihood(parameters, x, y, act)
        value.backward()
        return value

    optimizer.step(loss)
    return (parameters.detach() - TRUTH).norm().item()


def mixture(parameters: Tensor, x: Tensor, act: Act) -> tuple[Tensor, Tensor, Tensor]:
    """Weights and means [samples, 2], and the noise's standard deviation."""
    gate, bias, slope, intercept = parameters[:8].view(2, 4).unbind(1)
    temperature, scale = parameters[8:].exp()
    weights = (act(x[:, None] * gate + bias) / temperature).softmax(-1)
    return weights, x[:, None] * slope + intercept, scale


def negative_log_likelihood(parameters: Tensor, x: Tensor, y: Tensor, act: Act) -> Tensor:
    """Mean over samples, up to a constant."""
    weights, means, scale = mixture(parameters, x, act)
    densities = -((y[:, None] - means) / scale).square() / 2 - scale.log()
    return -(weights.log() + densities).logsumexp(-1).mean()


def loss_criterion(text: Text) -> tuple[str, float, bool, str]:
    """Validation loss of the character model with either gate."""
    print("\n| gate | loss | of each seed | active experts |\n| --- | ---: | --- | ---: |")
    losses = {}
    for name, kind in (("temperature", Temperature), ("activation", Activation)):
        results = [train(text, kind, seed, Training(STEPS)) for seed in range(SEEDS)]
        losses[name] = torch.tensor([result.loss for result in results])
        each = " ".join(f"{loss:.3f}" for loss in losses[name])
        active = sum(result.active for result in results) / SEEDS
        print(f"| {name} | {losses[name].mean():.4f} | {each} | {active:.2f} |", flush=True)
    differences = losses["activation"] - losses["temperature"]
    more, limit = differences.mean().item(), 2 * differences.std().item() / SEEDS**0.5
    return ("loss, activation minus temperature", more, more <= limit, f"{limit:.4f}")


if __name__ == "__main__":
    main()
