import sys

import pytest

from shortlist.drawing import INK, LOOKS, check_installed, settings, to_svg
from shortlist.errors import ShortlistError
from shortlist.estimators import ESTIMATORS
from shortlist.measure.recall import all_estimators


def test_a_missing_library_is_one_line_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ShortlistError, match=r"pip install 'shortlist\[report\]'$"):
        check_installed()


def test_every_estimator_that_is_compared_has_a_look_of_its_own():
    names = {estimator.name for estimator in all_estimators(True)} | {"mixed_width", "gate"}
    assert names == set(LOOKS)
    assert names - {"gate"} <= set(ESTIMATORS)
    assert len({(look.colour, look.marker, look.line) for look in LOOKS.values()}) == len(LOOKS)
    shapes = [look.marker for look in LOOKS.values()]
    assert len(set(shapes)) == len(shapes)  # so they differ without colour too


def test_a_figure_takes_the_page_s_colour_and_keeps_its_text():
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    with settings("a test"):
        figure = Figure(figsize=(3, 2))
        figure.add_subplot().set_xlabel("cost of $1 & $2")
        svg = to_svg(figure, 'a "label"')
    assert svg.startswith('<svg role="img" aria-label="a &quot;label&quot;"')
    assert "viewBox" in svg
    assert "cost of $1 &amp; $2</text>" in svg
    assert "currentColor" in svg
    assert INK not in svg
    assert "<metadata" not in svg
    assert ' id="figure_1"' not in svg
