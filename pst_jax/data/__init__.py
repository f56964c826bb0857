"""Videos on disk to batches of clips: index, decode, sample frames, crop, batch (numpy only)."""
