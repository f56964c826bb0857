"""Scenes of the generated data set: twin classes that only the order of the frames tells apart.

Class 2k + 1 is class 2k played backwards, frame for frame. Every other law (camera, speed, spin,
texture, noise) is the same forwards and backwards, so a model that does not see time cannot
decide between the two. Coordinates: x right, y down, the frame spans [-1, 1]; angles grow
clockwise on the screen. `motion.py` writes the scenes to video files.
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial

import numpy as np

PAIRS: tuple[tuple[str, str], ...] = (
    ("left", "right"),
    ("up", "down"),
    ("up_left", "down_right"),
    ("up_right", "down_left"),
    ("approach", "retreat"),
    ("cover", "uncover"),
    ("together", "apart"),
    ("enter", "leave"),
)
# Only in difficulty "hard": the small demonstration networks do not learn the turning motions.
HARD_PAIRS = (("rotate_cw", "rotate_ccw"), ("orbit_cw", "orbit_ccw"))

# Words that a horizontal flip exchanges, whole or as a part between underscores.
FLIPPED_WORDS = {"left": "right", "right": "left", "cw": "ccw", "ccw": "cw"}

SPLITS = ("train", "test")


@dataclasses.dataclass(frozen=True)
class Look:
    """How hard the pixels make it; brightness in [0, 1], lengths in half frames."""

    background: tuple[float, float]
    distractor: tuple[float, float]
    objects: tuple[float, float]
    object_scale: float
    camera_drift: float
    camera_wobble: float


LOOKS = {
    "easy": Look((0.0, 0.35), (0.1, 0.4), (0.5, 1.0), 1.0, 0.06, 0.02),
    "hard": Look((0.0, 0.6), (0.3, 0.9), (0.35, 1.0), 0.8, 0.30, 0.05),
}


@dataclasses.dataclass(frozen=True)
class MotionSpec:
    """What the clips of a generated data set look like.

    Attributes:
        size_px: height and width; even, at least 16.
        num_frames: frames of a clip; at least 2.
        difficulty: "easy" (16 classes) or "hard" (cluttered, moving camera, 20 classes).
        noise: standard deviation of the sensor noise, as a part of full brightness.
        fps: frames per second of the files.
    """

    size_px: int = 28
    num_frames: int = 17
    difficulty: str = "easy"
    noise: float = 0.02
    fps: int = 8

    def __post_init__(self):
        """Refuses values that cannot be drawn or encoded."""
        if self.size_px < 16 or self.size_px % 2:
            raise ValueError(
                f"size_px={self.size_px} must be even and at least 16: the files store colour at "
                "half the resolution"
            )
        if self.num_frames < 2:
            raise ValueError(f"num_frames={self.num_frames} must be at least 2 to show a motion")
        if self.difficulty not in LOOKS:
            raise ValueError(f"difficulty={self.difficulty!r} must be one of {', '.join(LOOKS)}")
        if not 0 <= self.noise <= 0.5:
            raise ValueError(f"noise={self.noise} must be within 0 and 0.5")
        if self.fps < 1:
            raise ValueError(f"fps={self.fps} must be at least 1")


def pairs(difficulty: str = "easy") -> tuple[tuple[str, str], ...]:
    """Returns the (forward, backward) class names, pair by pair."""
    if difficulty not in LOOKS:
        raise ValueError(f"difficulty={difficulty!r} must be one of {', '.join(LOOKS)}")
    return PAIRS + HARD_PAIRS if difficulty == "hard" else PAIRS


def class_names(difficulty: str = "easy") -> tuple[str, ...]:
    """Returns the class names in the order of the labels."""
    return tuple(name for pair in pairs(difficulty) for name in pair)


def reverse_labels(difficulty: str = "easy") -> np.ndarray:
    """Returns int64 [classes]: the label of each class's clips when played backwards."""
    return np.arange(len(class_names(difficulty))) ^ 1


def flip_labels(difficulty: str = "easy") -> np.ndarray:
    """Returns int64 [classes]: the label of each class's clips when mirrored left to right."""
    names = class_names(difficulty)
    flipped = ("_".join(FLIPPED_WORDS.get(w, w) for w in name.split("_")) for name in names)
    return np.array([names.index(name) for name in flipped])


# Shapes: signed distance (negative inside) on object coordinates, about 1 at the rim. None is
# round, so that turning shows; each is its own mirror image, so that a flipped clip is in the law.


def _box(x, y, half_x, half_y):
    return np.maximum(np.abs(x) - half_x, np.abs(y) - half_y)


SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "square": lambda x, y: _box(x, y, 0.8, 0.8),
    "bar": lambda x, y: _box(x, y, 1.0, 0.55),
    "triangle": lambda x, y: np.maximum(y - 0.65, 0.87 * np.abs(x) - 0.5 * y - 0.5),
    "cross": lambda x, y: np.minimum(_box(x, y, 1.0, 0.42), _box(x, y, 0.42, 1.0)),
    "half_disc": lambda x, y: np.maximum(np.hypot(x, y + 0.3) - 1.0, -0.3 - y),
    "horseshoe": lambda x, y: np.maximum(_box(x, y, 0.85, 0.85), -_box(x, y + 0.6, 0.3, 0.7)),
}


@dataclasses.dataclass
class Actor:
    """One object: where it is in every frame, and how bright within the range of objects."""

    centre: np.ndarray  # [T, 2] x, y
    radius: np.ndarray | float  # [T] or constant
    angle: np.ndarray | float = 0.0  # [T], radians, on top of the random first angle and spin
    shape: str | None = None  # None: drawn at random
    tone: tuple[float, float] = (0.0, 1.0)


# Scenes: (rng, phase [T] from 0 to 1, object scale) -> actors, the last in front.


def _place(rng, spread):
    return rng.uniform(-spread, spread, 2)


def _heading(rng):
    angle = rng.uniform(0, 2 * math.pi)
    return np.array([math.cos(angle), math.sin(angle)])


def _translate(rng, phase, scale, towards):
    reach = rng.uniform(0.5, 0.65) * np.array(towards)
    centre = _place(rng, 0.15) + (2 * phase[:, None] - 1) * reach
    return [Actor(centre, scale * rng.uniform(0.34, 0.44))]


def _approach(rng, phase, scale):
    radius = scale * rng.uniform(0.2, 0.25) * rng.uniform(3.0, 3.8) ** phase
    return [Actor(_place(rng, 0.15) + 0 * phase[:, None], radius)]


def _cover(rng, phase, scale):
    heading, middle = _heading(rng), _place(rng, 0.1)
    still = middle + 0.3 * heading + 0 * phase[:, None]
    moving = still - (1 - phase[:, None]) * rng.uniform(1.0, 1.2) * heading
    hidden = Actor(still, scale * rng.uniform(0.3, 0.34), tone=(0.6, 1.0))
    # A square of half-side 0.8 * 0.46 hides any shape of radius 0.34, however turned.
    return [hidden, Actor(moving, scale * rng.uniform(0.46, 0.5), shape="square", tone=(0.0, 0.4))]


def _together(rng, phase, scale):
    heading, middle = _heading(rng), _place(rng, 0.1)
    radii = scale * rng.uniform(0.3, 0.36, 2)
    gap = rng.uniform(0.8, 0.95) * (1 - phase) + 0.9 * radii.mean() * phase
    return [Actor(middle + sign * gap[:, None] * heading, r) for sign, r in zip((-1, 1), radii)]


def _enter(rng, phase, scale):
    heading, radius = _heading(rng), scale * rng.uniform(0.36, 0.46)
    # The far corner of a shape lies up to 1.14 radii from its centre: the first frame is empty.
    outside = heading * (1 + 1.2 * radius) / np.abs(heading).max()
    inside = _place(rng, 0.2)
    return [Actor(outside + phase[:, None] * (inside - outside), radius)]


def _rotate(rng, phase, scale):
    angle = rng.uniform(3.0, 4.5) * phase
    return [Actor(_place(rng, 0.1) + 0 * phase[:, None], scale * rng.uniform(0.6, 0.7), angle)]


def _orbit(rng, phase, scale):
    angle = rng.uniform(0, 2 * math.pi) + rng.uniform(4.0, 5.5) * phase
    centre = _place(rng, 0.08) + 0.55 * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    return [Actor(centre, scale * rng.uniform(0.34, 0.42))]


SCENES: dict[str, Callable[..., list[Actor]]] = {
    "left": partial(_translate, towards=(-1.0, 0.0)),
    "up": partial(_translate, towards=(0.0, -1.0)),
    "up_left": partial(_translate, towards=(-0.9, -0.9)),
    "up_right": partial(_translate, towards=(0.9, -0.9)),
    "approach": _approach,
    "cover": _cover,
    "together": _together,
    "enter": _enter,
    "rotate_cw": _rotate,
    "orbit_cw": _orbit,
}


def _texture(rng, tone, wavelengths):
    """Draws waves: frequencies [K, 2], phases [K], colours [K, 3], mean colour [3], limits."""
    num_waves, (low, high) = 4, tone
    lengths = rng.uniform(*wavelengths, num_waves)
    frequencies = np.stack([_heading(rng) for _ in lengths]) * (2 * math.pi / lengths)[:, None]
    weights = rng.normal(0, 0.25 * (high - low) * math.sqrt(2 / num_waves), (num_waves, 3))
    base = rng.uniform(low + 0.3 * (high - low), high - 0.3 * (high - low), 3)
    return frequencies, rng.uniform(0, 2 * math.pi, num_waves), weights, base, tone


def _paint(texture, axis, centre, radius=1.0, angle=0.0):
    """Evaluates a texture that moves, grows and turns: float32 [T, S, S, 3].

    A wave on moved coordinates is a wave still, and cos(x + y) a sum of products of a function
    of x and one of y: one small matrix product per frame replaces resampling an image.
    """
    frequencies, phases, weights, base, tone = texture
    angle = np.broadcast_to(angle, len(centre))[:, None]  # [T, 1]
    radius = np.broadcast_to(radius, len(centre))[:, None]  # [T, 1]
    fx, fy = (along / radius for along in frequencies.T)  # [T, K]
    fx, fy = np.cos(angle) * fx - np.sin(angle) * fy, np.sin(angle) * fx + np.cos(angle) * fy
    phases = phases - fx * centre[:, :1] - fy * centre[:, 1:]
    along_x = (fx[..., None] * axis).astype(np.float32)  # [T, K, S]
    along_y = (fy[..., None] * axis + phases[..., None]).astype(np.float32)
    rows = np.concatenate([np.cos(along_y), np.sin(along_y)], axis=1)  # [T, 2K, S]
    columns = np.concatenate([np.cos(along_x), -np.sin(along_x)], axis=1)
    weights = np.concatenate([weights, weights]).astype(np.float32)  # [2K, 3]
    columns = (columns[..., None] * weights[:, None]).reshape(*columns.shape[:2], -1)
    colours = (rows.swapaxes(1, 2) @ columns).reshape(len(centre), len(axis), len(axis), 3)
    return np.clip(colours + base.astype(np.float32), *tone)


def _draw(canvas, rng, actor, tone, axis, time):
    """Draws one actor over `canvas`, float32 [T, S, S, 3], in place."""
    shape = str(rng.choice(list(SHAPES)))  # drawn even when given: the same number of draws
    distance = SHAPES[actor.shape or shape]
    spin = rng.uniform(-0.25, 0.25) * time  # an equal law for both directions of time
    angle = rng.uniform(0, 2 * math.pi) + spin + actor.angle
    texture = _texture(rng, tone, wavelengths=(0.9, 2.5))
    radius = np.broadcast_to(actor.radius, len(time))
    x = (axis - actor.centre[:, :1])[:, None, :] / radius[:, None, None]  # [T, 1, S]
    y = (axis - actor.centre[:, 1:])[:, :, None] / radius[:, None, None]  # [T, S, 1]
    x, y = x.astype(np.float32), y.astype(np.float32)
    cos, sin = (f(angle).astype(np.float32)[:, None, None] for f in (np.cos, np.sin))
    pixels_per_radius = (radius * len(axis) / 2).astype(np.float32)[:, None, None]
    inside = 0.5 - distance(cos * x + sin * y, cos * y - sin * x) * pixels_per_radius
    inside = np.clip(inside, 0, 1)[..., None]  # edges one pixel soft
    canvas += inside * (_paint(texture, axis, actor.centre, radius, angle) - canvas)


def _camera(rng, look, time):
    """Draws the camera's path, [T, 2]: a drift and a wobble, each as likely backwards."""
    cycles, start = rng.uniform(0.5, 2.0, 2), rng.uniform(0, 2 * math.pi, 2)
    wobble = look.camera_wobble * np.sin(2 * math.pi * cycles * time[:, None] + start)
    return _place(rng, look.camera_drift) * 2 * time[:, None] + wobble


def _speed(rng, time):
    """Draws how far the motion is at each time, [T]: rising from 0 to 1, as likely backwards."""
    unit = time + 0.5
    ease = rng.uniform(-0.4, 0.4) * np.sin(2 * math.pi * unit) / (2 * math.pi)
    return unit + ease + rng.uniform(-0.08, 0.08) * np.sin(math.pi * unit)


def render(
    spec: MotionSpec, pair: int, index: int, *, split: str = "train", seed: int = 0
) -> np.ndarray:
    """Renders the forward clip of one pair; the backward one is this clip reversed.

    The result depends on the arguments alone. A larger `size_px` shows the same scene in more
    detail, with other noise.

    Args:
        spec: look and size of the clip.
        pair: which pair of `pairs(spec.difficulty)`.
        index: which clip of the pair; at least 0.
        split: "train" or "test": disjoint streams of random numbers, for any seed.
        seed: seed of the data set; at least 0.

    Returns:
        uint8 [T, size_px, size_px, 3] RGB.

    Raises:
        ValueError: if pair, index, split or seed is out of its range.
    """
    names = pairs(spec.difficulty)
    _require(0 <= pair < len(names), "pair", pair, f"from 0 to {len(names) - 1}")
    _require(0 <= index < 2**63, "index", index, "at least 0 and below 2**63")
    _require(split in SPLITS, "split", split, "train or test")
    _require(0 <= seed < 2**63, "seed", seed, "at least 0 and below 2**63")
    # The generator counts draws in the counter's first word: one stream per (split, pair, index).
    counter = [0, index, pair, SPLITS.index(split)]
    rng = np.random.Generator(np.random.Philox(key=seed, counter=counter))
    look = LOOKS[spec.difficulty]
    time = np.linspace(-0.5, 0.5, spec.num_frames)
    axis = (np.arange(spec.size_px) + 0.5) * 2 / spec.size_px - 1

    actors = SCENES[names[pair][0]](rng, _speed(rng, time), look.object_scale)
    camera = _camera(rng, look, time)
    canvas = _paint(_texture(rng, look.background, wavelengths=(0.5, 2.0)), axis, camera)
    distractor = Actor(camera + _place(rng, 0.8), rng.uniform(0.2, 0.3))
    _draw(canvas, rng, distractor, look.distractor, axis, time)
    for actor in actors:
        low, high = np.interp(actor.tone, (0, 1), look.objects)
        _draw(canvas, rng, actor, (low, high), axis, time)
    noise = rng.standard_normal((*canvas.shape[:3], 1), dtype=np.float32)
    canvas += np.float32(spec.noise) * noise
    return (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8)


def _require(is_allowed: bool, name: str, value: object, allowed: str) -> None:
    if not is_allowed:
        raise ValueError(f"{name}={value!r} must be {allowed}")
