"""Settings of the transcripts stage."""

from dataclasses import dataclass

from autorecap.base.settings import Section, setting


@dataclass(frozen=True, kw_only=True)
class TranscriptsConfig(Section, name="transcripts"):
    """Settings of the transcripts stage: which transcripts count."""

    languages: tuple[str, ...] = setting(
        ("en",),
        "Accepted languages, the preferred first; 'en' also accepts 'en-US'. English, as in the paper (A.2).",
        results=True,
        filled=True,
    )
    allow_machine_translated: bool = setting(
        False,
        "Accept automatic captions that were translated into an accepted language. Their times hold, but speech "
        "recognition of a rarer language misses more speech.",
        results=True,
    )
