"""Figures of runs."""

from xml.etree import ElementTree

import numpy as np
import pytest
from torch_runs import tiny_config

from shortlist.drawing import settings
from shortlist.errors import UsageError
from shortlist.torch import train as training
from shortlist.torch.train.config import MoEConfig
from shortlist.torch.train.plots import load_figure, routing_figure


def names(folder):
    paths = sorted((folder / "plots").iterdir())
    for path in paths:
        ElementTree.parse(path)  # whole, and XML
    return [path.name for path in paths]


def test_a_run_is_drawn_at_its_end_and_again_on_demand(tmp_path):
    run = training.train(tiny_config(tmp_path, MoEConfig(experts=2)), tmp_path / "run")
    drawn = ["expert-load.svg", "gate-sharpness.svg", "loss.svg", "routing.svg"]
    assert names(run.folder) == drawn
    routing = run.folder / "plots" / "routing.svg"
    before = routing.read_text()
    routing.unlink()
    assert len(training.draw_plots(training.load_run(run.folder))) == 4
    assert names(run.folder) == drawn
    assert routing.read_text() == before


def test_a_dense_run_has_its_loss_alone(tmp_path):
    run = training.train(tiny_config(tmp_path, steps=2), tmp_path / "run")
    assert names(run.folder) == ["loss.svg"]
    (run.folder / "metrics.jsonl").unlink()
    with pytest.raises(UsageError, match="has no metrics yet"):
        training.draw_plots(run)


def maps_of(figure):
    """The values in the maps of two layers."""
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes[:2]]


def test_layers_of_different_sizes():
    lines = [{"step": 3, "experts": [{"load": [0.5, 0.5]}, {"load": [0.2, 0.3, 0.5]}]}]
    with settings("test"):
        figure = load_figure(lines)
        first, second = maps_of(figure)
        assert first.shape == (2, 1)
        assert second[:, 0].tolist() == pytest.approx([0.6, 0.9, 1.5])
        weights = [np.eye(2), np.ones((2, 3)) / 3]
        assert [drawn.shape for drawn in maps_of(routing_figure(["a", "b"], weights))] == [(2, 2), (3, 2)]
