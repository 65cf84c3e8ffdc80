"""Lists the reasons why a video ends where it does, for the ledger and for people."""

from enum import Enum, StrEnum


class Status(StrEnum):
    """Where a video stands. Every status but `OK` is final: later stages pass the video on untouched."""

    OK = "ok"
    REJECTED = "rejected"  # the method dropped it; nothing is wrong with it
    FAILED = "failed"  # it cannot be processed, and trying again will not help
    RETRY = "retry"  # it could not be processed now; a later run tries again


class Reason(Enum):
    """One ending of a video: its code in the ledger, its status, a sentence for people, and what to do about it."""

    NO_TRANSCRIPT = (
        "no_transcript",
        Status.REJECTED,
        "The video has no transcript, so nothing tells speech from ambience (paper, A.2).",
        "Nothing for a video of YouTube. In a folder, fetch one: yt-dlp --write-subs --write-auto-subs --sub-langs "
        "'en.*' --sub-format json3.",
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
        "Fetching or decoding took longer than media.timeout_s, or one request longer than youtube.request_timeout_s.",
        "Raise the limit that the detail names, or look why reading is slow.",
    )
    # --- what YouTube says of a video
    PRIVATE = (
        "private",
        Status.FAILED,
        "Its owner alone may see the video.",
        "Nothing: about a third of an old list is gone.",
    )
    DELETED = (
        "deleted",
        Status.FAILED,
        "The video is not there any more: deleted, its account terminated, or never there.",
        "Nothing: about a third of an old list is gone.",
    )
    AGE_RESTRICTED = (
        "age_restricted",
        Status.FAILED,
        "The video is shown to signed-in adults alone.",
        "Nothing, or an egress with cookies of an account that may see it (youtube.cookies).",
    )
    MEMBERS_ONLY = (
        "members_only",
        Status.FAILED,
        "The video is shown to paying members of its channel, or to those who bought it.",
        "Nothing.",
    )
    GEO_BLOCKED = (
        "geo_blocked",
        Status.FAILED,
        "The video is not shown in the country of the egress.",
        "Nothing, or an egress in another country (youtube.egresses).",
    )
    UNPLAYABLE = (
        "unplayable",
        Status.FAILED,
        "YouTube refuses to play the video, for a reason of its own that the detail holds.",
        "Read the detail.",
    )
    LIVE = (
        "live",
        Status.FAILED,
        "The video is a broadcast that goes on: it has neither an end nor a final transcript.",
        "Put it into a later list.",
    )
    UPCOMING = (
        "upcoming",
        Status.RETRY,
        "The video has been announced and not been shown yet.",
        "Nothing: a later run tries again.",
    )
    # --- what YouTube thinks of an egress: it is parked, and the video waits for another try
    RATE_LIMITED = (
        "rate_limited",
        Status.RETRY,
        "YouTube answered 429, too many requests, again and again.",
        "Nothing: the egress is parked and the video tried again. If it comes often, lower "
        "youtube.budget.requests_per_s.",
    )
    IP_BLOCKED = (
        "ip_blocked",
        Status.RETRY,
        "YouTube shows this address a captcha in place of the video.",
        "Nothing: the egress is parked and the video tried again. Addresses of cloud providers are often blocked: "
        "name proxies as youtube.egresses.",
    )
    BOT_CHECK = (
        "bot_check",
        Status.RETRY,
        "YouTube asks this address to sign in, to confirm that it is no bot.",
        "Nothing: the egress is parked and the video tried again. Lower youtube.budget.requests_per_s, or give the "
        "egress cookies (youtube.cookies).",
    )
    # --- what went wrong on the way
    PO_TOKEN_REQUIRED = (
        "po_token_required",
        Status.RETRY,
        "YouTube hands out what was asked for only with a PO token.",
        "Set up a provider of PO tokens for yt-dlp and name it in youtube.extractor_args (docs/youtube.md).",
    )
    NETWORK = (
        "network",
        Status.RETRY,
        "A connection failed, was cut off, or the server had an error of its own.",
        "Nothing: a later run tries again. If it comes often, look at the network, or at the proxy.",
    )
    BAD_ANSWER = (
        "bad_answer",
        Status.RETRY,
        "YouTube's answer was empty, cut off, or no answer that yt-dlp and youtube-transcript-api understand.",
        "If it comes often, update both packages: YouTube may have changed.",
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

    @property
    def parks(self) -> bool:
        """Whether the egress is at fault, not the video: the egress is parked, and no attempt is counted."""
        return self in (Reason.RATE_LIMITED, Reason.IP_BLOCKED, Reason.BOT_CHECK)

    @classmethod
    def of(cls, code: str) -> "Reason":
        """Return the reason with this code. Raises KeyError for a code that no version of this list knows."""
        return _BY_CODE[code]


_BY_CODE = {reason.code: reason for reason in Reason}
