"""Why a video ended where it did: the one list of reasons, for the ledger and for people."""

from enum import Enum, StrEnum


class Status(StrEnum):
    """Where a video stands. Everything but `OK` ends its way: later stages pass it on untouched."""

    OK = "ok"
    REJECTED = "rejected"  # the method dropped it; nothing is wrong with it
    FAILED = "failed"  # it cannot be processed, and trying again will not help
    RETRY = "retry"  # it could not be processed now; a later run tries again


class Reason(Enum):
    """One ending: its code (what the ledger stores), its status, a sentence for people, and what to do about it."""

    NO_TRANSCRIPT = (
        "no_transcript",
        Status.REJECTED,
        "No transcript lies beside the video, so nothing tells speech from ambience (paper, A.2).",
        "Fetch one: yt-dlp --write-subs --write-auto-subs --sub-langs 'en.*' --sub-format json3.",
    )
    NO_TRANSCRIPT_IN_LANGUAGE = (
        "no_transcript_in_language",
        Status.REJECTED,
        "The video has transcripts, but none in an accepted language.",
        "Add the language to transcripts.languages if its transcripts should count.",
    )
    EMPTY_TRANSCRIPT = (
        "empty_transcript",
        Status.REJECTED,
        "The transcript holds no text at all, which says nothing about where people speak.",
        "Nothing, or fetch the transcript again: an empty answer is common when a service wants a token.",
    )
    COLLAPSED_TRANSCRIPT = (
        "collapsed_transcript",
        Status.REJECTED,
        "The whole text is shown in the first moments and blank cues follow: the times mean nothing.",
        "Fetch another track of this video, if it has one.",
    )
    MISTIMED_TRANSCRIPT = (
        "mistimed_transcript",
        Status.REJECTED,
        "No cue lies within the video: the times are a broadcast's clock, or of another video.",
        "Fetch the transcript again, once a live video has been processed.",
    )
    NO_GAP = (
        "no_gap",
        Status.REJECTED,
        "No span without subtitles is longer than segments.min_gap_ms.",
        "Nothing: the method found no ambient sound here.",
    )
    ALL_CLIPS_FILTERED = (
        "all_clips_filtered",
        Status.REJECTED,
        "Every clip was dropped: silent, its caption names speech or music, or its score is too low.",
        "Nothing; the ledger lists each dropped clip with its caption and keyword.",
    )
    TRANSCRIPT_UNREADABLE = (
        "transcript_unreadable",
        Status.FAILED,
        "No transcript beside the video could be parsed.",
        "Look at the file that the detail names; fetch it again.",
    )
    UNDECODABLE = (
        "undecodable",
        Status.FAILED,
        "ffmpeg cannot read the media file.",
        "Play the file; download it again if it is broken.",
    )
    TRUNCATED_MEDIA = (
        "truncated_media",
        Status.FAILED,
        "The media file ends before the length that its header states.",
        "Download it again: a half file is usually an interrupted download.",
    )
    NO_AUDIO = (
        "no_audio",
        Status.FAILED,
        "The media file has no audio stream.",
        "Download a format with audio.",
    )
    MEDIA_MISSING = (
        "media_missing",
        Status.RETRY,
        "The media file was there when the plan was made and cannot be opened now.",
        "Mount or restore the folder, then run the build again.",
    )
    TRANSCRIPT_MISSING = (
        "transcript_missing",
        Status.RETRY,
        "The transcript or the info.json was there when the plan was made and cannot be opened now.",
        "Mount or restore the folder, then run the build again.",
    )
    TIMEOUT = (
        "timeout",
        Status.RETRY,
        "Decoding took longer than media.timeout_s.",
        "Raise media.timeout_s, or look why reading is slow.",
    )
    INTERNAL_ERROR = (
        "internal_error",
        Status.RETRY,
        "A stage raised an error that it should have handled.",
        "Report it with the detail; the video is tried again by the next run.",
    )

    def __init__(self, code: str, status: Status, sentence: str, advice: str) -> None:
        self.code = code
        self.status = status
        self.sentence = sentence
        self.advice = advice

    @classmethod
    def of(cls, code: str) -> "Reason":
        """The reason with this code. Raises KeyError for a code that no version of this list knows."""
        return _BY_CODE[code]


_BY_CODE = {reason.code: reason for reason in Reason}
