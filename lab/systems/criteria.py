"""What a system has to reach, beside what was measured."""

from collections.abc import Sequence


def print_criteria(criteria: Sequence[tuple[str, float, bool, str]]) -> bool:
    """Print each measured value beside its limit; True where all limits are met."""
    print("\n| | measured | limit |\n| --- | ---: | ---: |")
    for name, value, met, limit in criteria:
        print(f"| {name} | {value:.4f}{'' if met else ' (missed)'} | {limit} |")
    return all(met for _, _, met, _ in criteria)
