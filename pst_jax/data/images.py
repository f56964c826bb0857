"""Frames that lie as numbered images in a folder, and the checked decoding of one image."""

import contextlib
import os
import re
import struct
from contextlib import AbstractContextManager

import cv2
import numpy as np

from pst_jax.data.decode import MAX_FRAME_PX
from pst_jax.data.frames import Frames, Loaded, VideoError

MAX_IMAGE_BYTES = 4 * MAX_FRAME_PX  # of the file of one frame

# 00001.jpg, img_00001.jpg. Beside frames of the latter name, flow_x_00001.jpg holds no frame.
_NUMBERED = re.compile(r"(?!\.|flow)(.*?)([0-9]{1,9})\.(?:jpg|jpeg|png)", re.IGNORECASE | re.DOTALL)
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
# Markers that begin a frame, where its size stands; 0xC4, 0xC8 and 0xCC are tables and reserved.
_JPEG_SIZE = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_SCAN = 0xDA  # the marker behind which the pixels are
_AGAIN = "; extract the frames again"


def open_folder(path: str | os.PathLike) -> AbstractContextManager[Frames]:
    """Opens a folder of numbered images, such as 00001.jpg or img_00001.png.

    Numbers begin at 0 or at 1, whichever is found; frame 0 is the first file either way.

    Args:
        path: the folder; whatever else lies in it is passed over.

    Returns:
        A context manager of its frames, which have no times. Nothing is decoded yet.

    Raises:
        VideoError: if it cannot be listed, holds no numbered image, or numbers are missing or
            doubled; while reading, if an image is unreadable, cut off, huge or of another size.
    """
    path = os.fspath(path)
    names = list_images(path)

    def load(index: int) -> np.ndarray:
        file = os.path.join(path, names[index])
        try:
            if os.path.getsize(file) > MAX_IMAGE_BYTES:
                raise VideoError(file, f"has more than {MAX_IMAGE_BYTES} bytes{_AGAIN}")
            with open(file, "rb") as stream:
                data = stream.read()
        except OSError as error:
            raise VideoError(file, f"cannot be read: {error}") from error
        return decode_image(data, file)

    return contextlib.nullcontext(Loaded(path, len(names), load))


def holds_frames(folder: str | os.PathLike) -> bool:
    """Whether a numbered image lies in a folder: the first thing found there tells mostly."""
    with os.scandir(folder) as entries:
        return any(_NUMBERED.fullmatch(entry.name) and entry.is_file() for entry in entries)


def decode_image(data: bytes, path: str) -> np.ndarray:
    """Decodes a JPEG or PNG that is checked to be whole.

    A rotation noted in its metadata is not applied, as it is not to videos. Pixels that were
    damaged without a byte being lost cannot be told from a picture.

    Args:
        data: the file's content.
        path: names it in messages.

    Returns:
        uint8 [H, W, 3], RGB; grey becomes colour, transparency is dropped.

    Raises:
        VideoError: if it is empty, neither JPEG nor PNG, cut off, huge, or cannot be decoded.
    """
    if data.startswith(_JPEG_START):
        size = _jpeg_size(data)
    elif data.startswith(_PNG_START):
        size = _png_size(data)
    else:
        what = "is neither a JPEG nor a PNG image" if data else "is empty"
        raise VideoError(path, what + _AGAIN)
    if size is None:
        raise VideoError(path, "is cut off or damaged: its end is missing" + _AGAIN)
    height, width = size
    if height * width > MAX_FRAME_PX:
        raise VideoError(
            path,
            f"has {width} x {height} px, more than {MAX_FRAME_PX} in all: re-encode it smaller",
        )
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        frame = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    except cv2.error:
        frame = None
    if frame is None:
        raise VideoError(path, "cannot be decoded: it is damaged" + _AGAIN)
    return frame


def list_images(path: str) -> list[str]:
    """Lists the names of a folder's images by number; raises a `VideoError` as `open_folder`."""
    try:
        with os.scandir(path) as entries:
            found = [_NUMBERED.fullmatch(entry.name) for entry in entries if entry.is_file()]
    except OSError as error:
        raise VideoError(path, f"cannot be listed: {error}") from error
    found = sorted((int(match[2]), match[0], match[1]) for match in found if match)
    if not found:
        raise VideoError(path, f"holds no numbered image such as 00001.jpg{_AGAIN}")
    prefixes = sorted({prefix for _, _, prefix in found})
    if len(prefixes) > 1:
        raise VideoError(
            path,
            f"holds images of different names, {prefixes[0]!r} and {prefixes[1]!r} with a number: "
            "keep one video in a folder",
        )
    numbers = [number for number, _, _ in found]
    if numbers[0] > 1:
        raise VideoError(path, f"its first image is number {numbers[0]}, not 0 or 1{_AGAIN}")
    for place, number in enumerate(numbers, start=numbers[0]):
        if number != place:
            what = "is missing" if number > place else f"and another have number {number}"
            which = f"image {place}" if number > place else repr(found[place - numbers[0]][1])
            raise VideoError(path, f"{which} {what}{_AGAIN}")
    return [name for _, name, _ in found]


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Height and width as the header has them; None where the image is not whole.

    What is cut off would be decoded as grey, without an error. ITU-T T.81, annex B.
    """
    place, size = 2, None
    while place + 4 <= len(data):
        fill, marker, length = struct.unpack_from(">BBH", data, place)
        if fill != 0xFF:
            return None
        if marker == 0xFF:  # any number of them may come before a marker
            place += 1
            continue
        if marker == _JPEG_SCAN:
            # From here on the end marker stands for nothing else; a thumbnail's came before.
            return size if data.rfind(_JPEG_END, place) >= 0 else None
        if marker in _JPEG_SIZE and place + 9 <= len(data):
            size = struct.unpack_from(">HH", data, place + 5)
        place += 2 + length
    return None


def _png_size(data: bytes) -> tuple[int, int] | None:
    """Likewise of a PNG."""
    if _PNG_END not in data[-64:] or len(data) < 24:
        return None
    width, height = struct.unpack_from(">II", data, 16)
    return height, width
