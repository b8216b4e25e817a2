"""Figures of a report as `measure` gives them, small and with names that would break a page."""

from typing import Any

HOSTILE = "<script>alert('$x_1$')</script>"


def example_figures() -> dict[str, Any]:
    """For the tests of what shows figures; `test_measure` checks that real ones have the same form."""
    point = {
        "name": "dense",
        "positions": 384,
        "tokens_per_s": 180.0,
        "perplexity": 20.0,
        "perplexity_change": 0.0,
        "perplexity_change_error": 0.0,
        "agreement": 1.0,
        "rows_share": 1.0,
        "bytes_per_token": 96e6,
        "layer_bytes": 66e6,
    }
    estimated = point | {
        "name": "estimated",
        "tokens_per_s": 210.0,
        "perplexity_change": -0.002,
        "perplexity_change_error": 0.001,
        "agreement": 383 / 384,
        "rows_share": 0.08,
        "bytes_per_token": 74e6,
    }
    return {
        "version": 1,
        "model": HOSTILE,
        "file": HOSTILE + ".gguf",
        "fingerprint": "ab" * 32,
        "machine": {"threads": 2, "isa": "avx2", "read_gb_s": 26.0},
        "text": {"written_by_the_model": False, "fit_tokens": 1024, "test_tokens": 384},
        "bytes": {
            "file": {
                "feed-forward": {"bytes": 50_000_000, "types": ["Q4_1"]},
                "head = embedding": {"bytes": 30_000_000, "types": ["Q8_0"]},
                "attention": {"bytes": 16_000_000, "types": ["Q4_1"]},
            },
            "per_token": {
                "dense": {"attention": 16e6, "feed-forward": 50e6, "head": 30e6},
                "estimated": {"attention": 16e6, "feed-forward": 50e6, "head": 8e6},
            },
        },
        "speed": {
            "points": [point, estimated],
            "peer": {"name": "llama.cpp", "tokens_per_s": 90.0, "bytes_per_token": 97e6},
            "frontier": [
                {
                    "name": HOSTILE,
                    "tokens_per_s": 220.0,
                    "perplexity_change": 0.004,
                    "agreement": 0.99,
                    "bytes_per_token": 70e6,
                }
            ],
        },
        "strip": {
            "head": "estimated",
            "rows": 1000,
            "tokens": [
                _token(" the", 5, 1),
                _token(HOSTILE, 400, 3),
                _token("\n", 20, 1),
                _token('"&', 1000, 1),
            ],
        },
        "layers": {
            "channels": {
                "qkv": [1.0, 0.5],
                "o": [1.0, 1.0],
                "gate_up": [0.75, 0.5],
                "down": [0.25, 0.5],
            },
            "neurons": 1.0,
        },
        "recall": {
            "head": {
                "rows": 1000,
                "width": 64,
                "sample": 500,
                "methods": [
                    _method("random", 0.05, {"top-1": 0.0, "top-32": 0.01}),
                    _method("low_rank", 0.16, {"top-1": 0.95, "top-32": 0.88}),
                    _method("low_rank", 0.27, {"top-1": 0.99, "top-32": 0.94}),
                    _method("exact", 1.0, {"top-1": 1.0, "top-32": 1.0}),
                ],
            },
            "ffn": {
                "layer": 1,
                "neurons": 256,
                "width": 64,
                "methods": [
                    _method("random", 0.07, {"top 10 %": 0.2}),
                    _method("quantized", 0.3, {"top 10 %": 0.88}),
                    _method("gate", 1 / 3, {"top 10 %": 0.64}),
                ],
            },
        },
    }


def _token(text: str, rows: int, rank: int) -> dict[str, Any]:
    return {
        "text": text,
        "rows": rows,
        "candidates": [[HOSTILE, 0.5], [" a", 0.25]],
        "chose": HOSTILE,
        "dense_rank": rank,
    }


def _method(estimator: str, share: float, found: dict[str, float]) -> dict[str, Any]:
    return {
        "estimator": estimator,
        "label": f"{estimator}, rank 1",
        "bytes_share": share,
        "found": found,
        "fit_seconds": 0.5,
    }
