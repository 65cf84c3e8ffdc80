"""The encode stage: audio of kept clips as FLAC, without loss, and no other."""

import numpy as np

from autorecap.stages.flac import Flac
from autorecap.stages.records import Clip, Verdict, Video

RATE = 32_000


def test_encoding_keeps_every_sample_of_kept_clips_and_drops_other_audio():
    import io

    import soundfile

    pcm = np.random.default_rng(0).integers(-3000, 3000, 3200).astype("<i2").tobytes()
    clip = Clip(start_ms=0, end_ms=100, audio=pcm, sample_rate_hz=RATE, num_samples=3200)
    kept = Clip(**{**{f: getattr(clip, f) for f in clip.__slots__}, "verdict": Verdict.KEPT})
    (video,) = Flac()([Video(row=0, video_id="v", clips=(kept, clip))])
    samples, rate = soundfile.read(io.BytesIO(video.clips[0].audio or b""), dtype="int16")
    assert samples.tobytes() == pcm and rate == RATE
    assert video.clips[1].audio is None
