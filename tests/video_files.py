"""Small video files for the tests, written with PyAV."""

import av
import numpy as np


def frames_of_noise(num_frames, height, width, seed=0):
    """uint8 [T, H, W, 3]: coarse blocks, so that a lossy codec keeps frames apart."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (num_frames, -(-height // 8), -(-width // 8), 3), dtype=np.uint8)
    return blocks.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width]


def write_video(
    path, frames, *, codec="libx264", gop=12, num_b_frames=0, rate=16, options=None, title=""
):
    """Writes uint8 [T, H, W, 3]; the suffix of `path` decides the container."""
    with av.open(str(path), "w", options=options or {}) as container:
        container.metadata["title"] = title
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = gop
        stream.codec_context.thread_count = 1
        stream.codec_context.max_b_frames = num_b_frames
        for array in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array, format="rgb24")))
        container.mux(stream.encode(None))
    return str(path)


def write_audio(path, num_samples=8000):
    """Writes an mp4 without a video stream."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, num_samples), dtype=np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return str(path)


def decode_all(path):
    """uint8 [T, H, W, 3]: every frame in the order the decoder gives, the reference for seeking."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
