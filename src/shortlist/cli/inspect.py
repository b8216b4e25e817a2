"""`shortlist inspect`: a model's configuration, the bytes of its parts, and its recipe's measurements."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from shortlist.cli import options as shared
from shortlist.cli.output import megabytes, print_json
from shortlist.cli.tables import console, print_table

if TYPE_CHECKING:
    from rich.table import Table

    from shortlist.spec.config import ModelConfig

BAR = 24  # characters of a bar for all bytes
LEAST_BAR, BESIDE_BAR = 4, 50  # on a narrow terminal; about the width of the text beside it


def inspect(model: shared.ModelName, recipe: shared.Recipe = None, json: shared.Json = False) -> None:
    """Show the sizes of MODEL, where its bytes are, and its recipe. The weights are not read."""
    from shortlist import checkpoints
    from shortlist.checkpoints.parts import describe_parts
    from shortlist.engine.choose_head import stored_recipe

    with checkpoints.open_checkpoint(checkpoints.resolve(model)) as checkpoint:
        stored = stored_recipe(checkpoint.fingerprint, recipe)
        report = {
            "model": model,
            "path": str(checkpoint.path),
            "fingerprint": checkpoint.fingerprint,
            "config": describe_config(checkpoint.config),
            "parts": describe_parts(checkpoint),
            "recipe": stored and stored.summary(),
        }
    if json:
        print_json(report)
    else:
        print_report(report)


def describe_config(config: "ModelConfig") -> dict[str, Any]:
    """The configuration, with long lists shortened."""
    report = asdict(config)
    del report["rope_frequencies"]
    windows = report.pop("windows")
    if config.mixture:
        report["mixture"]["layers"] = len(config.mixture.layers)
    return {**report, "layers_with_window": sum(window > 0 for window in windows)}


def print_report(report: dict[str, Any]) -> None:
    """Print a few lines, a bar for each part, and the recipe."""
    from rich.table import Table

    config, parts = report["config"], report["parts"]
    total = sum(part["bytes"] for part in parts.values())
    out = console()

    facts = Table.grid(padding=(0, 2))
    facts.add_row("file", report["path"])
    facts.add_row("family", config["family"])
    facts.add_row(
        "layers", f"{config['layers']}, {config['layers_with_window']} of them with a sliding window"
    )
    facts.add_row("width", f"{config['width']}, feed-forward {config['ffn_width']}")
    if mixture := config["mixture"]:
        facts.add_row("experts", describe_mixture(mixture))
    heads = f"{config['heads']} heads of {config['head_dim']}, {config['kv_heads']} for keys and values"
    facts.add_row("attention", heads)
    facts.add_row("vocabulary", f"{config['vocab_size']} tokens")
    facts.add_row("context", f"{config['context_length']} tokens")
    facts.add_row("weights", megabytes(total))
    print_table(out, facts)

    bars = Table.grid(padding=(0, 2))
    for name, part in parts.items():
        share = part["bytes"] / total
        bar = "█" * max(1, round(share * min(BAR, max(LEAST_BAR, out.width - BESIDE_BAR))))
        bars.add_row(name, bar, f"{share:.1%}", megabytes(part["bytes"]), ", ".join(part["types"]))
    out.print()
    print_table(out, bars)
    out.print()
    if report["recipe"] is None:
        out.print(
            f"no recipe: shortlist fit {report['model']} fits one for the estimated head", soft_wrap=True
        )
    else:
        print_table(out, describe_recipe(report["recipe"]))


def describe_mixture(mixture: dict[str, Any]) -> str:
    """The number of experts, and the number that a token uses."""
    shared = f", and a shared one of {mixture['shared_width']}" if mixture["shared_width"] else ""
    return (
        f"{mixture['experts']} of width {mixture['width']} in {mixture['layers']} layers, "
        f"{mixture['per_token'] or 'as many as it needs'} per token{shared}"
    )


def describe_recipe(summary: dict[str, Any]) -> "Table":
    """A table of the recipe's sites, and of its measurements against dense."""
    from rich.table import Table

    from shortlist.engine.choose_head import how_often_it_differs

    table = Table.grid(padding=(0, 2))
    measured = summary["measured"]
    alike: dict[tuple[str, str], list[str]] = {}  # most layers have the same neurons
    for name, part in summary["sites"].items():
        text = _described(part, measured.get("places", {}).get(name, {}))
        alike.setdefault((name.rpartition(".")[2], text), []).append(name)
    for (kind, text), names in alike.items():
        table.add_row(f"recipe, {names[0] if len(names) == 1 else f'{kind} of {len(names)} layers'}", text)
        if kind == "head" and text.startswith("estimated"):
            table.add_row("", how_often_it_differs(measured))
    for name, part in summary["alternatives"].items():
        table.add_row(f"fitted too, {name}", _described(part, {}))
    for name in [name for name in ("head", "whole") if name in measured] or ["whole"]:
        try:
            for row in _measured(name, measured[name]):
                table.add_row(*row)
        except (KeyError, TypeError, ValueError):
            table.add_row("measured", f"the recipe does not say what its {name} measured: use eval")
    return table


def _measured(name: str, measured: dict[str, Any]) -> list[tuple[str, str]]:
    dense, shortlisted = measured["dense"], measured["shortlisted"]
    rows = [
        ("", ""),
        (f"{name}, measured on", f"{measured['tokens']} tokens"),
        (
            "read per token",
            f"{megabytes(shortlisted['bytes_per_token'])} instead of {megabytes(dense['bytes_per_token'])}",
        ),
        ("head rows read", f"{shortlisted['rows_share']:.2%}"),
        ("agreement", f"{shortlisted['agreement']:.3%}"),
        (
            "perplexity",
            f"{shortlisted['perplexity_change']:+.4%} ± {1.96 * shortlisted['perplexity_change_error']:.4%}",
        ),
    ]
    if seconds := measured.get("seconds_per_token"):
        rows.append(("ms per token", ", ".join(f"{head} {1e3 * s:.2f}" for head, s in seconds.items())))
    return rows


def _described(part: dict[str, Any] | None, figures: dict[str, Any]) -> str:
    if part is None:
        return "dense"
    keep = f"{figures['keep']:.0%} of the channels, " if "keep" in figures else ""
    return f"{keep}{part['way']}: {_method(part['estimator'])}, {_method(part['selector'])}"


def _method(options: dict[str, Any]) -> str:
    rest = ", ".join(f"{name} {value}" for name, value in options.items() if name != "name")
    return f"{options['name']} ({rest})"
