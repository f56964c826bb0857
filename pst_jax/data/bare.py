"""The barest code that makes the loader's clips: what its checks and its ways around cost.

Right for sound files only. `benchmark` times the loader against it.
"""

import io
from collections.abc import Iterator, Sequence

import av
import cv2
import msgpack
import numpy as np
from array_record.python.array_record_module import ArrayRecordReader
from av.video.reformatter import VideoReformatter

from pst_jax.data import clips, loader, transforms
from pst_jax.data.frames import as_it_is
from pst_jax.data.records import Record
from pst_jax.data.sources import open_record
from pst_jax.data.transforms import ClipSpec, Square


class Bare:
    """Makes the clips of `loader.train_batches`, before they are mirrored or changed in colour.

    What is drawn for a clip is drawn as the loader does; what must be known of a file besides (the
    times of its frames, their size) is looked up once, when this is made.
    """

    def __init__(self, records: Sequence[Record], spec: ClipSpec, seed: int):
        self._records, self._spec, self._seed = records, spec, seed
        self._readers: dict[str, ArrayRecordReader] = {}
        self._known = [self._look_up(record) for record in records]

    def batch(self, step: int, batch_size: int) -> np.ndarray:
        """Returns the clips of a step, uint8 [B, T, S, S, 3]."""
        size_px = self._spec.size_px
        videos = np.empty((batch_size, self._spec.num_frames, size_px, size_px, 3), np.uint8)
        for row, position in enumerate(range(step * batch_size, (step + 1) * batch_size)):
            epoch, place = divmod(position, len(self._records))
            number = loader.epoch_order(len(self._records), self._seed, epoch)[place]
            ticks, num_frames, height, width = self._known[number]
            rng = loader.clip_rng(self._seed, position)
            indices = clips.choose_frames(num_frames, self._spec, rng=rng)
            square = transforms.random_square(height, width, self._spec, rng)
            self._read(self._records[number], ticks, indices, square, videos[row])
        return videos

    def _look_up(self, record: Record) -> tuple[list[int] | None, int, int, int]:
        """The times of a video file's frames in ticks; the frames' number, height and width."""
        with open_record(record) as video:
            known = (video.num_frames, *video.read([0], as_it_is).shape[1:3])
        data = self._data(record)
        if isinstance(data, dict):
            return None, *known
        with _opened(data) as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
        return sorted(packet.pts for packet in packets), *known

    def _data(self, record: Record) -> str | bytes | dict:
        """A file, by its name or as it is, or what stands at the head of JPEG frames."""
        if record.entry is None:
            return record.path
        head = msgpack.unpackb(self._reader(record).read([record.entry])[0])
        return head.get("mp4", head)

    def _reader(self, record: Record) -> ArrayRecordReader:
        if record.path not in self._readers:
            options = "readahead_buffer_size:0,max_parallelism:0"
            self._readers[record.path] = ArrayRecordReader(record.path, options)
        return self._readers[record.path]

    def _read(self, record, ticks, indices, square, target) -> None:
        data = self._data(record)
        if ticks is None:
            decoded = self._jpegs(record, data["chunk_frames"], indices)
        else:
            decoded = _decoded(data, [ticks[k] for k in indices])
        for rows, frame in decoded:
            _cut(frame, square, target, rows)

    def _jpegs(self, record, chunk_frames, indices) -> Iterator[tuple[list[int], np.ndarray]]:
        numbers = sorted({int(k) // chunk_frames for k in indices})
        found = self._reader(record).read([record.entry + 1 + number for number in numbers])
        chunks = {number: msgpack.unpackb(data) for number, data in zip(numbers, found)}
        for k, rows in _rows(indices.tolist()).items():
            data = np.frombuffer(chunks[k // chunk_frames][k % chunk_frames], np.uint8)
            yield rows, cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)


def _opened(data: str | bytes) -> av.container.InputContainer:
    return av.open(io.BytesIO(data) if isinstance(data, bytes) else data)


def _decoded(data: str | bytes, ticks: list[int]) -> Iterator[tuple[list[int], np.ndarray]]:
    wanted, reformatter = _rows(ticks), VideoReformatter()
    with _opened(data) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "NONE", 1
        container.seek(min(ticks), stream=stream)
        for frame in container.decode(stream):
            if frame.pts in wanted:
                rgb = reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
                yield wanted.pop(frame.pts), rgb
                if not wanted:
                    return


def _rows(keys: list[int]) -> dict[int, list[int]]:
    rows: dict[int, list[int]] = {}
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)
    return rows


def _cut(frame: np.ndarray, square: Square, target: np.ndarray, rows: list[int]) -> None:
    scale, box = square.short_side_px / min(frame.shape[:2]), square.box
    if scale != 1:
        size = (int(frame.shape[1] * scale + 0.5), int(frame.shape[0] * scale + 0.5))
        frame = cv2.resize(frame, size)
    part = frame[box.top : box.top + box.height, box.left : box.left + box.width]
    cv2.resize(part, target.shape[1:3], dst=target[rows[0]])
    for row in rows[1:]:
        target[row] = target[rows[0]]
