"""The transaction log: what counts, what is done, and who may write."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autorecap.dataset.log import Commit, DatasetError, Fenced, File, Log, Retry, commit_name, fold, read_state
from autorecap.dataset.row_set import RowSet
from autorecap.dataset.store import LocalStore, open_store


def members(pairs):
    return {row for first, end in pairs for row in range(first, end)}


@pytest.fixture
def store(tmp_path) -> LocalStore:
    found = open_store(str(tmp_path / "dataset"))
    assert isinstance(found, LocalStore)
    return found


def begin(store, fingerprint="f1"):
    return Log.begin(store, kind="clips", fingerprint=fingerprint, settings={"a": 1})


def plan(first, count):
    return File(name=f"plan/{first}-{count}.parquet", sha256="0", bytes=1, counts={"rows": count})


def test_a_new_log_opens_epoch_one_and_each_driver_the_next(store):
    assert begin(store).state.epoch == 1
    assert begin(store).state.epoch == 2
    assert read_state(store).epoch == 2


def test_a_replaced_driver_is_refused_and_changes_nothing(store):
    old = begin(store)
    new = begin(store)
    with pytest.raises(Fenced, match="another driver"):
        old.commit(done=[(0, 5)])
    new.commit(add=[plan(0, 10)], done=[(0, 3)])
    assert read_state(store).done == RowSet.of([(0, 3)])


def test_a_commit_whose_answer_was_lost_and_that_was_sent_again_is_no_other_driver(store):
    log = begin(store)
    state = log.state
    log.commit(done=[(0, 5)])
    sent = store.read(commit_name(state.next_seq))
    log.state = state  # the driver never heard that it was done
    log.commit(done=[(0, 5)])
    assert store.read(commit_name(state.next_seq)) == sent and log.state.next_seq == state.next_seq + 1
    other = Log(store, state)
    with pytest.raises(Fenced):
        other.commit(done=[(0, 5)])  # the same content, from somebody else


def test_a_new_driver_gets_its_epoch_while_the_old_one_keeps_committing(store):
    old = begin(store)
    seen = []

    def commit_meanwhile(state):
        seen.append(state.next_seq)
        if len(seen) < 4:
            old.commit(done=[(len(seen), len(seen) + 1)])

    new = Log.begin(store, kind="clips", fingerprint="f", settings={}, check=commit_meanwhile)
    assert seen == [1, 2, 3, 4] and new.state.done == RowSet.of([(1, 4)])
    with pytest.raises(Fenced):
        old.commit(done=[(9, 10)])


def test_unfinished_rows_are_the_plan_minus_done_plus_what_is_due(store):
    log = begin(store)
    log.commit(add=[plan(0, 10)])
    log.commit(done=[(0, 4)])
    log.commit(done=[(4, 6)], retry=[Retry(2, 1, 100), Retry(6, 1, 200)])
    state = read_state(store)
    assert list(state.unfinished(now=150)) == [2, 7, 8, 9]
    assert list(state.unfinished(now=250)) == [2, 6, 7, 8, 9]
    log.commit(done=[(2, 3)])
    assert list(read_state(store).unfinished(now=150)) == [7, 8, 9]
    assert read_state(store).retry.keys() == {6}


def test_a_removed_file_no_longer_counts(store):
    log = begin(store)
    log.commit(add=[File(name="shards/a.tar", sha256="1", bytes=1), File(name="shards/b.tar", sha256="2", bytes=1)])
    log.commit(remove=["shards/a.tar"])
    assert read_state(store).names("shards") == ["shards/b.tar"]


commits = st.lists(
    st.builds(
        lambda done, retry: Commit(epoch=1, done=tuple(done), retry=tuple(Retry(r, 1, 0) for r in retry)),
        st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=3),
        st.lists(st.integers(0, 20), max_size=3),
    ),
    max_size=8,
)


@given(commits)
def test_the_latest_commit_that_names_a_row_wins(history):
    done: set[int] = set()
    retry: set[int] = set()
    for commit in history:
        done |= members(commit.done)
        retry -= members(commit.done)
        done -= {entry.row for entry in commit.retry}
        retry |= {entry.row for entry in commit.retry}
    state = fold(history)
    assert set(state.done) == done
    assert state.retry.keys() == retry


@given(commits, st.integers(0, 8))
def test_reading_on_from_a_state_equals_reading_from_the_start(history, cut):
    assert fold(history[cut:], fold(history[:cut])) == fold(history)


@given(commits)
def test_a_commit_survives_its_json(history):
    for commit in history:
        assert Commit.from_json(commit.to_json(), "x") == commit


def test_a_hole_in_the_log_is_an_error_that_names_the_missing_commit(store, tmp_path):
    log = begin(store)
    log.commit(done=[(0, 1)])
    log.commit(done=[(1, 2)])
    (tmp_path / "dataset" / commit_name(1)).unlink()
    with pytest.raises(DatasetError, match=r"commits/0000000001\.json is missing"):
        read_state(store)


@pytest.mark.parametrize("content", ["{", "[]", '{"format": "other/2"}'])
def test_a_damaged_description_is_an_error_that_says_what_was_found(store, content):
    store.put_new("dataset.json", content.encode())
    with pytest.raises(DatasetError, match=r"dataset\.json|format"):
        read_state(store)


def test_a_damaged_commit_is_an_error_that_names_it(store, tmp_path):
    begin(store)
    (tmp_path / "dataset" / commit_name(0)).write_text(json.dumps({"epoch": 1}))
    with pytest.raises(DatasetError, match=r"0000000000\.json is not a commit"):
        read_state(store)


def test_a_directory_that_is_no_dataset_is_named(store):
    with pytest.raises(DatasetError, match="is not a dataset"):
        read_state(store)
