"""The data of a run: descriptions are taken apart, conditions choose, and what cannot be meant is refused.

Also proves dataset/reading/chosen.py, which finds the clips of a condition.
"""

from fractions import Fraction

import pytest

from autorecap.dataset.log import DatasetError
from autorecap.dataset.reading.clips import DataError
from autorecap.dataset.reading.manifest import DataSource, open_manifest
from autorecap.dataset.reading.positions import Positions
from autorecap.dataset.sql import BadQuery
from tests.dataset.reading.test_shard_reader import names
from tests.support.datasets import NUM_CLIPS, Growing, five_shards


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Growing:
    return five_shards(str(tmp_path_factory.mktemp("read") / "dataset"))


def test_descriptions_are_taken_apart(tmp_path, monkeypatch):
    for text, expected in (
        ("dataset/", DataSource("dataset/")),
        ("s3://bucket/a=b", DataSource("s3://bucket/a=b")),
        ("clotho=list.csv@folder", DataSource("list.csv@folder", "clotho")),
        ("clotho:0.25=dataset/", DataSource("dataset/", "clotho", Fraction(1, 4))),
        ("x:3=s3://bucket/prefix", DataSource("s3://bucket/prefix", "x", Fraction(3))),
        ("./run=3/dataset", DataSource("./run=3/dataset")),
    ):
        assert DataSource.parse(text) == expected
    monkeypatch.setenv("HOME", str(tmp_path))
    Growing(str(tmp_path / "dataset")).add(range(2))
    assert len(DataSource.parse("clotho=~/dataset").open()) == 2, "a shell leaves this one as it is"
    for text in ("x:0=dataset/", "x:-1=dataset/", "x:much=dataset/", "x:=dataset/", "x:1e999=dataset/"):
        with pytest.raises(DataError, match="is no number above 0"):
            DataSource.parse(text)


def test_data_that_cannot_be_meant_is_refused_with_a_sentence(shards, tmp_path):
    with pytest.raises(DataError, match="no data"):
        open_manifest([])
    with pytest.raises(DataError, match="has no share and others have"):
        open_manifest([f"a:2={shards.url}", shards.url])
    with pytest.raises(DataError, match="has no clips where caption = 'nothing'"):
        open_manifest([shards.url], where="caption = 'nothing'")
    with pytest.raises(BadQuery, match=r"(?s)no_column.*\nThe columns are key, shard"):
        open_manifest([shards.url], where="no_column = 1")
    (tmp_path / "a.wav").write_bytes(b"")
    (tmp_path / "mine.csv").write_text("file_name,caption\na.wav,Rain\n")
    with pytest.raises(DataError, match=r"--where chooses by the index of a dataset, and .*mine\.csv@.* has none"):
        open_manifest([f"{tmp_path / 'mine.csv'}@{tmp_path}"], where="clap_score > 0.4")
    with pytest.raises(BadQuery, match="one clip by itself"):
        open_manifest([shards.url], where="duration_ms > (select avg(duration_ms) from clips)")
    with pytest.raises(BadQuery):
        open_manifest([shards.url], where="row = 1)")
    with pytest.raises(DataError, match="began with 2 sets of data, now there are 1"):
        open_manifest([shards.url], seqs=[3, 4])
    with pytest.raises(DatasetError, match="had 99 commits when the run began, and has fewer now"):
        open_manifest([shards.url], seqs=[99])


def test_a_condition_chooses_clips_and_another_one_makes_another_manifest(shards):
    some = open_manifest([shards.url], where="row % 2 = 0 and title <> 'select over'")
    assert sorted(some[i].name for i in range(len(some))) == sorted(f"v{row}_0_200" for row in range(0, NUM_CLIPS, 2))
    assert some.num_bytes < open_manifest([shards.url]).num_bytes
    identities = {repr(open_manifest([shards.url], where=w).identity) for w in ("", "row > 1", "row > 2", "true")}
    assert len(identities) == 4
    assert open_manifest([shards.url]).identity == open_manifest([shards.url]).identity


def test_a_dataset_that_has_grown_is_read_as_it_was_when_its_commits_are_known(tmp_path):
    growing = Growing(str(tmp_path / "dataset"))
    growing.add(range(4), seconds=0.2)
    before = open_manifest([growing.url])
    order = names(growing.url, range(8))
    growing.add(range(4, 8), seconds=0.2)
    assert len(open_manifest([growing.url])) == 8
    again = open_manifest([growing.url], seqs=before.seqs)
    assert again.identity == before.identity
    assert [Positions(again, 3, 2)(position).name for position in range(8)] == order
    # Files that were taken back are not read, but belong to what was there before.
    index = next(name for name in growing.log.state.names("index"))
    growing.log.commit(remove=[index])
    assert len(open_manifest([growing.url])) == 4
    assert open_manifest([growing.url], seqs=before.seqs).identity == before.identity
