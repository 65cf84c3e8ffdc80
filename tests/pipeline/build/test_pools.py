"""Pools of workers: which stages run in each, in which order, and on how many blocks at once."""

import pytest

from autorecap.pipeline.build.config import load_config
from autorecap.pipeline.build.pools import POOLS, blocks_at_once, stages_of


def names(pool: str, *overrides: str) -> list[str]:
    return [stage.name for stage in stages_of(pool, load_config(None, ["captions.model=demo", *overrides]))]


def test_every_stage_has_one_place_in_the_flow() -> None:
    assert {pool: names(pool) for pool in POOLS} == {
        "fetch": ["probe", "transcripts", "segments"],
        "media": ["media"],
        "judge": ["captions", "merge", "keywords", "scores", "encode"],
    }


def test_scores_that_are_not_wanted_have_no_stage() -> None:
    assert names("judge", "scores.text_model=''") == ["captions", "merge", "keywords", "encode"]


@pytest.mark.parametrize(("in_flight", "block_videos", "blocks"), [(64, 16, 4), (65, 16, 5), (8, 16, 1)])
def test_workers_that_wait_for_a_network_work_on_so_many_blocks_that_all_requests_are_used(
    in_flight: int, block_videos: int, blocks: int
) -> None:
    config = load_config(None, [f"youtube.in_flight={in_flight}", f"pools.block_videos={block_videos}"])
    assert blocks_at_once("fetch", config) == blocks
    assert blocks_at_once("media", config) == blocks_at_once("judge", config) == 1
