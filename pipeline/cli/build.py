"""`autorecap build`: from a folder of videos to captioned shards."""

import json
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.config import ConfigFile, Overrides
from pipeline.cli.errors import answered
from pipeline.errors import DONE

if TYPE_CHECKING:
    from pipeline.build import Job, Outcome
    from pipeline.config import BuildConfig

_POOLS = {"fetch": "read", "media": "decoded", "judge": "captioned"}
_EVERY_S = 2.0
_STILL_ALIVE_S = 30.0  # a log gets a line at least this often, also when nothing has moved


def build(
    videos: Annotated[str, typer.Option(help="The folder: ID.<media>, ID.info.json, ID.<language>.<format>.")],
    out: Annotated[str, typer.Option(help="The dataset: a local directory or s3://bucket/prefix.")],
    config: ConfigFile = None,
    set_: Overrides = None,
    accept_settings: Annotated[
        bool, typer.Option("--accept-settings", help="Go on with a dataset that was built with other settings.")
    ] = False,
    address: Annotated[
        str | None,
        typer.Option(help="A Ray cluster, or local. Default: RAY_ADDRESS, else what runs here, else local."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Build a dataset from a folder of videos, or go on with one.

    A second run plans what is new in the folder and does what an interrupted run left; with nothing to do it says so.

    Exit code: 0 done; 1 more than max_failed_share of the videos failed, or the store is full; 2 bad usage; 3 refused
    (other settings, or another build has taken over); 130 interrupted.

    Examples:

      autorecap build --videos videos/ --out dataset/

      autorecap build --videos videos/ --out s3://bucket/dataset --config configs/autorecap-xl.yaml

      autorecap build --videos videos/ --out dataset/ --set captions.num_beams=3
    """
    with answered():
        from pipeline.build import prepare
        from pipeline.config import load_config

        settings = load_config(config, set_ or [])
        job = prepare(videos, out, settings, accept_settings=accept_settings)
        _announce(job)
        if not job.has_work:
            _say("nothing to do: every video of the folder is in the dataset" + _waiting(len(job.state.retry)))
            if as_json:
                print(json.dumps({"videos": 0, "exit_code": DONE}))
            return
        outcome = _run(job, settings, address)
        _conclude(outcome, settings, as_json)
        raise typer.Exit(outcome.exit_code)


def _run(job: "Job", settings: "BuildConfig", address: str | None) -> "Outcome":
    from cluster.start import cluster_address, connected, wait_for_room
    from pipeline.build import run
    from pipeline.graph import Graph

    signal.signal(signal.SIGTERM, _interrupt)  # what `ray job stop` and schedulers send
    cluster = cluster_address(address)
    _say(f"connecting to Ray at {cluster}" if cluster else "starting Ray")
    with connected(address):
        wait_for_room(settings.pools, settings.pools.wait_for_nodes_s, _say)
        graph = Graph(settings, job.store)
        with _Progress(graph) as progress:
            return run(job, graph, progress.committed)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def _announce(job: "Job") -> None:
    folder = job.folder
    _say(f"{len(folder.videos)} videos in the folder, {len(job.new)} of them new to {job.store.url}")
    for names, what in (
        ([video.video_id for video in job.other], "have an id that the dataset holds for another file: not read again"),
        (folder.unfinished, "unfinished downloads are left alone"),
        (folder.without_media, "transcripts have no video beside them"),
        (folder.second_media, "second media files of a video are not read"),
    ):
        if names:
            from stages.text import printable

            shown = ", ".join(printable(name, 60) for name in names[:3]) + (", ..." if len(names) > 3 else "")
            _say(f"{len(names)} {what}: {shown}")
    if job.config.scores.text_model and job.settings["scores.text_model"] == "none":
        _say(
            "clap_score stays empty: the captioner's folder has no clap_text, the text branch of its CLAP; name one as "
            "scores.text_model, or set it to '' for no scores"
        )
    if job.config.captions.model == "demo":
        _say("captions come from the demo model, which knows 14 synthesised sounds: set captions.model for real ones")


def _conclude(outcome: "Outcome", settings: "BuildConfig", as_json: bool) -> None:
    counts = outcome.counts
    statuses = ", ".join(f"{counts[name]} {name}" for name in ("ok", "rejected", "failed", "retry") if counts[name])
    summary = f"{counts['videos']} videos in {outcome.seconds:.0f} s ({statuses}): {counts['clips']} clips kept"
    _say(summary + _waiting(outcome.waiting))
    if outcome.exit_code:
        _say(f"{outcome.failed_share():.0%} failed, more than max_failed_share={settings.max_failed_share:g}")
    _say(f"exit code {outcome.exit_code}")
    if as_json:
        seconds = round(outcome.seconds, 1)
        print(json.dumps({**counts, "waiting": outcome.waiting, "seconds": seconds, "exit_code": outcome.exit_code}))


def _waiting(count: int) -> str:
    return f"; {count} will be tried again by a later run" if count else ""


def _say(message: str) -> None:
    print(f"autorecap: {message}", file=sys.stderr, flush=True)


class _Progress:
    """A line whenever something was committed or a few seconds have passed; on a terminal it stays in one place."""

    def __init__(self, graph: Any) -> None:
        self.graph = graph
        self.state = ""
        self.shown = ""
        self.shown_at = time.monotonic()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.in_place = sys.stderr.isatty()

    def __enter__(self) -> "_Progress":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join(timeout=10)
        if self.in_place and self.shown:
            print(file=sys.stderr)

    def committed(self, outcome: "Outcome", total: int) -> None:
        counts = outcome.counts
        rate = counts["videos"] / outcome.seconds if outcome.seconds else 0
        left = f", {_duration((total - counts['videos']) / rate)} left" if rate and total > counts["videos"] else ""
        self.state = f"{counts['videos']} of {total} videos committed, {counts['clips']} clips kept{left}"
        self._show()

    def _watch(self) -> None:
        while not self.ended.wait(_EVERY_S):
            self._show()

    def _show(self) -> None:
        try:
            counts = self.graph.counts()
        except Exception:  # the cluster is going down: progress is not worth an error
            return
        passed = ", ".join(f"{counts.get(pool, 0)} {word}" for pool, word in _POOLS.items())
        line = f"{self.state} ({passed} in this run)"
        now = time.monotonic()
        if line == self.shown and (self.in_place or now - self.shown_at < _STILL_ALIVE_S):
            return
        self.shown, self.shown_at = line, now
        if self.in_place:
            print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)
        else:
            _say(line)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
