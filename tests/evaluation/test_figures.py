import base64
import io
import itertools
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import matplotlib
import matplotlib.image
import numpy as np
import pytest

from pst_jax.evaluation import figures


def decoded(uri):
    head, _, body = uri.partition(";base64,")
    return head.removeprefix("data:"), base64.b64decode(body, validate=True)


def svg(uri):
    kind, content = decoded(uri)
    assert kind == "image/svg+xml"
    return ElementTree.fromstring(content)


def texts(uri):
    return ["".join(e.itertext()) for e in svg(uri).iter("{http://www.w3.org/2000/svg}text")]


def pixels(uri):
    kind, content = decoded(uri)
    assert kind == "image/jpeg"
    return matplotlib.image.imread(io.BytesIO(content), format="jpg")


def diagonal(num_classes):
    return np.diag(np.full(num_classes, 7))


def test_cells_carry_counts_where_there_are_any():
    counts = np.array([[31, 0, 2], [0, 57, 0], [0, 0, 0]])
    shown = texts(figures.confusion(counts, ["a", "b", "c"]))
    assert sorted(t for t in shown if t.isdigit()) == ["2", "31", "57"]
    assert shown.count("a") == shown.count("b") == shown.count("c") == 2


def test_colours_are_shares_of_the_row_and_rows_without_videos_have_none():
    figure = figures.confusion.__wrapped__(np.array([[3, 1], [0, 0]]), ["a", "b"])
    shares = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(shares.data[0], [0.75, 0.25])
    assert shares.mask.tolist() == [[False, False], [True, True]]


@pytest.mark.parametrize("num_classes, is_counted", [(25, True), (26, False)])
def test_many_classes_go_without_counts(num_classes, is_counted):
    names = [f"name {k}" for k in range(num_classes)]
    assert ("7" in texts(figures.confusion(diagonal(num_classes), names))) == is_counted


@pytest.mark.parametrize("num_classes", [1, 3, 16, 25, 50, 51, 174, 400, 1000])
def test_no_tick_label_overlaps_another(num_classes):
    names = [f"pretending to put something {k}" for k in range(num_classes)]
    figure = figures.confusion.__wrapped__(diagonal(num_classes), names)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        places = zip(axis.get_ticklocs(), axis.get_ticklabels())
        labels = [label for place, label in places if low <= place <= high]
        assert len(labels) >= min(num_classes, 8)
        boxes = [label.get_window_extent() for label in labels]
        assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))
        assert not any(box.overlaps(axes.get_window_extent().padded(-2)) for box in boxes)


def test_counts_of_five_digits_stay_in_their_cells():
    figure = figures.confusion.__wrapped__(np.full((25, 25), 12345), [f"{k}" for k in range(25)])
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 625
    assert not any(a.overlaps(b) for a, b in itertools.pairwise(boxes))


def test_names_are_no_formulas_and_no_markup():
    names = ["from $5 to $6", "<b>&", "_x$", "動画"]
    shown = texts(figures.confusion(diagonal(4), names))
    assert all(shown.count(name) == 2 for name in names)


def test_a_long_name_is_cut_behind_its_number():
    names = [f"a long name, of which the end is cut, {k}" for k in range(2)]
    shown = texts(figures.confusion(diagonal(2), names))
    assert shown.count("1 a long name, of which th…") == 2 and not any("cut" in t for t in shown)


HISTORY = [
    {"step": 10, "split": "train", "loss": 2.5, "top1": 0.1, "learning_rate": 1e-3},
    {"step": 20, "split": "train", "loss": float("nan"), "top1": None, "learning_rate": 5e-4},
    {"step": 30, "split": "train", "loss": 1.5, "top1": 0.5, "learning_rate": 1e-4},
    {"step": 30, "split": "test", "top1": 0.4},
]


def test_learning_curves_have_a_panel_for_what_was_recorded():
    panels = {"loss", "top-1", "learning rate"}
    assert panels | {"train", "test"} <= set(texts(figures.learning(HISTORY)))
    only_tests = texts(figures.learning(HISTORY[3:]))
    assert "top-1" in only_tests and not {"loss", "learning rate", "train"} & set(only_tests)


@pytest.mark.parametrize("history", [[], [{"step": 1, "split": "train", "loss": float("nan")}]])
def test_without_finite_values_there_are_no_learning_curves(history):
    assert figures.learning(history) is None


def test_learning_curves_leave_out_what_is_not_finite_and_average_what_is_long():
    np.testing.assert_array_equal(figures._points(HISTORY, "train", "loss"), [[10, 2.5], [30, 1.5]])
    long = [{"step": i, "split": "train", "loss": i % 2} for i in range(8000)]
    points = figures._points(long, "train", "loss")
    assert len(points) == 400
    np.testing.assert_allclose(points[0], [9.5, 0.5])
    np.testing.assert_allclose(points[-1], [7989.5, 0.5])


def test_half_as_many_predictions_cover_the_same_frames():
    curves = {"all": np.full(8, 0.5), "half": np.array([0.1, 0.2, np.nan, 0.4])}
    lines = dict(zip(curves, figures.LINES))
    figure = figures.frame_curves.__wrapped__(curves, lines, 8, 0.25)
    (axes,) = figure.axes
    chance, whole, half = axes.lines
    assert set(chance.get_ydata()) == {0.25}
    np.testing.assert_allclose(whole.get_xdata(), np.arange(1, 9))
    np.testing.assert_allclose(half.get_xdata(), [1.5, 3.5, 5.5, 7.5])
    assert [line.get_color() for line in (whole, half)] == [figures.LINES[i][0] for i in (0, 1)]
    assert axes.get_xlim() == (0.5, 8.5) and axes.get_ylim() == (0, 1)
    place = axes.get_position()
    np.testing.assert_allclose([place.x0, place.width], [figures.AXIS_LEFT, figures.AXIS_WIDTH])
    # Nothing may be cropped off the picture, or the frames above would not fit the axis.
    assert svg(figures.frame_curves(curves, lines, 8, 0.25)).get("width") == "720pt"


def test_a_strip_holds_the_frames_in_order():
    levels = np.arange(8) * 30
    frames = np.broadcast_to(levels[:, None, None, None], (8, 28, 28, 3)).astype(np.uint8)
    uri, num_columns, width_px = figures.strip(frames)
    shown = pixels(uri)
    assert (num_columns, width_px, shown.shape) == (8, 28, (30, 240, 3))
    np.testing.assert_allclose(shown[15, 15::30, 0], levels, atol=2)


def test_a_strip_of_many_frames_takes_rows_of_equal_length():
    frames = np.zeros((17, 28, 28, 3), np.uint8)
    frames[:, :, :, 1] = np.arange(17)[:, None, None] * 15
    uri, num_columns, _ = figures.strip(frames)
    shown = pixels(uri)
    assert num_columns == 9 and shown.shape == (60, 270, 3)
    np.testing.assert_allclose(shown[15, 15::30, 1], np.arange(9) * 15, atol=3)
    np.testing.assert_allclose(shown[45, 15:240:30, 1], np.arange(9, 17) * 15, atol=3)
    assert shown[45, 255].min() > 250


def test_a_strip_shrinks_large_frames_by_means():
    frames = np.zeros((2, 224, 320, 3), np.uint8)
    frames[:, :, ::2] = 200  # columns of stripes: their mean is 133.3 in blocks of 3
    uri, _, width_px = figures.strip(frames)
    assert width_px == 106
    assert abs(pixels(uri)[30:40, 30:60].mean() - 100) < 3


def test_few_frames_of_many_are_the_middles_of_equal_parts():
    frames = np.arange(32)
    assert figures.spread(frames).tolist() == list(range(1, 32, 2))
    assert figures.spread(frames[:5]).tolist() == [0, 1, 2, 3, 4]
    assert figures.spread(np.arange(17), 4).tolist() == [2, 6, 10, 14]


def test_pictures_depend_on_their_inputs_alone():
    def draw():
        lines = {"a": figures.LINES[0]}
        return [
            figures.confusion(diagonal(3), ["a", "b", "c"]),
            figures.learning(HISTORY),
            figures.frame_curves({"a": np.ones(4)}, lines, 4, 0.5),
            figures.strip(np.zeros((2, 28, 28, 3), np.uint8)),
        ]

    first = draw()
    assert not any("date" in element.tag for element in svg(first[0]).iter())
    with matplotlib.rc_context({"font.size": 20, "axes.grid": True, "svg.hashsalt": "other"}):
        before = dict(matplotlib.rcParams)
        assert draw() == first
        assert dict(matplotlib.rcParams) == before


def test_no_window_system_is_involved():
    code = "import sys, pst_jax.evaluation.page; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
