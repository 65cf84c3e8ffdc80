"""The columns of what lies on disk and of what travels between workers: names, order and types stay what they are."""

import pyarrow as pa
import pytest

from autorecap.dataset.schemas import INDEX_SCHEMA, LATENT_INDEX, LATENT_LEDGER, LEDGER_SCHEMA
from autorecap.pipeline.plan.plan import PLAN_SCHEMA
from autorecap.stages.records import VIDEO_SCHEMA

VIDEO = """\
row: int64
video_id: string
original_name: string
source: string
media: string
given: bool
info: string
sidecars: list<item: string>
title: string
description: string
duration_ms: int64
transcript_kind: string
transcript_language: string
cues: list<item: struct<start_ms: int64, duration_ms: int64, text: string, word_starts_ms: list<item: int64>>>
num_cues: int64
num_gaps: int64
gap_ms: int64
num_clips: int64
clips: list<item: struct<
    start_ms: int64, end_ms: int64, audio: large_binary, sample_rate_hz: int32, num_samples: int64,
    rms_dbfs: double, peak_dbfs: double, frame: large_binary, video_caption: string, caption: string,
    original_caption: string, tags: list<item: string>, clap_score: double, speech_probability: double,
    verdict: string, keyword: string
>>
status: string
reason: string
detail: string
attempt: int32
not_before: double
refusals: int32
bytes_read: int64
bytes_saved: int64
seconds: map<string, double>
"""

PLAN = """\
row: int64
video_id: string
original_name: string
source: string
title: string
media: string
given: bool
info: string
sidecars: list<item: string>
clips: list<item: struct<
    start_ms: int64, end_ms: int64, caption: string, video_caption: string, clap_score: double,
    original_caption: string, tags: list<item: string>
>>
description: string
duration_ms: int64
transcript_kind: string
transcript_language: string
num_cues: int64
num_gaps: int64
gap_ms: int64
num_clips: int64
"""

LEDGER = """\
row: int64
video_id: string
original_name: string
source: string
title: string
status: string
reason: string
detail: string
attempt: int32
duration_ms: int64
transcript_kind: string
transcript_language: string
num_cues: int64
num_gaps: int64
gap_ms: int64
num_clips: int64
num_left_out: int64
num_silent: int64
num_joined: int64
num_keyword: int64
num_low_score: int64
num_kept: int64
kept_ms: int64
dropped: list<item: struct<start_ms: int64, end_ms: int64, caption: string, verdict: string, keyword: string>>
bytes_read: int64
bytes_saved: int64
seconds: map<string, double>
"""

INDEX = """\
key: string
shard: string
offset: int64
size: int64
json_offset: int64
json_size: int64
row: int64
video_id: string
start_ms: int64
end_ms: int64
duration_ms: int64
caption: string
original_caption: string
tags: list<item: string>
title: string
source: string
sample_rate_hz: int32
num_samples: int64
rms_dbfs: double
peak_dbfs: double
clap_score: double
speech_probability: double
"""

LATENTS = """\
source_shard: string
num_clips: int64
num_encoded: int64
unreadable: list<item: struct<key: string, reason: string>>
num_values: int64
sum: double
sum_of_squares: double
seconds: double
"""


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        pytest.param(VIDEO_SCHEMA, VIDEO, id="between workers"),
        pytest.param(PLAN_SCHEMA, PLAN, id="plan"),
        pytest.param(LEDGER_SCHEMA, LEDGER, id="ledger"),
        pytest.param(INDEX_SCHEMA, INDEX, id="index"),
        pytest.param(LATENT_INDEX, f"{INDEX}num_frames: int32\nsource_shard: string\n", id="index of latents"),
        pytest.param(LATENT_LEDGER, LATENTS, id="ledger of latents"),
    ],
)
def test_a_schema_stays_what_it_is(schema: pa.Schema, text: str) -> None:
    columns = [f"{field.name}: {field.type}" for field in schema]
    assert columns == _columns(text)
    assert all(field.nullable for field in schema) and not schema.metadata


def _columns(text: str) -> list[str]:
    """A line per column; those of a struct go over several."""
    joined = text.replace("<\n    ", "<").replace(",\n    ", ", ").replace("\n>>", ">>")
    return joined.splitlines()
