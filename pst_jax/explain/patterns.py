"""What a patch-shift pattern lets a query see, as a picture.

`python -m pst_jax.explain.patterns` draws the printed patterns: the tile of frame offsets, and the
cells of which frames attend together in the middle frame of a clip. All that is drawn is computed
by the functions that the networks themselves use.

Source: PST (ECCV 2022), Section 3, "Temporal Patch Shift".
"""

import ast
import io
import pathlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib.style
import numpy as np
import PIL.Image
from absl import app, flags
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pst_jax.ops.temporal_patch_shift import PATTERNS, as_tile, frame_offsets, source_frames

Pattern = str | Sequence[Sequence[int]]

MAX_COLUMNS = 32  # frames side by side: with more, their cells cannot be told apart
MAX_OFFSET = 999  # so that a cell has room for its number
_IDEA = "A"  # the pattern of the top row: it reaches one frame to each side

# Blue for earlier frames, yellow for the own one, red for later ones. Not a stock map: their
# middle is white or grey, which here are the cells that do not attend.
_SHADES = ["#8e1230", "#e2604a", "#f5a582", "#ffd95c", "#92c9e8", "#4a90c9", "#1f3c88"]
_MAP = LinearSegmentedColormap.from_list("offsets", _SHADES)
_DARKEST = max(abs(offset) for tile in PATTERNS.values() for row in tile for offset in row)
_INK, _FAINT = "#333333", "#ececec"
_STYLE = {"font.size": 8, "text.color": _INK}

# In inches; the picture has twice the pixels that the README shows, for fine screens.
_WIDTH, _DPI = 10, 200
_MARGIN, _GAP = 0.15, 0.06
_IDEA_SIDE, _IDEA_HEIGHT = 0.85, 1.95
_TILE_SIDE, _ROW_HEIGHT = 1.4, 1.8
_STRIP_LEFT, _STRIP_SIDE = 1.85, 0.95  # the strip's windows are that large at most


class Sight(NamedTuple):
    """What the window of one frame holds after the shift, counted.

    Attributes:
        cells: cells of the window.
        moved: those whose token is from another frame.
        frames: distinct frames that the tokens are from.
        earlier: steps to the earliest frame that an offset names, 0 for none.
        later: steps to the latest one.
        wrapped: cells whose offset names a frame past an end of the clip.
    """

    cells: int
    moved: int
    frames: int
    earlier: int
    later: int
    wrapped: int


def window_offsets(pattern: Pattern, window: tuple[int, int]) -> np.ndarray:
    """Returns int [h, w]: the pattern's frame offset at each cell of a window, whole tiles or not.

    Args:
        pattern: a name of `PATTERNS`, or rows of frame offsets.
        window: (h, w) in cells.

    Raises:
        ValueError: for what is no pattern, or for one that is larger than the window.
    """
    tile = np.array(as_tile(pattern))
    if tile.shape[0] > window[0] or tile.shape[1] > window[1]:
        raise ValueError(
            f"pattern={pattern!r} is {tile.shape[0]}x{tile.shape[1]} cells, larger than the window "
            f"of {window[0]}x{window[1]}: take a smaller pattern or a larger window"
        )
    return frame_offsets(pattern, *window)


def seen_cells(
    pattern: Pattern, window: tuple[int, int], num_frames: int, frame: int
) -> np.ndarray:
    """Says which cells of which frames attend together in a frame.

    Args:
        pattern: a name of `PATTERNS`, or rows of frame offsets.
        window: (h, w) in cells.
        num_frames: frames T of the clip, whose ends wrap.
        frame: the frame in which they attend.

    Returns:
        bool [T, h, w]; each cell of the window is true in exactly one of the frames.

    Raises:
        ValueError: as `window_offsets`.
    """
    sources = source_frames(window_offsets(pattern, window), num_frames)[frame]
    return np.arange(num_frames)[:, None, None] == sources


def query_cell(pattern: Pattern, window: tuple[int, int]) -> tuple[int, int]:
    """Returns (row, column) of the query shown: of the cells that move least, the most central."""
    offsets = window_offsets(pattern, window)
    rows, columns = np.indices(window)
    from_centre = np.hypot(rows - (window[0] - 1) / 2, columns - (window[1] - 1) / 2)
    order = np.lexsort((from_centre.ravel(), np.abs(offsets).ravel()))
    return divmod(int(order[0]), window[1])


def sight(pattern: Pattern, window: tuple[int, int], num_frames: int, frame: int) -> Sight:
    """Counts what `seen_cells`, of the same arguments, shows."""
    seen = seen_cells(pattern, window, num_frames, frame)
    offsets = window_offsets(pattern, window)
    named = frame - offsets
    return Sight(
        cells=offsets.size,
        moved=int(offsets.size - seen[frame].sum()),
        frames=int(seen.any(axis=(1, 2)).sum()),
        earlier=max(0, int(offsets.max())),
        later=max(0, int(-offsets.min())),
        wrapped=int(((named < 0) | (named >= num_frames)).sum()),
    )


def caption(seen: Sight) -> str:
    """Says a Sight in one line."""
    frames = "1 frame" if seen.frames == 1 else f"{seen.frames} different frames"
    text = (
        f"{seen.cells} cells from {frames}: {seen.cells - seen.moved} stay, "
        f"{seen.moved} ({seen.moved / seen.cells:.0%}) come from others; "
        f"reach {seen.earlier} back, {seen.later} ahead"
    ).replace("%", " %")
    return text + (f"; {seen.wrapped} wrap at the clip's ends" if seen.wrapped else "")


def draw(patterns: Sequence[Pattern], window: tuple[int, int], num_frames: int) -> bytes:
    """Draws the idea and, for each pattern, its tile and what a query of the middle frame sees.

    Args:
        patterns: names of `PATTERNS`, or tiles.
        window: (h, w) in cells.
        num_frames: frames of the clip.

    Returns:
        A PNG, 2000 pixels wide; the same arguments give the same bytes.

    Raises:
        ValueError: as `window_offsets`; or for offsets beyond MAX_OFFSET, or more than MAX_COLUMNS
            frames to draw.
    """
    scene = _scene(patterns, window, num_frames)
    height = _IDEA_HEIGHT + _ROW_HEIGHT * len(patterns)
    # Without pyplot: no window system, and no state that outlives the call.
    with matplotlib.style.context(["default", _STYLE]):
        figure = Figure((_WIDTH, height), dpi=_DPI)
        # In inches from the top left corner.
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, _WIDTH), ylim=(height, 0))
        axes.set_axis_off()
        _draw_idea(axes, scene)
        _write_legend(axes, scene)
        for row, pattern in enumerate(patterns):
            top = _IDEA_HEIGHT + _ROW_HEIGHT * row
            _draw_tile(axes, top, scene, pattern)
            _draw_strip(axes, top, scene, pattern)
        return _as_png(figure)


def _as_png(figure: Figure) -> bytes:
    """Draws by Agg, with a palette: a third of the bytes, and no version of matplotlib in them."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = io.BytesIO()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    PIL.Image.fromarray(pixels).quantize().save(picture, "png", optimize=True)
    return picture.getvalue()


class _Scene(NamedTuple):
    """What all rows share: the window, the clip, its middle frame and the frames shown."""

    window: tuple[int, int]
    num_frames: int
    middle: int
    shown: range


def _scene(patterns: Sequence[Pattern], window: tuple[int, int], num_frames: int) -> _Scene:
    middle = num_frames // 2
    for pattern in patterns:
        if np.abs(window_offsets(pattern, window)).max() > MAX_OFFSET:
            raise ValueError(
                f"pattern={pattern!r}: offsets beyond {MAX_OFFSET} frames do not fit into a cell"
            )
    seen = [seen_cells(pattern, window, num_frames, middle) for pattern in patterns]
    frames = np.flatnonzero(np.any(seen, axis=(0, 2, 3)))
    shown = range(min(frames[0], middle), max(frames[-1], middle) + 1)
    if len(shown) > MAX_COLUMNS:
        raise ValueError(
            f"the patterns reach over {len(shown)} frames and at most {MAX_COLUMNS} can be drawn: "
            "take patterns with smaller offsets, or fewer frames"
        )
    return _Scene(window, num_frames, middle, shown)


def _draw_idea(axes: Axes, scene: _Scene) -> None:
    """Draws three frames, the shifted one, attention in it, and the patches at home again."""
    mosaic = _colours(window_offsets(_IDEA, scene.window))
    home = [np.full(scene.window, offset) for offset in (1, 0, -1)]
    met = seen_cells(_IDEA, scene.window, num_frames=3, frame=1)
    stages = [  # title, what it shows of which frames, and the arrow that leads on
        ("three frames", [_colours(offsets) for offsets in home], "shift"),
        ("frame t: a mosaic", [mosaic], "attend"),
        ("attention in the window", [mosaic], "shift back"),
        ("home again, each having met the others", list(map(_colours, home, met)), None),
    ]
    top, left, side = 0.55, _MARGIN, _IDEA_SIDE
    arrow = (_WIDTH - 2 * _MARGIN - 8 * side - 4 * _GAP) / 3
    for title, frames, leads_on in stages:
        names = ["t−1", "t", "t+1"] if len(frames) == 3 else ["t"]
        width = len(frames) * (side + _GAP) - _GAP
        _write(axes, left + width / 2, top - 0.32, title, ha="center", weight="bold")
        for name, colours in zip(names, frames):
            _draw_window(axes, left, top, side, colours)
            _write(axes, left + side / 2, top - 0.1, name, ha="center")
            left += side + _GAP
        if leads_on == "shift back":
            _draw_fan(axes, left - side - _GAP, top, side, scene.window)
        if leads_on:
            _draw_arrow(axes, left - _GAP, top + side / 2, arrow, leads_on)
            left += arrow - _GAP


def _draw_arrow(axes: Axes, left: float, middle: float, length: float, name: str) -> None:
    ends = {"xy": (left + length - 0.08, middle), "xytext": (left + 0.08, middle)}
    axes.annotate("", **ends, arrowprops={"arrowstyle": "-|>", "color": _INK, "lw": 1.2})
    _write(axes, left + length / 2, middle - 0.12, name, ha="center")


def _draw_fan(axes: Axes, left: float, top: float, side: float, window: tuple[int, int]) -> None:
    """Draws a line from the query to every cell of its window."""
    query, cell = query_cell(_IDEA, window), side / max(window)
    rows, columns = np.indices(window) + 0.5
    for row, column in zip(rows.ravel(), columns.ravel()):
        x, y = (query[1] + 0.5, column), (query[0] + 0.5, row)
        axes.plot(left + cell * np.array(x), top + cell * np.array(y), color=_INK, lw=4 * cell)
    _mark(axes, left, top, cell, query)


def _write_legend(axes: Axes, scene: _Scene) -> None:
    lines = (
        "Offset +s: the cell takes the token of the frame s steps earlier (blue); −s: of a later "
        "one (red); 0: it stays (yellow). Box: one tile. Dot: a query.",
        "Right: the clip before the shift. Coloured: what attends in frame t = "
        f"{scene.middle} (of 0 to {scene.num_frames - 1}), one full window; pale: in other frames. "
        "Offsets wrap at the clip's ends.",
    )
    for line, text in enumerate(lines):
        _write(axes, _MARGIN, 1.6 + 0.16 * line, text)


def _draw_tile(axes: Axes, top: float, scene: _Scene, pattern: Pattern) -> None:
    """Draws the offsets of a window, and a box around the first tile."""
    offsets = window_offsets(pattern, scene.window)
    cell = _TILE_SIDE / max(scene.window)
    colours = _colours(offsets)
    top += 0.35
    _draw_window(axes, _MARGIN, top, _TILE_SIDE, colours)
    texts = [f"{offset:+d}".replace("-", "−") if offset else "0" for offset in offsets.ravel()]
    size = min(7.5, cell * 72 / (0.8 * max(map(len, texts))))
    for (row, column), text in zip(np.ndindex(scene.window), texts):
        is_dark = colours[row, column] @ (0.3, 0.59, 0.11) < 0.55
        colour = "white" if is_dark else _INK
        x, y = _MARGIN + (column + 0.5) * cell, top + (row + 0.5) * cell
        _write(axes, x, y, text, ha="center", fontsize=size, color=colour)
    rows, columns = np.shape(as_tile(pattern))
    box = {"fill": False, "edgecolor": _INK, "lw": 2}
    axes.add_patch(Rectangle((_MARGIN, top), columns * cell, rows * cell, **box))


def _draw_strip(axes: Axes, top: float, scene: _Scene, pattern: Pattern) -> None:
    """Draws the frames of the clip, coloured where they attend in the middle one."""
    seen = seen_cells(pattern, scene.window, scene.num_frames, scene.middle)
    offsets = window_offsets(pattern, scene.window)
    query = query_cell(pattern, scene.window)
    pitch = (_WIDTH - _MARGIN - _STRIP_LEFT + _GAP) / len(scene.shown)
    side = min(_STRIP_SIDE, pitch - _GAP)
    middle = top + 0.35 + _TILE_SIDE / 2
    font = {"ha": "center", "fontsize": min(8, pitch * 72 / 3.2)}  # room for t−31
    for column, frame in enumerate(scene.shown):
        left, name = _STRIP_LEFT + column * (side + _GAP), f"{frame - scene.middle:+d}"
        name = "t" + name.replace("-", "−") if frame != scene.middle else "t"
        colours = _colours(offsets, seen[frame])
        weight = "bold" if seen[frame].any() else "normal"
        _write(axes, left + side / 2, middle - side / 2 - 0.1, name, weight=weight, **font)
        _draw_window(axes, left, middle - side / 2, side, colours)
        if seen[frame][query]:
            _mark(axes, left, middle - side / 2, side / max(scene.window), query)
    text = caption(sight(pattern, scene.window, scene.num_frames, scene.middle))
    name = pattern if isinstance(pattern, str) else "of {}x{}".format(*np.shape(pattern))
    _write(axes, _MARGIN, top + 0.22, f"Pattern {name}", weight="bold", fontsize=9)
    _write(axes, _STRIP_LEFT, middle + side / 2 + 0.15, text)


def _colours(offsets: np.ndarray, is_seen: np.ndarray | bool = True) -> np.ndarray:
    """Returns float [h, w, 3]: RGB of each offset where it is seen, pale elsewhere."""
    # The root: offsets 0 and 1 can be told apart beside an 8.
    shares = np.sign(offsets) * np.sqrt(np.clip(np.abs(offsets) / _DARKEST, 0, 1))
    colours = _MAP((shares + 1) / 2)[..., :3]
    return np.where(np.broadcast_to(is_seen, offsets.shape)[..., None], colours, to_rgb(_FAINT))


def _draw_window(axes: Axes, left: float, top: float, side: float, colours: np.ndarray) -> None:
    rows, columns = colours.shape[:2]
    cell = side / max(rows, columns)
    x, y = left + cell * np.arange(columns + 1), top + cell * np.arange(rows + 1)
    axes.pcolormesh(x, y, colours, edgecolors="white", lw=3 * cell, antialiased=True)


def _mark(axes: Axes, left: float, top: float, cell: float, query: tuple[int, int]) -> None:
    x, y = left + (query[1] + 0.5) * cell, top + (query[0] + 0.5) * cell
    axes.plot(x, y, "o", color=_INK, ms=36 * cell, mec="white", mew=4 * cell)


def _write(axes: Axes, x: float, y: float, text: str, **options) -> None:
    axes.text(x, y, text, va="center", parse_math=False, **options)


def read_pattern(text: str) -> Pattern:
    """Reads a flag's text: a tile as Python writes it, or else a name; `draw` checks them."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, TypeError, ValueError):
        return text


def main(argv: list[str]) -> None:
    """Draws what the flags ask for; a user's mistake is one line."""
    if len(argv) > 1:
        raise app.UsageError(f"not understood: {' '.join(argv[1:])}; name patterns by --pattern")
    try:
        patterns = [read_pattern(text) for text in PATTERN.value or PATTERNS]
        picture = draw(patterns, (WINDOW.value, WINDOW.value), NUM_FRAMES.value)
        pathlib.Path(OUT.value).write_bytes(picture)
    except ValueError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: out={OUT.value!r} cannot be written: {error.strerror}")
    print(OUT.value)


if __name__ == "__main__":
    PATTERN = flags.DEFINE_multi_string(
        "pattern",
        None,
        "A name, or a tile such as '((0,1),(1,0))'; may be given again. Default: all that have a "
        "name.",
    )
    NUM_FRAMES = flags.DEFINE_integer("num_frames", 16, "Frames of the clip.", lower_bound=1)
    WINDOW = flags.DEFINE_integer(
        "window", 7, "Height and width of the window.", lower_bound=2, upper_bound=16
    )
    OUT = flags.DEFINE_string("out", "patterns.png", "The picture.")
    app.run(main)
