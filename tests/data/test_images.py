"""Folders of numbered images as videos, and single images that are not whole."""

import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from layouts import write_images
from video_files import frames_of_noise

from pst_jax.data import images
from pst_jax.data.frames import VideoError, as_it_is
from pst_jax.data.records import Record
from pst_jax.data.sources import open_record

FRAMES = frames_of_noise(6, 32, 40)


def encoded(suffix=".jpg", frame=FRAMES[0]):
    return cv2.imencode(suffix, frame[..., ::-1])[1].tobytes()


def read_all(folder):
    with open_record(Record(str(folder), 0, "x")) as video:
        assert video.times_s is None
        return video.read(range(video.num_frames), as_it_is)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("name", ["{:05d}.jpg", "img_{:05d}.PNG", "{}.jpeg", "{}.png"])
def test_frames_come_in_the_order_of_their_numbers(first, name, tmp_path):
    frames = frames_of_noise(12, 32, 40)  # image 10 must not come before image 9
    write_images(tmp_path, frames, first, name)
    (tmp_path / "notes.txt").write_text("no frame")
    found = read_all(tmp_path).astype(int)
    assert found.shape == frames.shape
    # Two frames, or red and blue, differ by 80 or so.
    assert np.abs(found - frames).mean() <= (0 if "png" in name.lower() else 8)


def test_frames_are_read_in_any_order_and_kept_as_asked(tmp_path):
    write_images(tmp_path, FRAMES, name="{:05d}.png")
    with images.open_folder(tmp_path) as video:
        assert (video.num_frames, video.path) == (6, str(tmp_path))
        kept = video.read([4, 0, 4], lambda frame: frame[:8, :8])
        with pytest.raises(ValueError, match="from 0 to 6, but .* has 6 frames"):
            video.read([0, 6])
    np.testing.assert_array_equal(kept, FRAMES[[4, 0, 4], :8, :8])


def test_optical_flow_beside_the_frames_is_none_of_them(tmp_path):
    write_images(tmp_path, FRAMES, name="img_{:05d}.png")
    write_images(tmp_path, FRAMES[::-1], name="flow_x_{:05d}.png")
    np.testing.assert_array_equal(read_all(tmp_path), FRAMES)


def test_a_rotation_in_the_metadata_is_not_applied():
    plain = encoded()
    entries = struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0)  # one: orientation 6, a quarter
    exif = b"Exif\0\0MM\0\x2a\0\0\0\x08" + entries
    rotated = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:]
    turned = cv2.imdecode(np.frombuffer(rotated, np.uint8), cv2.IMREAD_COLOR)
    assert turned.shape == (40, 32, 3), "the file must ask for a rotation"
    np.testing.assert_array_equal(
        images.decode_image(rotated, "x.jpg"), images.decode_image(plain, "x.jpg")
    )


def test_grey_becomes_colour():
    grey = cv2.imencode(".jpg", FRAMES[0, :, :, 0])[1].tobytes()
    assert images.decode_image(grey, "x.jpg").shape == (32, 40, 3)


def test_a_thumbnail_does_not_hide_that_the_image_is_cut():
    whole, thumbnail = encoded(), encoded(frame=FRAMES[1, :16, :16])
    holding = whole[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    assert images.decode_image(holding + whole[2:], "x.jpg").shape == (32, 40, 3)
    with pytest.raises(VideoError, match="cut off"):
        images.decode_image(holding + whole[2:-100], "x.jpg")


def png_header(width, height):
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk
    return start + struct.pack(">I", zlib.crc32(chunk)) + b"\0\0\0\0IEND\xaeB`\x82"


def huge_jpeg():
    data = bytearray(encoded())
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = struct.pack(">HH", 60000, 60000)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"GIF89a" + bytes(100), "is neither a JPEG nor a PNG"),
        (encoded()[:-2], "is cut off"),
        (encoded()[:300], "is cut off"),
        (encoded()[:3], "is cut off"),
        (encoded(".png")[:-20], "is cut off"),
        (b"\xff\xd8" + bytes(500), "is cut off or damaged"),
        (encoded(".png")[:60] + encoded(".png")[-12:], "cannot be decoded"),
        (huge_jpeg(), "60000 x 60000 px, more than"),
        (png_header(60000, 50000), "60000 x 50000 px, more than"),
    ],
)
def test_an_image_that_is_not_whole_is_refused(data, reason, tmp_path):
    write_images(tmp_path, FRAMES)
    (tmp_path / "00003.jpg").write_bytes(data)
    with images.open_folder(tmp_path) as video:
        video.read([0, 1, 3])
        with pytest.raises(VideoError, match=reason) as caught:
            video.read([0, 2])
    assert caught.value.path == str(tmp_path / "00003.jpg")


def test_a_folder_that_is_no_whole_video_is_refused(tmp_path):
    def reason(folder):
        with pytest.raises(VideoError) as caught, images.open_folder(folder) as video:
            video.read(range(video.num_frames))
        return str(caught.value)

    assert "cannot be listed" in reason(tmp_path / "none")
    assert "holds no numbered image" in reason(tmp_path)
    write_images(tmp_path / "gap", FRAMES)
    (tmp_path / "gap" / "00004.jpg").unlink()
    assert "image 4 is missing" in reason(tmp_path / "gap")
    write_images(tmp_path / "late", FRAMES, first=3)
    assert "its first image is number 3, not 0 or 1" in reason(tmp_path / "late")
    write_images(tmp_path / "twice", FRAMES)
    write_images(tmp_path / "twice", FRAMES[:1], first=2, name="{}.jpg")
    assert "and another have number 2" in reason(tmp_path / "twice")
    write_images(tmp_path / "two", FRAMES, name="a{:03d}.jpg")
    write_images(tmp_path / "two", FRAMES, name="b{:03d}.jpg")
    assert "different names, 'a' and 'b' with a number" in reason(tmp_path / "two")
    write_images(tmp_path / "sizes", FRAMES)
    write_images(tmp_path / "sizes", FRAMES[:1, :24], first=6)
    assert "frame 5 is [24, 40] px, others [32, 40]" in reason(tmp_path / "sizes")
    write_images(tmp_path / "bytes", FRAMES)
    os.truncate(tmp_path / "bytes" / "00003.jpg", images.MAX_IMAGE_BYTES + 1)  # takes no space
    assert "00003.jpg: has more than 268435456 bytes" in reason(tmp_path / "bytes")
