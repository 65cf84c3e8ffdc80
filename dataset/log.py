"""The transaction log of a dataset: what counts, what is done, and who may write.

A file of a dataset counts if and only if a commit names it. Commits are numbered without holes and each is put under
its number only if that number is free, so two drivers cannot both write number 17: the one that comes second knows that
it has been replaced. A driver's first commit opens a new epoch.
"""

import json
import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from autorecap.base.errors import REFUSED, ForeseenError, Refused
from autorecap.dataset.row_set import Range, RowSet
from autorecap.dataset.store import NameTaken, Store, patiently

FORMAT = "autorecap/1"
DESCRIPTION = "dataset.json"
CLIPS, SEGMENTS, LATENTS = "clips", "segments", "latents"
"""Kinds of datasets: captioned clips; spans that were found before any audio was fetched; latents of such clips."""
_COMMIT = re.compile(r"commits/\d{10}\.json")
READERS = 16  # small files that are read at once: in S3 each costs a round trip


class DatasetError(ForeseenError):
    """The directory is not a dataset that this program can use. The message says what was found and what to do."""


class Fenced(ForeseenError):
    """Another driver has taken the dataset over; this one must stop."""

    exit_code = REFUSED


@dataclass(frozen=True, kw_only=True)
class File:
    """A published file, as a commit names it."""

    name: str
    sha256: str
    bytes: int
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Retry:
    """A row of the plan that is to be tried again."""

    row: int
    attempt: int  # how often it has been tried
    not_before: int  # Unix time in seconds


@dataclass(frozen=True, kw_only=True)
class Commit:
    """One step of the log. `fingerprint` stands in the commits that open an epoch, with the settings behind it."""

    epoch: int
    driver: str = ""  # a random word of the driver that wrote it
    add: tuple[File, ...] = ()
    remove: tuple[str, ...] = ()
    done: tuple[Range, ...] = ()
    retry: tuple[Retry, ...] = ()
    fingerprint: str = ""
    settings: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> bytes:
        fields = asdict(self)
        fields["retry"] = [[r.row, r.attempt, r.not_before] for r in self.retry]
        if not self.fingerprint:
            del fields["fingerprint"], fields["settings"]
        return (json.dumps(fields, sort_keys=True, ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes, name: str) -> "Commit":
        try:
            fields = json.loads(data)
            return cls(
                epoch=fields["epoch"],
                driver=fields.get("driver", ""),
                add=tuple(File(**file) for file in fields["add"]),
                remove=tuple(fields["remove"]),
                done=tuple((first, end) for first, end in fields["done"]),
                retry=tuple(Retry(*entry) for entry in fields["retry"]),
                fingerprint=fields.get("fingerprint", ""),
                settings=fields.get("settings", {}),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"{name} is not a commit ({error!r}): restore this file from a copy") from error


@dataclass(frozen=True)
class State:
    """The state that the commits of a log add up to, in their order. The latest commit that names a row wins."""

    epoch: int = 0
    next_seq: int = 0
    fingerprint: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    files: dict[str, File] = field(default_factory=dict)
    done: RowSet = RowSet()
    retry: dict[int, Retry] = field(default_factory=dict)

    def names(self, folder: str) -> list[str]:
        """Return the committed files of a folder, in the order of their commits."""
        return [name for name in self.files if name.startswith(folder + "/")]

    @property
    def num_rows(self) -> int:
        """The number of rows in the plan."""
        return sum(self.files[name].counts["rows"] for name in self.names("plan"))

    def unfinished(self, now: float) -> RowSet:
        """Return the rows that a run should work on: never handled, or to be tried again and due."""
        later = RowSet.of_rows(row for row, retry in self.retry.items() if retry.not_before > now)
        return RowSet.of([(0, self.num_rows)]) - self.done - later


def fold(commits: Iterable[Commit], start: State | None = None) -> State:
    """Return the state after these commits, from an empty log or from `start`."""
    start = start or State()
    files = dict(start.files)
    retry = dict(start.retry)
    done, new_done = start.done, list[Range]()
    epoch, seq = start.epoch, start.next_seq
    fingerprint, settings = start.fingerprint, start.settings
    for commit in commits:
        seq += 1
        epoch = commit.epoch
        if commit.fingerprint:
            fingerprint, settings = commit.fingerprint, commit.settings
        for name in commit.remove:
            files.pop(name, None)
        files.update((file.name, file) for file in commit.add)
        new_done += commit.done
        for row in _both(retry, RowSet.of(commit.done)):
            del retry[row]
        if commit.retry:  # rare: only here must the ranges collected so far become one set
            done = RowSet.of([*done.ranges, *new_done]) - RowSet.of_rows(entry.row for entry in commit.retry)
            new_done = []
            retry.update((entry.row, entry) for entry in commit.retry)
    done = RowSet.of([*done.ranges, *new_done])
    return State(epoch, seq, fingerprint, settings, files, done, retry)


def _both(retry: dict[int, Retry], done: RowSet) -> list[int]:
    """Return the rows that are in both, found by going through the smaller."""
    if len(done) < len(retry):
        return [row for row in done if row in retry]
    return [row for row in retry if row in done]


def commit_name(seq: int) -> str:
    return f"commits/{seq:010d}.json"


def describe(store: Store) -> dict[str, Any]:
    """Return the content of dataset.json. Raises DatasetError where the store holds no dataset of this format."""
    try:
        description: dict[str, Any] = json.loads(store.read(DESCRIPTION))
    except FileNotFoundError:
        raise DatasetError(
            f"{store.url} is not a dataset: it has no {DESCRIPTION}. Name the directory that a build wrote."
        ) from None
    except ValueError as error:
        raise DatasetError(f"{store.url}/{DESCRIPTION} is not JSON ({error}): restore it from a copy") from error
    found = description.get("format") if isinstance(description, dict) else None
    if found != FORMAT:
        raise DatasetError(f"{store.url}: format {found!r} found, {FORMAT!r} expected: use the version that wrote it")
    if not isinstance(description.get("kind"), str):
        raise DatasetError(f"{store.url}/{DESCRIPTION} says no kind: restore it from a copy")
    return description


def read_state(store: Store, since: State | None = None, *, seq: int | None = None, tries: int = 1) -> State:
    """Return the state of the dataset as committed now. `since`: an earlier state, to read on from.

    `seq`: how many commits count; None: all there are. `tries`: of each commit that the store refuses to read.
    Raises DatasetError.
    """
    describe(store)
    names = _commits(store) if seq is None else [commit_name(number) for number in range(seq)]

    def read(name: str) -> Commit:
        return Commit.from_json(patiently(lambda: store.read(name), tries), f"{store.url}/{name}")

    try:
        with ThreadPoolExecutor(READERS) as pool:
            return fold(pool.map(read, names[since.next_seq if since else 0 :]), since)
    except FileNotFoundError as error:
        if seq is None:
            raise
        raise DatasetError(
            f"{store.url} had {seq} commits when the run began, and has fewer now: it is another dataset, or it "
            "was not copied whole"
        ) from error


def _commits(store: Store) -> list[str]:
    """Return the names of all commits. Raises DatasetError where one is missing."""
    names = [name for name in store.list("commits") if _COMMIT.fullmatch(name)]  # people leave copies beside them
    for seq, name in enumerate(names):
        if name != commit_name(seq):
            raise DatasetError(f"{store.url}: {commit_name(seq)} is missing ({name} exists): restore it from a copy")
    return names


def state_to_extend(store: Store, kind: str) -> State:
    """Return the state of a dataset that is to be added to: that of an empty dataset, where the store is empty.

    Raises DatasetError where something else lies there, Refused where it is a dataset of another kind.
    """
    if store.is_empty():
        return State()
    if not store.exists(DESCRIPTION):
        raise DatasetError(
            f"{store.url} is not empty and not a dataset (it has no {DESCRIPTION}): name a new directory, or the one "
            "that an earlier run wrote"
        )
    there = describe(store)["kind"]
    if there != kind:
        hint = "add --until segments, or " if (there, kind) == (SEGMENTS, CLIPS) else ""
        raise Refused(f"{store.url} is a dataset of {there}, and this is about {kind}: {hint}name another --out")
    return read_state(store)


class Log:
    """The log as its writer sees it: one driver, in one epoch."""

    def __init__(self, store: Store, state: State) -> None:
        self.store = store
        self.state = state
        self.driver = secrets.token_hex(8)

    @classmethod
    def begin(
        cls,
        store: Store,
        *,
        kind: str,
        fingerprint: str,
        settings: dict[str, Any],
        check: Callable[[State], None] = lambda state: None,
    ) -> "Log":
        """Create the dataset if there is none, and open a new epoch in it.

        `check` is given the state that the epoch begins from, and raises if it must not.
        """
        if not store.exists(DESCRIPTION):
            content = {"format": FORMAT, "kind": kind, "fingerprint": fingerprint, "settings": settings}
            try:
                store.put_new(DESCRIPTION, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())
            except NameTaken:
                pass  # another driver was faster; the epoch decides
        log = cls(store, read_state(store))
        while True:
            check(log.state)
            try:
                log._append(Commit(epoch=log.state.epoch + 1, fingerprint=fingerprint, settings=settings))
                return log
            except Fenced:  # the driver that is to be replaced was faster by one commit
                log.state = read_state(store, log.state)

    def commit(
        self,
        *,
        add: Sequence[File] = (),
        remove: Sequence[str] = (),
        done: Sequence[Range] = (),
        retry: Sequence[Retry] = (),
    ) -> None:
        """Commit: make the files and rows count. Raises Fenced when another driver has opened an epoch since."""
        self._append(
            Commit(epoch=self.state.epoch, add=tuple(add), remove=tuple(remove), done=tuple(done), retry=tuple(retry))
        )

    def _append(self, commit: Commit) -> None:
        name = commit_name(self.state.next_seq)
        commit = replace(commit, driver=self.driver)
        data = commit.to_json()
        try:
            self.store.put_new(name, data)
        except NameTaken:
            if self.store.read(name) == data:  # ours: the answer to the first request was lost, and it was sent again
                self.state = fold([commit], self.state)
                return
            raise Fenced(
                f"{self.store.url}/{name} was written by another driver: a newer build works on this dataset. "
                "This one stops; everything committed so far stays."
            ) from None
        self.state = fold([commit], self.state)
