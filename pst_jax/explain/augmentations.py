"""What each augmentation makes of a clip, as a picture.

`python -m pst_jax.explain.augmentations` draws a few frames of a generated clip, or of a video, as
the networks are trained on it: a row for each crop, flip and operation, and for what is done on the
device. All that is drawn is made by the functions of training, at their full probability.
"""

import io
import pathlib
import sys
from collections.abc import Iterator

import jax
import matplotlib.style
import numpy as np
import PIL.Image
from absl import app, flags
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pst_jax.data import clips, motion_scenes, policies, transforms
from pst_jax.data.transforms import ClipSpec
from pst_jax.ops import normalise
from pst_jax.ops.augment import Augmentation, augment
from pst_jax.ops.pixels import IMAGENET_MEAN, IMAGENET_STD

Row = tuple[str, np.ndarray]

NUM_FRAMES, SIZE_PX = 4, 72  # of the clips drawn, pixel by pixel
_COLUMNS = 2  # of rows
_NAME, _GAP, _DPI = 112, 4, 100  # in px
_SEED = 0
_SHARE = 0.9  # of the full magnitude: 9 of 10
_CUTOUT = (0.36, 0.6, 0.4)  # side and place; twice the side that training has, to be seen

# What is done on the device, as it comes out for the first of the two clips at a position in the
# stream that shows it well.
_DEVICE = {
    "colour jitter": (Augmentation(colour_jitter=1.0), 0),
    "random erasing": (Augmentation(erase=1.0), 0),
    "mixup": (Augmentation(mixup=0.8), 0),
    "cutmix": (Augmentation(cutmix=1.0), 4),
}


def generated() -> tuple[np.ndarray, np.ndarray]:
    """Renders two clips of the generated data set, uint8 [T, 2 * SIZE_PX, 2 * SIZE_PX, 3] each."""
    spec = motion_scenes.MotionSpec(2 * SIZE_PX, NUM_FRAMES, "hard", noise=0.0)
    return motion_scenes.render(spec, 0, 19), motion_scenes.render(spec, 4, 21)


def of_video(path: str) -> tuple[np.ndarray, np.ndarray]:
    """Reads a clip of a video as `generated` gives it; the other is that one upside down.

    Raises:
        VideoError: if the video cannot be read.
    """
    size_px = 2 * SIZE_PX
    clip = clips.load_view(path, ClipSpec(NUM_FRAMES, size_px, size_px, crop="none"))
    return clip, clip[:, ::-1]


def rows(clip: np.ndarray, other: np.ndarray) -> Iterator[Row]:
    """Yields the name of each augmentation, and what it makes of a clip.

    Args:
        clip: uint8 [T, 2 * SIZE_PX, 2 * SIZE_PX, 3].
        other: what it is mixed with, likewise.

    Yields:
        Names and uint8 [T, SIZE_PX, SIZE_PX, 3].
    """
    small, other = (transforms.resize(each, SIZE_PX, SIZE_PX) for each in (clip, other))
    yield "as it is", small
    spec = ClipSpec(NUM_FRAMES, SIZE_PX, 2 * SIZE_PX, area_range=(0.3, 0.5))
    square = transforms.random_square(*clip.shape[1:3], spec, np.random.default_rng(_SEED))
    yield "random crop", np.stack([square(frame) for frame in clip])
    yield "flip", transforms.flip_horizontally(small)
    yield "reversal", transforms.play_backwards(small)
    for name in policies.RAND_RELEASED:
        _, given = policies.step(name, _SHARE, policies.PAPER)
        given = _CUTOUT if name == "cutout" else given
        yield name.replace("_", " "), policies.OPERATIONS[name](small, *given)
    for name, (spec, position) in _DEVICE.items():
        yield name, _on_device(np.stack([small, other]), spec, position)


def _on_device(pair: np.ndarray, spec: Augmentation, position: int) -> np.ndarray:
    """The first of a pair of clips, as pixels again."""
    positions = position + np.arange(2)
    video, _ = augment(pair, np.eye(2), positions, jax.random.key(_SEED), spec, normalise)
    pixels = np.asarray(video[0]) * IMAGENET_STD + IMAGENET_MEAN
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def draw(clip: np.ndarray, other: np.ndarray) -> bytes:
    """Draws the rows.

    Args:
        clip: see `rows`.
        other: likewise.

    Returns:
        A PNG; the same arguments give the same bytes.
    """
    drawn = list(rows(clip, other))
    num_lines = -(-len(drawn) // _COLUMNS)
    line, column = SIZE_PX + _GAP, _NAME + NUM_FRAMES * (SIZE_PX + _GAP)
    width, height = _COLUMNS * column + _GAP, num_lines * line + _GAP
    picture = np.full((height, width, 3), 255, np.uint8)
    names = {}
    for number, (name, video) in enumerate(drawn):
        x, y = number // num_lines * column + _NAME, number % num_lines * line + _GAP
        names[x - _NAME + 2 * _GAP, y + SIZE_PX // 2] = name
        for frame in video:
            picture[y : y + SIZE_PX, x : x + SIZE_PX] = frame
            x += SIZE_PX + _GAP
    # Without pyplot: no window system, and no state that outlives the call.
    with matplotlib.style.context(["default", {"font.size": 9, "text.color": "#333333"}]):
        figure = Figure((width / _DPI, height / _DPI), dpi=_DPI)
        figure.figimage(picture)
        for (x, y), name in names.items():
            figure.text(x / width, 1 - y / height, name, va="center")
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    png = io.BytesIO()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    # The last three bits go unseen here, and are most of the bytes; a palette would change greys.
    PIL.Image.fromarray(pixels | 7).save(png, "png", optimize=True)
    return png.getvalue()


def main(argv: list[str]) -> None:
    """Draws what the flags ask for; a user's mistake is one line."""
    if len(argv) > 1:
        raise app.UsageError(f"not understood: {' '.join(argv[1:])}; name a video by --video")
    try:
        pair = of_video(VIDEO.value) if VIDEO.value else generated()
        pathlib.Path(OUT.value).write_bytes(draw(*pair))
    except ValueError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: out={OUT.value!r} cannot be written: {error.strerror}")
    print(OUT.value)


if __name__ == "__main__":
    OUT = flags.DEFINE_string("out", "augmentations.png", "The picture.")
    VIDEO = flags.DEFINE_string("video", "", "A video; default: a generated clip.")
    app.run(main)
