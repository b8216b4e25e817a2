import pytest

from shortlist.report.labels import GAP, name_points, overlap, place

FRAME = (0.0, 0.0, 300.0, 200.0)
SIZE = (40.0, 10.0)


def test_overlap_is_the_shared_area():
    assert overlap((0, 0, 10, 10), (5, 8, 20, 20)) == 10
    assert overlap((0, 0, 10, 10), (10, 0, 20, 10)) == 0
    assert overlap((0, 0, 10, 10), (20, 20, 30, 30)) == 0


def test_a_name_stands_above_to_the_right_where_that_is_free():
    assert place((100, 100), SIZE, [], FRAME) == (100 + GAP, 100 + GAP, 140 + GAP, 110 + GAP)


def test_a_name_stays_within_the_frame():
    left, bottom, right, top = place((295, 195), SIZE, [], FRAME)
    assert right <= 295
    assert top <= 200
    assert (left, bottom) == (295 - GAP - 40, 195 - GAP - 10)


def test_names_of_close_points_do_not_cover_each_other():
    taken = [(94.0, 94.0, 106.0, 106.0)]
    for _ in range(8):
        box = place((100, 100), SIZE, taken, FRAME)
        assert all(overlap(box, other) == 0 for other in taken)
        taken.append(box)


def test_without_room_the_place_that_covers_least_is_taken():
    taken = [(0.0, 0.0, 300.0, 112.0), (0.0, 112.0, 120.0, 200.0)]
    box = place((100, 100), SIZE, taken, (0.0, 0.0, 300.0, 130.0))
    assert sum(overlap(box, other) for other in taken) < 40 * 10 / 2


def test_names_of_a_figure_are_clear_of_points_intervals_and_the_line_at_0():
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8, 3.8), layout="constrained")
    axes = figure.add_subplot()
    points = [("dense", 180.0, 0.0, 0.0), ("exact", 181.0, 0.0, 0.0), ("estimated", 182.0, -0.1, 0.2)]
    others = [(184.0, 0.02)]
    for _, x, y, half in points:
        axes.errorbar(x, y, yerr=half)
    axes.plot(*others[0], marker="o")
    axes.margins(0.25)
    name_points(axes, points, others)
    before = axes.get_window_extent().bounds
    figure.draw_without_rendering()
    assert axes.get_window_extent().bounds == pytest.approx(before)  # names move nothing
    boxes = [text.get_window_extent().extents for text in axes.texts]
    zero = axes.transData.transform((0, 0))[1]
    for number, box in enumerate(boxes):
        assert all(overlap(tuple(box), tuple(other)) == 0 for other in boxes[:number])
        assert not box[1] < zero < box[3]
        for _, x, y, half in [*points, ("", *others[0], 0.0)]:
            (px, low), (_, high) = axes.transData.transform([(x, y - half), (x, y + half)])
            assert overlap(tuple(box), (px - 3, low - 3, px + 3, high + 3)) == 0
    assert [text.get_text() for text in axes.texts] == ["dense", "exact", "estimated"]


def test_a_name_that_is_too_long_leaves_the_axes_as_they_are():
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8, 3.8), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(1.0, 0.0, marker="o")
    name_points(axes, [("a very long name " * 4, 1.0, 0.0, 0.0)])
    before = axes.get_window_extent().bounds
    figure.draw_without_rendering()
    assert axes.get_window_extent().bounds == pytest.approx(before)
