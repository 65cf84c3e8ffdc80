"""`autorecap build`: turns a folder of videos, or lists of online ones, into captioned shards."""

import json
import threading
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autorecap.base.errors import DONE
from autorecap.base.progress import Progress, say
from autorecap.base.signals import interrupt_on_sigterm
from autorecap.base.text import duration
from autorecap.cli.errors import answered
from autorecap.cli.options import ClipTimes, ConfigFile, Exclude, MinClap, MinSeconds, Overrides, Released, built_kind
from autorecap.cluster.place import check_lasts
from autorecap.models import DEMO

if TYPE_CHECKING:
    from autorecap.pipeline.build.config import BuildConfig
    from autorecap.pipeline.build.driver import Flow, Job, Outcome

_POOLS = {"fetch": "read", "media": "decoded", "judge": "captioned"}
_EVERY_S = 2.0


def build(
    out: Annotated[str, typer.Option(help="The dataset: a local directory or s3://bucket/prefix.")],
    videos: Annotated[
        str | None,
        typer.Option(help="A folder: ID.<media>, ID.info.json, ID.<language>.<format>; or a dataset of segments."),
    ] = None,
    lists: Annotated[
        list[str] | None,
        typer.Option(help="A list of online videos, in any format of `autorecap plan`. May be given again."),
    ] = None,
    exclude: Exclude = None,
    clip_times: ClipTimes = False,
    from_released: Released = None,
    min_clap: MinClap = None,
    min_seconds: MinSeconds = None,
    until: Annotated[
        str | None,
        typer.Option(help="segments: stop before any audio is fetched. --out becomes a dataset of segments."),
    ] = None,
    config: ConfigFile = None,
    set_: Overrides = None,
    accept_settings: Annotated[
        bool, typer.Option("--accept-settings", help="Continue a dataset that was built with other settings.")
    ] = False,
    address: Annotated[
        str | None,
        typer.Option(help="A Ray cluster, or local. Default: RAY_ADDRESS, else a Ray that runs here, else local."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
) -> None:
    """Build a dataset from a folder of videos or from lists of online ones, or continue one.

    Videos that are new in the folder or the lists are added to the plan; then all videos of the plan that are not done
    are built. Without --videos and --lists the plan stays as it is.

    Exit code: 0 done; 1 more than max_failed_share of the videos failed, or the store is full; 2 bad usage; 3 refused
    (other settings, or another build has taken over); 130 interrupted.

    Examples:

      autorecap build --videos videos/ --out ambient/

      autorecap build --videos videos/ --out s3://bucket/dataset --config autorecap-xl

      autorecap build --lists eval_segments.csv --lists vggsound.csv --out ambient/

      autorecap build --from-released AutoReCapXL.json --min-clap 0.4 --out rehydrated/

      autorecap build --lists ids.txt --out raw/ --until segments; autorecap build --videos raw/ --out ambient/
    """
    with answered():
        from autorecap.pipeline.build.config import load_config
        from autorecap.pipeline.build.driver import prepare
        from autorecap.pipeline.plan.sources import of_build
        from autorecap.stages.sources.lists import Thresholds

        kind = built_kind(until)
        settings = load_config(config, set_ or [])
        source = of_build(
            videos,
            lists or [],
            exclude=exclude or [],
            times=clip_times,
            released=from_released or [],
            thresholds=Thresholds(min_clap=min_clap, min_seconds=min_seconds),
        )
        job = prepare(source, check_lasts(out), settings, kind=kind, accept_settings=accept_settings)
        _announce(job)
        if not job.has_work:
            say("nothing to do: every video that is planned is done" + _waiting(len(job.state.retry)))
            if as_json:
                print(json.dumps({"videos": 0, "exit_code": DONE}))
            return
        outcome = _run(job, settings, address)
        _conclude(outcome, settings, as_json)
        raise typer.Exit(outcome.exit_code)


def _run(job: "Job", settings: "BuildConfig", address: str | None) -> "Outcome":
    from autorecap.cluster.budget import SharedBudget
    from autorecap.cluster.ray_flow import RayFlow
    from autorecap.cluster.start import cluster_address, connected, wait_for_room
    from autorecap.dataset.log import SEGMENTS
    from autorecap.pipeline.build.driver import run

    interrupt_on_sigterm()
    cluster = cluster_address(address)
    say(f"connecting to Ray at {cluster}" if cluster else "starting Ray")
    with connected(address):
        pools = settings.pools.used(until_segments=job.kind == SEGMENTS)
        wait_for_room(pools, settings.pools.wait_for_nodes_s, say)
        budget = SharedBudget(settings.youtube.budget, list(settings.youtube.egresses_by_name()))
        flow = RayFlow(settings, job.store, budget, until_segments=job.kind == SEGMENTS)
        with _Watch(flow) as watch:
            return run(job, flow, watch.committed)


def _announce(job: "Job") -> None:
    for line in job.found.lines if job.found else [f"{job.state.num_rows} videos planned in {job.store.url}"]:
        say(line)
    if "captions.model" not in job.settings:  # segments need no model
        return
    if job.config.scores.text_model and job.settings["scores.text_model"] == "none":
        say(
            "clap_score stays empty: the captioner's folder has no clap_text, the text branch of its CLAP; name one as "
            "scores.text_model, or set it to '' for no scores"
        )
    if job.config.captions.model == DEMO:
        say("captions come from the demo model, which knows 14 synthesised sounds: set captions.model for real ones")


def _conclude(outcome: "Outcome", settings: "BuildConfig", as_json: bool) -> None:
    counts = outcome.counts
    statuses = ", ".join(f"{counts[name]} {name}" for name in ("ok", "rejected", "failed", "retry") if counts[name])
    summary = f"{counts['videos']} videos in {outcome.seconds:.0f} s ({statuses}): {counts['clips']} clips kept"
    say(summary + _waiting(outcome.waiting))
    if outcome.exit_code:
        say(f"{outcome.failed_share():.0%} failed, more than max_failed_share={settings.max_failed_share:g}")
    say(f"exit code {outcome.exit_code}")
    if as_json:
        seconds = round(outcome.seconds, 1)
        print(json.dumps({**counts, "waiting": outcome.waiting, "seconds": seconds, "exit_code": outcome.exit_code}))


def _waiting(count: int) -> str:
    return f"; {count} will be tried again by a later run" if count else ""


class _Watch:
    """Shows how far the build is: after every commit, and every few seconds between them."""

    def __init__(self, flow: "Flow") -> None:
        self.flow = flow
        self.state = ""
        self.progress = Progress(log_at_once=True)
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "_Watch":
        self.progress.__enter__()
        self.thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.ended.set()
        self.thread.join(timeout=10)
        self.progress.__exit__(*error)

    def committed(self, outcome: "Outcome", total: int) -> None:
        counts = outcome.counts
        rate = counts["videos"] / outcome.seconds if outcome.seconds else 0
        left = f", {duration(int((total - counts['videos']) / rate))} left" if rate and total > counts["videos"] else ""
        self.state = f"{counts['videos']} of {total} videos committed, {counts['clips']} clips kept{left}"
        if outcome.parked_until is not None:
            at = time.strftime("%H:%M:%S", time.localtime(outcome.parked_until))
            wait = duration(int(max(0.0, outcome.parked_until - time.time())))
            self.state += f"; {outcome.parked} wait for an egress until {at} ({wait}): Ctrl-C stops, nothing is lost"
        self._show()

    def _watch(self) -> None:
        while not self.ended.wait(_EVERY_S):
            self._show()

    def _show(self) -> None:
        try:
            counts = self.flow.counts()
        except Exception:  # the cluster is going down: progress is not worth an error
            return
        passed = ", ".join(f"{counts.get(pool, 0)} {word}" for pool, word in _POOLS.items())
        self.progress.line(f"{self.state} ({passed} in this run)")
