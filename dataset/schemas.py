"""The columns of a dataset's tables: index and ledger, of clips and of latents.

What a column of a video or a clip is called, and its type, is declared with the record (`autorecap.stages.records`);
declared here is what is known only when files are written. Index and ledger are explained in docs/dataset-format.md.
"""

import pyarrow as pa

from autorecap.stages.records import CLIP_TYPE, VIDEO_SCHEMA


def _of_video(*names: str) -> list[pa.Field]:
    return [VIDEO_SCHEMA.field(name) for name in names]


def _of_clip(*names: str) -> list[pa.Field]:
    return [CLIP_TYPE.field(name) for name in names]


INDEX_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("shard", pa.string()),
        ("offset", pa.int64()),  # of the payload (FLAC, or safetensors) in the tar
        ("size", pa.int64()),
        ("json_offset", pa.int64()),
        ("json_size", pa.int64()),
        *_of_video("row", "video_id"),
        *_of_clip("start_ms", "end_ms"),
        ("duration_ms", pa.int64()),  # of the clip
        *_of_clip("caption", "original_caption", "tags"),
        *_of_video("title", "source"),
        *_of_clip("sample_rate_hz", "num_samples", "rms_dbfs", "peak_dbfs", "clap_score", "speech_probability"),
    ]
)
"""A row per kept clip."""

LEDGER_SCHEMA = pa.schema(
    [
        *_of_video("row", "video_id", "original_name", "source", "title", "status", "reason", "detail", "attempt"),
        *_of_video("duration_ms", "transcript_kind", "transcript_language", "num_cues", "num_gaps", "gap_ms"),
        *_of_video("num_clips"),  # cut from the gaps
        ("num_left_out", pa.int64()),  # beyond max_clip_s_per_video, or past the end of the audio
        ("num_silent", pa.int64()),
        ("num_joined", pa.int64()),  # became part of their neighbour, which has the same caption
        ("num_keyword", pa.int64()),
        ("num_low_score", pa.int64()),
        ("num_kept", pa.int64()),  # in the shards
        ("kept_ms", pa.int64()),
        ("dropped", pa.list_(pa.struct(_of_clip("start_ms", "end_ms", "caption", "verdict", "keyword")))),
        *_of_video("bytes_read", "bytes_saved", "seconds"),
    ]
)
"""A row per try of a video; the latest counts."""

LATENT_INDEX = pa.schema([*INDEX_SCHEMA, ("num_frames", pa.int32()), ("source_shard", pa.string())])
"""A row per encoded clip: its row in the index of the audio, but where it lies, and where it came from."""

LATENT_LEDGER = pa.schema(
    [
        LATENT_INDEX.field("source_shard"),
        ("num_clips", pa.int64()),
        ("num_encoded", pa.int64()),
        ("unreadable", pa.list_(pa.struct([INDEX_SCHEMA.field("key"), ("reason", pa.string())]))),
        ("num_values", pa.int64()),  # of the latents; the next two are sums over samples of the posterior
        ("sum", pa.float64()),
        ("sum_of_squares", pa.float64()),
        ("seconds", pa.float64()),
    ]
)
"""A row per encoded shard of clips."""
