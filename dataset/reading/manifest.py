"""The data of a run: which clips of which sets, in which shares, fixed by one hash.

A set is described by one text:

    DATASET              a directory that `autorecap build` or `autorecap encode` wrote, or s3://bucket/prefix
    LIST@FOLDER          a CSV or JSON list (AudioCaps, Clotho, WavCaps, or file_name,caption) and where its audio lies
    LIST                 the same, the audio beside the list
    NAME=...             any of these under a name: the dataset whose style a generator learns
    NAME:SHARE=...       and with a share: how often its turn comes, against the shares of the others

Sets without shares are one list of clips. A folder whose name has "=" in it is written ./NAME=FOLDER.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from autorecap.base.files import is_remote, local_path
from autorecap.base.settings import Section, setting
from autorecap.dataset.log import DESCRIPTION
from autorecap.dataset.reading.clips import Clip, Clips, DataError, ListedClips
from autorecap.dataset.reading.dataset_clips import StoredClips
from autorecap.dataset.reading.shard_reader import ReadConfig

_NAMED = re.compile(r"(?P<name>[A-Za-z0-9_-]*)(?::(?P<share>[^=/]*))?=(?P<data>.+)")
_LIST = re.compile(r"(?P<list>.+?\.(?:csv|json))(?:@(?P<folder>.+))?", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class DataConfig(Section, name="data"):
    """How the data is read."""

    window: int = setting(
        32,
        "Shards open at once, whose clips are shuffled as one; more: better shuffled, more to hold.",
        results=True,
        ge=1,
    )
    read: ReadConfig = setting(ReadConfig, "shards in S3")


@dataclass(frozen=True)
class DataSource:
    """One description of a set of clips, taken apart."""

    data: str
    name: str = ""
    share: Fraction | None = None

    @classmethod
    def parse(cls, text: str) -> "DataSource":
        """Take a description apart. Raises DataError."""
        match = _NAMED.fullmatch(text)
        if not match:
            return cls(text)
        share = match["share"]
        if share is None:
            return cls(match["data"], match["name"])
        if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", share) or not float(share):
            raise DataError(f"{text}: the share {share!r} is no number above 0, such as 2 or 0.5")
        return cls(match["data"], match["name"], Fraction(Decimal(share)))

    @property
    def is_dataset(self) -> bool:
        """Whether it names a dataset of this project, and not a list of files."""
        return not _LIST.fullmatch(self.data)

    def open(self, where: str = "", seq: int | None = None, read: ReadConfig | None = None) -> Clips:
        match = _LIST.fullmatch(self.data)
        if match:
            return ListedClips(match["list"], match["folder"] or str(Path(match["list"]).parent), self.name)
        folder = local_path(self.data).expanduser()
        if not is_remote(self.data) and not (folder / DESCRIPTION).exists():
            what = "holds no dataset" if folder.exists() else "does not exist"
            raise DataError(
                f"{self.data} {what}: name a directory that a build wrote, or a list of audio, LIST.csv@FOLDER or "
                "LIST.json@FOLDER"
            )
        return StoredClips(self.data, self.name, where, seq, read)


def open_manifest(
    data: Sequence[str],
    where: str = "",
    seqs: Sequence[int | None] | None = None,
    config: DataConfig | None = None,
) -> "Manifest":
    """Open the sets of these descriptions. `seqs`: those of an earlier manifest; None: as the data is now."""
    config = config or DataConfig()
    sources = [DataSource.parse(text) for text in data]
    if not sources:
        raise DataError("no data: name a dataset, or LIST@FOLDER")
    if seqs is not None and len(seqs) != len(sources):
        raise DataError(f"the run began with {len(seqs)} sets of data, now there are {len(sources)}: name the same")
    if len({source.share is None for source in sources}) > 1:
        without = next(text for text, source in zip(data, sources, strict=True) if source.share is None)
        raise DataError(f"{without} has no share and others have: write NAME:SHARE=... for every set, or for none")
    if where and not any(source.is_dataset for source in sources):
        raise DataError(f"--where chooses by the index of a dataset, and {', '.join(data)} has none: leave it out")
    known = seqs or [None] * len(sources)
    sets = [source.open(where, seq, config.read) for source, seq in zip(sources, known, strict=True)]
    return Manifest(sets, [source.share for source in sources], {source.name for source in sources if source.name})


class Manifest:
    """Several sets, one after the other; and the order in which a run reads them."""

    def __init__(
        self,
        sets: Sequence[Clips],
        shares: Sequence[Fraction | None] | None = None,
        given_names: Collection[str] = (),
    ) -> None:
        """`given_names`: the names that a user wrote before a set; others have a name of their own."""
        self.sets, self.given_names = list(sets), given_names
        given = [share for share in shares or () if share is not None]
        self.shares: list[Fraction | int] = [*given] if given else [len(clips) for clips in self.sets]
        self._ends = np.cumsum([len(clips) for clips in self.sets])

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, index: int) -> Clip:
        number = int(np.searchsorted(self._ends, index, side="right"))
        return self.sets[number][index - (int(self._ends[number - 1]) if number else 0)]

    @property
    def seqs(self) -> list[int | None]:
        """How many commits of each set count: with these `open_manifest` finds the same clips again."""
        return [clips.identity.get("seq") for clips in self.sets]

    @property
    def identity(self) -> dict[str, Any]:
        return {
            str(number): {**clips.identity, "share": str(share)}
            for number, (clips, share) in enumerate(zip(self.sets, self.shares, strict=True))
        }

    @property
    def notes(self) -> list[str]:
        return [note for clips in self.sets for note in clips.notes]

    @property
    def num_bytes(self) -> int:
        """The size of the clips in datasets, as stored; those of lists are not counted."""
        return sum(clips.num_bytes for clips in self.sets if isinstance(clips, StoredClips))
