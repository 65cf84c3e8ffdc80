"""The store, on a local disk and on an S3 server on loopback: both must keep the same promises."""

import os
import pickle
from typing import Any

import pytest

from autorecap.dataset import store as module
from autorecap.dataset.store import STAGING, TRIES, NameTaken, StoreError, open_store, patiently


@pytest.fixture(params=["local", "s3"])
def store(request, tmp_path):
    if request.param == "local":
        return open_store(str(tmp_path / "data"))
    return open_store(request.getfixturevalue("s3_bucket") + "/some/dataset")


def test_a_name_is_given_once_and_never_rewritten(store):
    store.put_new("a/x", b"first")
    with pytest.raises(NameTaken, match="x exists"):
        store.put_new("a/x", b"second")
    assert store.read("a/x") == b"first"


def test_a_file_is_published_whole_from_scratch(store):
    with store.scratch() as path:
        path.write_bytes(b"0123456789" * 1000)
        store.put_new("shards/t.tar", path)
    assert store.read_range("shards/t.tar", 9_990, 9_995) == b"01234"
    assert store.read_range("shards/t.tar", 9_998, 99_999) == b"89"
    with store.scratch() as path, pytest.raises(NameTaken):
        path.write_bytes(b"other")
        store.put_new("shards/t.tar", path)


def test_listing_gives_names_in_order_and_nothing_for_a_missing_folder(store):
    for name in ("c/2", "c/1", "d/3", "top"):
        store.put_new(name, b"x")
    assert store.list("c") == ["c/1", "c/2"]
    assert store.list("") == ["top"]
    assert store.list("nothing") == []
    assert store.exists("c/1") and not store.exists("c/9")


def test_an_empty_place_is_told_from_a_used_one(store):
    assert store.is_empty()
    store.put("lease.json", b"{}")
    store.put("lease.json", b"{2}")
    assert store.read("lease.json") == b"{2}"
    assert not store.is_empty()


def test_a_missing_file_raises_file_not_found(store):
    with pytest.raises(FileNotFoundError):
        store.read("no/such")


def test_a_store_travels_to_another_process(store):
    store.put_new("a", b"1")
    assert pickle.loads(pickle.dumps(store)).read("a") == b"1"


def test_a_failed_publish_leaves_no_trace(tmp_path):
    store = open_store(str(tmp_path / "data"))
    store.put_new("a", b"1")
    with pytest.raises(NameTaken):
        store.put_new("a", b"2")
    assert list((tmp_path / "data" / STAGING).iterdir()) == []
    left = tmp_path / "data" / STAGING / "left-by-a-crash"
    left.write_bytes(b"x")
    store.sweep()
    assert left.exists(), "somebody may be writing it"
    os.utime(left, (0, 0))
    store.sweep()
    assert not left.exists() and store.list("") == ["a"]


def test_a_place_with_nothing_but_what_a_crash_left_is_empty(tmp_path, s3_bucket):
    (tmp_path / "data" / STAGING).mkdir(parents=True)
    assert open_store(str(tmp_path / "data")).is_empty()
    import s3fs

    s3fs.S3FileSystem(skip_instance_cache=True).pipe(f"{s3_bucket}/marked/", b"")
    assert open_store(f"{s3_bucket}/marked").is_empty()


def test_an_s3_that_does_not_answer_is_explained(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    with pytest.raises(StoreError, match="Check credentials"):
        open_store("s3://bucket/data").read("dataset.json")


def test_a_missing_bucket_is_named(s3_bucket):
    with pytest.raises(StoreError, match="no-such-bucket"):
        open_store("s3://no-such-bucket/data").is_empty()


def test_a_url_of_a_local_file_is_its_path(tmp_path):
    open_store(f"file://{tmp_path}/my%20clips").put("a", b"1")
    assert open_store(f"{tmp_path}/my clips").read("a") == b"1"


@pytest.mark.parametrize("url", ["", " ", "s3://", "file://"])
def test_an_empty_place_is_refused(url):
    with pytest.raises(StoreError, match="names no place"):
        open_store(url)


@pytest.mark.parametrize("url", ["gs://bucket/x", "http://host/x"])
def test_an_unknown_kind_of_place_is_refused(url):
    with pytest.raises(StoreError, match="local disk or in s3"):
        open_store(url)


def test_a_file_in_place_of_the_directory_is_refused(tmp_path):
    (tmp_path / "f").write_text("x")
    with pytest.raises(StoreError, match="is a file"):
        open_store(str(tmp_path / "f")).is_empty()


def test_a_store_with_a_weak_moment_is_asked_again_and_one_that_is_gone_is_not_for_ever(monkeypatch):
    monkeypatch.setattr(module, "WAIT_S", 0.0)
    answers = iter([StoreError("throttled"), StoreError("throttled"), b"data"])

    def read() -> bytes:
        answer: Any = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert patiently(read) == b"data"
    tries = []

    def fail() -> bytes:
        tries.append(1)
        raise StoreError("gone")

    with pytest.raises(StoreError, match="gone"):
        patiently(fail)
    assert len(tries) == TRIES
    tries.clear()
    with pytest.raises(StoreError, match="gone"):
        patiently(fail, tries=1)
    assert len(tries) == 1
