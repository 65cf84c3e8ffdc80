"""The client that stages hold: it fetches the subtitles of a video, and the audio of its clips."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from autorecap.stages.records import Span, Video
from autorecap.stages.transcript_files.choice import with_transcript
from autorecap.stages.transcript_files.config import TranscriptsConfig
from autorecap.stages.youtube.audio import AudioClient, YoutubeAudio
from autorecap.stages.youtube.budget import Budget, Clock
from autorecap.stages.youtube.config import YoutubeConfig
from autorecap.stages.youtube.egresses import Egresses
from autorecap.stages.youtube.player import VideoMeta, described
from autorecap.stages.youtube.problem import Problem, ended
from autorecap.stages.youtube.session import Sessions
from autorecap.stages.youtube.subtitles import Subtitles, SubtitlesClient


class Youtube:
    """Fetches for many videos at once, each by whichever egress is open."""

    def __init__(
        self,
        config: YoutubeConfig,
        transcripts: TranscriptsConfig,
        sample_rate_hz: int,
        budget: Budget,
        *,
        in_flight: int,
        clock: Clock = time.time,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """`in_flight`: videos that are worked on at the same time. `sample_rate_hz`: rate that audio should have."""
        self.egresses = Egresses(budget, config.try_other_egresses_s, clock=clock, sleep=sleep)
        sessions = Sessions(config, budget, sleep)
        self._subtitles = SubtitlesClient(config, transcripts, sessions)
        self._audio = AudioClient(config, sessions, sample_rate_hz)
        self._threads = ThreadPoolExecutor(in_flight, thread_name_prefix="youtube")

    def map(self, change: Callable[[Video], Video], videos: Sequence[Video]) -> list[Video]:
        """Apply `change` to every video, many at the same time, since most of it is waiting; keep their order."""
        return list(self._threads.map(change, videos))

    def with_subtitles(self, video: Video) -> Video:
        """Return the video with cues, title, description and duration, or with the reason why it has none."""
        metas = [VideoMeta()]  # what becomes known of the video, also where it has no captions; the last counts

        def fetch(egress: str) -> Subtitles:
            return self._subtitles.fetch(video.video_id, egress, metas.append)

        try:
            subtitles = self.egresses.attempt(fetch)
        except Problem as problem:
            return ended(described(video, metas[-1]), problem)
        video = replace(described(video, subtitles.meta), bytes_read=video.bytes_read + subtitles.num_bytes)
        return with_transcript(video, subtitles.track, subtitles.transcript)

    def audio(self, video: Video, spans: Sequence[Span], deadline: float) -> YoutubeAudio:
        """Fetch the audio that these spans need. `deadline`: time.monotonic(). Raises Problem."""
        return self.egresses.attempt(lambda egress: self._audio.fetch(video.video_id, spans, egress, deadline))
