"""How long a video file says it is: what each container declares of its own length.

ffmpeg reads a webm that was cut in half without a word, as far as it goes.
"""

import os
from typing import BinaryIO

AGAIN = "; copy or download it again"

_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")


def find_truncation(file: BinaryIO) -> str | None:
    """Compares the length that the outermost container element declares with the file's.

    Args:
        file: an mp4, mov, webm, mkv, wmv, avi or ts, open; others declare no length.

    Returns:
        Why the file cannot be whole, with the remedy; `None` where nothing speaks against it.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(4096)
    if not head:
        return f"is empty (0 bytes){AGAIN}"
    if head[4:8] == b"ftyp":
        end = _end_of_mp4(file, size)
    elif head[:4] == b"\x1a\x45\xdf\xa3":
        end = _end_of_matroska(file, size)
    elif head[:4] == b"\x30\x26\xb2\x75":
        end = _end_of_asf(head)
    elif head[:4] == b"RIFF":
        end = 8 + int.from_bytes(head[4:8], "little")
    elif head[:1] == head[188:189] == b"\x47":  # ts: packets of 188 bytes
        end = -(-size // 188) * 188
    else:
        end = 0
    if end > size:
        return f"is cut off: has {size} bytes of at least {end} that it declares{AGAIN}"
    return None


def _end_of_mp4(file: BinaryIO, size: int) -> int:
    """Where the last frame-carrying box of an mp4 or mov ends; 0 where that is not declared."""
    start = 0
    end = 0
    while start + 8 <= size:
        file.seek(start)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        if length == 1:  # a 64-bit length follows
            length = int.from_bytes(header[8:16], "big")
        if length < 8:  # 0: up to the end of the file; else not a box
            break
        start += length
        if header[4:8] in (b"mdat", b"moov", b"moof"):  # not what some programs append
            end = start
    return end


def _end_of_matroska(file: BinaryIO, size: int) -> int:
    """Where the segment of a webm or mkv ends; in a live recording, the last of its elements."""
    end = 0
    while end < size:
        file.seek(end)
        head = file.read(12)
        _, id_width = _read_vint(head, 0)
        length, width = _read_vint(head, id_width)
        if not id_width or not width:  # no element
            break
        end += id_width + width
        if length == (1 << 7 * width) - 1:  # not known, of a live recording: go into it
            continue
        end += length
        if head[:4] == b"\x18\x53\x80\x67":  # behind the segment: what some programs append
            break
    return end


def _end_of_asf(head: bytes) -> int:
    """Where a wmv ends by its file properties; 0 where it has none or was a broadcast."""
    properties = head.partition(_ASF_FILE_PROPERTIES)[2]
    if len(properties) < 73 or properties[72] & 1:
        return 0
    return int.from_bytes(properties[24:32], "little")


def _read_vint(data: bytes, start: int) -> tuple[int, int]:
    """A variable-length integer of EBML (RFC 8794) and its width in bytes; (0, 0) where none."""
    if start >= len(data) or data[start] == 0:
        return 0, 0
    width = 9 - data[start].bit_length()
    value = int.from_bytes(data[start : start + width], "big")
    return value & ((1 << 7 * width) - 1), width
