from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from scripts import demo

from shortlist.peers.bench import BenchOptions


def _quality(agreement: float) -> Any:
    shortlisted = SimpleNamespace(rows_share=0.0123, agreement=agreement, perplexity=20.5)
    return SimpleNamespace(dense=SimpleNamespace(perplexity=20.0), shortlisted=shortlisted)


def _run(head: str, speed: float) -> dict[str, Any]:
    return {"head": head, "decode_tokens_per_s": speed, "bytes_per_token": 1e8, "bandwidth_share": 0.5}


def test_table_has_every_head_beside_dense() -> None:
    report = {
        "machine": {"threads": 2, "isa": "avx2", "read_gb_s": 20.04},
        "runs": [_run("dense", 100.0), _run("estimated", 300.0), _run("exact", 200.0)],
    }
    qualities = {"estimated": _quality(0.9985), "exact": _quality(1.0)}
    console = Console(width=100, record=True)
    console.print(demo.table(report, qualities))
    rows = [line.replace("│", " ").split() for line in console.export_text().splitlines()]
    assert ["decode,", "tokens/s", "100", "300", "200"] in rows
    assert ["read", "per", "token,", "MB", "100.0", "100.0", "100.0"] in rows
    assert ["same", "greedy", "token", "as", "dense", "100.00%", "99.85%", "100.00%"] in rows
    assert ["perplexity", "20.000", "20.500", "20.500"] in rows
    assert any("20.0" in row and "GB/s" in row for row in rows)


@pytest.mark.slow
@pytest.mark.usefixtures("smollm2")
def test_demo_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(demo, "BENCH", BenchOptions(decode_tokens=4, repetitions=1))
    monkeypatch.setattr(demo, "QUALITY_TOKENS", 64)
    demo.main()
    shown = capsys.readouterr().out
    assert demo.REQUEST in shown
    assert "perplexity" in shown
