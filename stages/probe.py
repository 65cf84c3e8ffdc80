"""The probe stage: checks that the media file exists and holds audio, and reads how long it really is.

It comes first, because yt-dlp states a duration in whole seconds only, and a folder may hold anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autorecap.base.files import is_remote, local_file
from autorecap.base.settings import Section, setting
from autorecap.stages.media_files.ffmpeg import MediaError, read_header
from autorecap.stages.origin import AudioFrom
from autorecap.stages.reasons import Reason
from autorecap.stages.records import Video


@dataclass(frozen=True, kw_only=True)
class ProbeConfig(Section, name="probe"):
    """Settings of the probe stage: how headers of media files are read."""

    timeout_s: int = setting(60, "Seconds that reading one header may take.", gt=0)


class Probe:
    """Sets `duration_ms` from the container, or ends the video: media_missing, undecodable, no_audio, timeout.

    Online videos pass by: YouTube says itself how long they are.
    """

    name = "probe"

    def __init__(self, config: ProbeConfig) -> None:
        self.config = config

    def __call__(self, videos: Sequence[Video]) -> list[Video]:
        return [self._probe(video) if video.origin.audio is AudioFrom.FILE else video for video in videos]

    def _probe(self, video: Video) -> Video:
        name = Path(video.media).name
        try:
            with local_file(video.media) as path:
                size = path.stat().st_size
                if size == 0:
                    return video.ended(Reason.UNDECODABLE, f"{name}: the file is empty")
                header = read_header(str(path), self.config.timeout_s)
        except OSError as error:
            return video.ended(Reason.MEDIA_MISSING, f"{name}: {error}")
        except MediaError as error:
            reason = Reason.TIMEOUT if error.timeout else Reason.UNDECODABLE
            return video.ended(reason, f"{name}: {error}")
        if not header.has_audio:
            return video.ended(Reason.NO_AUDIO, f"{name}: no audio stream")
        read = size if is_remote(video.media) else 0
        return replace(video, duration_ms=header.duration_ms, bytes_read=video.bytes_read + read)
