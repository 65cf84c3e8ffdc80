"""Encodes the clips of a dataset as latents (`autorecap encode`), in a companion dataset with the same keys.

What VAE and text encoders make of a clip never changes while a generator is trained, so it is made once. One shard of
clips becomes one shard of latents and one commit: a run that was stopped goes on behind the last, and a dataset that
has grown since gets the shards that are new.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from autorecap.base.errors import DONE, FINISHED_WITH_FAILURES, Refused
from autorecap.base.settings import result_settings
from autorecap.base.text import printable
from autorecap.dataset.fingerprint import explain_difference, fingerprint
from autorecap.dataset.latent_samples import (
    DTYPES,
    EXTENSION,
    decode_latent,
    sample_of_latent,
)
from autorecap.dataset.log import CLIPS, LATENTS, File, Log, State, state_to_extend
from autorecap.dataset.parquet import read_parquet
from autorecap.dataset.publish import publish_shard, publish_table, writing
from autorecap.dataset.reading.clips import DataError, UnreadableClipError
from autorecap.dataset.reading.dataset_clips import StoredClips
from autorecap.dataset.reading.manifest import DataSource
from autorecap.dataset.schemas import LATENT_INDEX, LATENT_LEDGER
from autorecap.dataset.shard import Sample
from autorecap.dataset.store import Store, open_store
from autorecap.pipeline.latents.encoder import EncodeConfig, Encoder

CODE_VERSION = 1
"""Raised by hand when the same settings would give other latents than before."""
MAX_UNREADABLE = 0.05  # of the clips; where it is more, the command ends with exit code 1


@dataclass
class Outcome:
    """The result of a run so far."""

    shards: int = 0
    clips: int = 0
    pieces: int = 0
    seconds: float = 0.0
    unreadable: list[str] = field(default_factory=list)
    already: int = 0  # shards that were there before

    @property
    def exit_code(self) -> int:
        tried = self.clips + len(self.unreadable)
        return FINISHED_WITH_FAILURES if len(self.unreadable) > MAX_UNREADABLE * max(tried, 1) else DONE


def encode(
    data: str,
    model: str | Path,
    out: str,
    config: EncodeConfig | None = None,
    *,
    where: str = "",
    t5: str | Path | None = None,
    clap: str | Path | None = None,
    device: str = "cpu",
    say: Callable[[str], None] = print,
) -> Outcome:
    """Encode what is not in `out` yet. `model`: folder or hub id of a GenAu, or of a VAE alone (then without texts).

    Raises ForeseenError: no such data or model, `out` holds something else, it cannot be written.
    """
    config = config or EncodeConfig()
    if not DataSource.parse(data).is_dataset:
        raise DataError(
            f"{data} is a list, and datasets are encoded: train on the list as it is, or name what "
            "`autorecap build --lists LIST@FOLDER` makes of it, with captions of its own"
        )
    clips = StoredClips(data, where=where)
    if clips.kind != CLIPS:
        raise DataError(f"{data} holds {clips.kind}: name the dataset of clips that they were made from")
    encoder = Encoder.load(model, config, device, t5, clap)
    settings = {
        **result_settings(config),
        "code_version": CODE_VERSION,
        "vae": encoder.vae.digest(),
        "text": encoder.text.digest() if encoder.text else "",
        "piece_frames": config.piece_frames,
        "where": where.strip(),
    }
    store = open_store(out)
    hashed = fingerprint(settings)

    def matches(state: State) -> None:
        if state.names("shards") and state.fingerprint != hashed:
            difference = explain_difference(state.settings, {**settings, "data": clips.store.url})
            raise Refused(f"{store.url} was encoded otherwise:\n{difference}\nDo as then, or name another --out")

    state = state_to_extend(store, LATENTS)
    matches(state)
    outcome = Outcome()
    done = _done(store, state)
    todo = [number for number, shard in enumerate(clips.shards) if shard not in done]
    outcome.already = len(clips.shards) - len(todo)
    if not todo:
        return outcome
    log = Log.begin(
        store, kind=LATENTS, fingerprint=hashed, settings={**settings, "data": clips.store.url}, check=matches
    )
    started = time.monotonic()
    for count, number in enumerate(todo, 1):
        log.commit(add=_encode_shard(encoder, clips, number, store, config, outcome, say))
        outcome.seconds = time.monotonic() - started
        left_s = (len(todo) - count) * outcome.seconds / count
        say(
            f"{count} of {len(todo)} shards, {outcome.clips:,} clips, {outcome.clips / outcome.seconds:.1f} a second"
            + (f", {left_s / 60:.0f} minutes left" if left_s >= 60 else "")
        )
    return outcome


def _encode_shard(
    encoder: "Encoder",
    clips: StoredClips,
    number: int,
    store: Store,
    config: EncodeConfig,
    outcome: Outcome,
    say: Callable[[str], None],
) -> list[File]:
    """Encode and publish one shard. Returns the files to commit."""
    began = time.monotonic()
    rows = clips.index_rows(number)
    samples: list[Sample] = []
    unreadable: list[dict[str, str]] = []
    count, total, squares = 0, 0.0, 0.0
    first = clips.first_of(number)
    for row, made in zip(rows, encoder([clips[first + i] for i in range(len(rows))]), strict=True):
        if isinstance(made, UnreadableClipError):
            unreadable.append({"key": row["key"], "reason": printable(str(made))})
            say(f"left out, as it cannot be read: {printable(str(made))}")
            continue
        mean, logvar = made["mean"].astype(np.float64), made["logvar"].astype(np.float64)
        count += mean.size
        total += float(mean.sum())
        squares += float((mean**2 + np.exp(logvar)).sum())
        outcome.pieces += -(-mean.shape[1] // config.piece_frames)
        stored = {name: np.ascontiguousarray(array, DTYPES[config.dtype]) for name, array in made.items()}
        if not all(np.isfinite(array).all() for array in stored.values()):
            raise DataError(f"{row['key']}: its latent does not fit into {config.dtype}: encode with --dtype fp32")
        samples.append(sample_of_latent(row, stored))
    shard = clips.shards[number]
    if not samples:
        raise DataError(
            f"{clips.url}/{shard}: none of its {len(rows)} clips can be read: restore it from a copy, and run the same "
            "command again"
        )
    outcome.unreadable += [each["reason"] for each in unreadable]
    outcome.clips += len(samples)
    outcome.shards += 1
    ledger = {
        "source_shard": shard,
        "num_clips": len(rows),
        "num_encoded": len(samples),
        "unreadable": unreadable,
        "num_values": count,
        "sum": total,
        "sum_of_squares": squares,
        "seconds": time.monotonic() - began,
    }
    with writing(store):
        add, rows_written = publish_shard(store, samples, EXTENSION, decode_latent)
        index = pa.Table.from_pylist(rows_written, LATENT_INDEX)
        add.append(publish_table(store, "index", index, {"clips": len(index)}))
        add.append(publish_table(store, "ledger", pa.Table.from_pylist([ledger], LATENT_LEDGER), {"shards": 1}))
    return add


def _done(store: Store, state: State) -> set[str]:
    """Return the shards of clips that are encoded."""
    ledgers = (read_parquet(store, name, ["source_shard"]) for name in state.names("ledger"))
    return {shard for table in ledgers for shard in table.column("source_shard").to_pylist()}
