"""The data of a run: which clips of which sets, in which shares, fixed by one hash.

A set is described by one text:

    DATASET              a directory that `autorecap build` or `autorecap encode` wrote, or s3://bucket/prefix
    LIST@FOLDER          a CSV or JSON list (AudioCaps, Clotho, WavCaps, or file_name,caption) and where its audio lies
    LIST                 the same, the audio beside the list
    NAME=...             any of these under a name: the dataset whose style a generator learns
    NAME:SHARE=...       and with a share: how often its turn comes, against the shares of the others

Sets without shares are one list of clips. A folder whose name has "=" in it is written ./NAME=FOLDER.
"""

import hashlib
import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from autorecap.base.settings import Section, setting
from autorecap.dataset.log import CLIPS, DESCRIPTION, LATENTS
from autorecap.dataset.reading.clips import Clip, Clips, DataError, ListedClips
from autorecap.dataset.reading.dataset_clips import StoredClips
from autorecap.dataset.reading.order import Order
from autorecap.dataset.reading.shard_reader import Ahead, ReadConfig

_NAMED = re.compile(r"(?P<name>[A-Za-z0-9_-]*)(?::(?P<share>[^=/]*))?=(?P<data>.+)")
_LIST = re.compile(r"(?P<list>.+?\.(?:csv|json))(?:@(?P<folder>.+))?", re.IGNORECASE)
_LOOK_AHEAD_EVERY = 32  # positions


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
class Source:
    """One description, taken apart."""

    data: str
    name: str = ""
    share: Fraction | None = None

    @classmethod
    def parse(cls, text: str) -> "Source":
        """Raises DataError."""
        found = _NAMED.fullmatch(text)
        if not found:
            return cls(text)
        share = found["share"]
        if share is None:
            return cls(found["data"], found["name"])
        if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", share) or not float(share):
            raise DataError(f"{text}: the share {share!r} is no number above 0, such as 2 or 0.5")
        return cls(found["data"], found["name"], Fraction(Decimal(share)))

    @property
    def is_dataset(self) -> bool:
        """Whether it is one of this project's, and not a list of files."""
        return not _LIST.fullmatch(self.data)

    def open(self, where: str = "", seq: int | None = None, read: ReadConfig | None = None) -> Clips:
        found = _LIST.fullmatch(self.data)
        if found:
            return ListedClips(found["list"], found["folder"] or str(Path(found["list"]).parent), self.name)
        folder = Path(self.data).expanduser()
        if "://" not in self.data and not (folder / DESCRIPTION).exists():
            what = "holds no dataset" if folder.exists() else "does not exist"
            raise DataError(
                f"{self.data} {what}: name a directory that a build wrote, or a list of audio, LIST.csv@FOLDER or "
                "LIST.json@FOLDER"
            )
        return StoredClips(self.data, self.name, where, seq, read)


def open_clips(data: str, where: str = "", seq: int | None = None) -> Clips:
    """The clips of one description. `where`: an SQL condition on the index, for datasets of this project.

    `seq`: the dataset as it was after so many commits; None: as it is now. Raises DataError and other ForeseenErrors.
    """
    return Source.parse(data).open(where, seq)


def open_manifest(
    data: Sequence[str],
    where: str = "",
    seqs: Sequence[int | None] | None = None,
    config: DataConfig | None = None,
) -> "Manifest":
    """The manifest of these descriptions. `seqs`: as an earlier one of the same data had them; None: as it is now."""
    config = config or DataConfig()
    sources = [Source.parse(text) for text in data]
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
        """`given_names`: those that somebody wrote before a set, of all that sets have."""
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
        """Of each set how many commits counted: what `open_manifest` needs to find the same again."""
        return [clips.identity.get("seq") for clips in self.sets]

    @property
    def identity(self) -> dict[str, Any]:
        return {
            str(number): {**clips.identity, "share": str(share)}
            for number, (clips, share) in enumerate(zip(self.sets, self.shares, strict=True))
        }

    @property
    def sha256(self) -> str:
        """Of all that fixes which clip comes when, but the seed and the window."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()

    @property
    def notes(self) -> list[str]:
        return [note for clips in self.sets for note in clips.notes]

    @property
    def num_bytes(self) -> int:
        """Of the clips in datasets, as stored; those of lists are not counted."""
        return sum(clips.num_bytes for clips in self.sets if isinstance(clips, StoredClips))


class Positions:
    """The endless list of clips in the order of a run. What will be wanted soon is fetched meanwhile."""

    def __init__(self, clips: "Clips | Manifest", seed: int, window: int) -> None:
        manifest = clips if isinstance(clips, Manifest) else Manifest([clips])
        self.sets, self.window = manifest.sets, window
        self.order = Order([each.shard_sizes for each in self.sets], manifest.shares, seed, window)
        self._ahead = Ahead()
        self._seen: set[tuple[int, ...]] = set()

    def __call__(self, position: int) -> Clip:
        if position % _LOOK_AHEAD_EVERY == 0:
            self._look_ahead(position)
        place = self.order(position)
        return self.sets[place.number][place.clip]

    def _look_ahead(self, position: int) -> None:
        for number, (now, after) in enumerate(self.order.windows(position)):
            for shards in (now, after):
                what = (number, *shards)
                if what not in self._seen:
                    self._seen.add(what)
                    for shard in shards:
                        self._ahead.add(partial(self.sets[number].prepare, shard, self.window))
        if len(self._seen) > 64:
            self._seen.clear()


# --- what is refused before a step is made


def check_rates(manifest: Manifest, rate_hz: int) -> None:
    """Refuse datasets whose clips hold less than a model hears. Raises DataError."""
    for clips in manifest.sets:
        if isinstance(clips, StoredClips) and clips.kind == CLIPS and clips.rates_hz[0] < rate_hz:
            raise DataError(
                f"{clips.url} has clips at {clips.rates_hz[0]:,} Hz, and the model hears {rate_hz:,} Hz: build it with "
                f"media.sample_rate_hz={rate_hz} or more, or leave them out by --where 'sample_rate_hz >= {rate_hz}'"
            )


def check_audio(manifest: Manifest) -> None:
    """Refuse latents. Raises DataError."""
    for clips in latent_sets(manifest)[:1]:
        raise DataError(f"{clips.url} holds latents, and this model learns from audio: name the dataset of the clips")


def latent_sets(manifest: Manifest) -> list[StoredClips]:
    """The sets that hold latents, where all do; [] where none does. Raises DataError for both at once."""
    found = [clips for clips in manifest.sets if isinstance(clips, StoredClips) and clips.kind == LATENTS]
    if found and len(found) < len(manifest.sets):
        raise DataError("some of the data are latents and some is audio: encode all of it, or name the audio of all")
    return found


def check_latents(manifest: Manifest, *, vae: str, text: str = "", max_frames: int = 0) -> list[StoredClips]:
    """The sets of latents, made by this VAE and these text encoders (digests, see `models.files.digest`; text "": any).

    `max_frames`: of the model. Raises DataError for others, whose numbers mean something else.
    """
    sets = latent_sets(manifest)
    for clips in sets:
        made = clips.settings
        again = f"encode it again: autorecap encode --data {made.get('data', 'DATASET')} --model MODEL --out DIR"
        if made["vae"] != vae:
            raise DataError(
                f"{clips.url} holds latents of another VAE ({made['vae'][:12]}, the model's is {vae[:12]}): {again}"
            )
        if text and made["text"] and made["text"] != text:
            raise DataError(
                f"{clips.url} holds texts of other encoders ({made['text'][:12]}, the model's are {text[:12]}): {again}"
            )
        if max_frames and made["piece_frames"] > max_frames:
            raise DataError(
                f"{clips.url} holds pieces of {made['piece_frames']} latent frames, more than the {max_frames} that "
                f"the model can make: {again} --max-seconds {max_frames / 25:g}"
            )
    return sets


def scale_factor(sets: Sequence[StoredClips]) -> float:
    """What brings the latents of these sets to unit variance, taken together. Raises DataError where there is none."""
    count, total, squares = np.sum([clips.sums for clips in sets], axis=0).tolist()
    variance = squares / count - (total / count) ** 2
    if not 0 < variance < np.inf:
        raise DataError(f"{sets[0].url}: its latents have a variance of {variance}: the VAE that made them is broken")
    return float(variance**-0.5)
