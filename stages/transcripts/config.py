"""Which transcripts count."""

from dataclasses import dataclass

from autorecap.base.settings import check, setting


@dataclass(frozen=True, kw_only=True)
class TranscriptsConfig:
    """Which transcripts count."""

    languages: tuple[str, ...] = setting(
        ("en",),
        "Accepted languages, the preferred first; 'en' also accepts 'en-US'. English, as in the paper (A.2).",
        results=True,
    )
    allow_machine_translated: bool = setting(
        False,
        "Accept automatic captions that were translated into an accepted language. Their times hold, but speech "
        "recognition of a rarer language misses more speech.",
        results=True,
    )

    def __post_init__(self) -> None:
        is_tuple = isinstance(self.languages, tuple) and all(isinstance(name, str) and name for name in self.languages)
        check(
            is_tuple and bool(self.languages),
            f"transcripts.languages is {self.languages!r}; name at least one language, as in [en]",
        )
