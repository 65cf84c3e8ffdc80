"""Which Ray a build runs on, and whether the cluster files fit Ray and the project. No Ray is started here."""

import socket

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from autorecap.base.settings_files import CONFIGS
from autorecap.cluster import start
from autorecap.cluster.start import ClusterError, check_room
from autorecap.pipeline.build.config import load_config
from tests.support.places import PROJECT


@pytest.fixture
def listening():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture(autouse=True)
def _no_ray_here(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(start, "read_ray_address", lambda: None)


def test_without_any_address_a_build_gets_a_ray_of_its_own():
    assert start.cluster_address() is None
    assert start.cluster_address("local") is None


def test_the_given_address_goes_before_the_environment_and_that_before_the_ray_of_this_machine(monkeypatch, listening):
    monkeypatch.setattr(start, "read_ray_address", lambda: listening)
    assert start.cluster_address() == listening
    assert start.cluster_address("local") is None
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert start.cluster_address() == "10.0.0.1:6379"
    assert start.cluster_address("10.0.0.2:6379") == "10.0.0.2:6379"


def test_the_address_that_a_crashed_ray_left_behind_is_passed_over(monkeypatch, listening):
    monkeypatch.setattr(start, "read_ray_address", lambda: "127.0.0.1:1")
    assert start.cluster_address() is None


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense", "http://127.0.0.1:1"])
def test_an_address_where_nothing_answers_is_refused_at_once(address):
    with pytest.raises(ClusterError, match=f"nothing answers at {address}.*--address local"), start.connected(address):
        pass


@pytest.mark.parametrize("file", ["cluster.yaml", "cluster/train-gpu.yaml"])
def test_cluster_files_fit_rays_schema_and_their_mounts_exist(file):
    config = prepare_config(yaml.safe_load((PROJECT / file).read_text()))
    validate_config(config)
    for remote, local in config["file_mounts"].items():
        assert remote.startswith(f"/home/{config['auth']['ssh_user']}/")
        assert (PROJECT / local).exists(), local


def test_a_cluster_without_gpus_has_room_for_the_recipe_until_segments_and_not_for_all_of_it():
    pools = load_config(CONFIGS / "autorecap-xl.yaml").pools
    resources = {"CPU": 2.0}
    check_room(pools.used(until_segments=True), resources)
    with pytest.raises(ClusterError, match="0 of 1 GPUs that the pools want at least"):
        check_room(pools.used(), resources)


def test_the_recipe_for_clusters_asks_for_no_more_than_one_node_of_each_kind_gives():
    kinds = yaml.safe_load((PROJECT / "cluster.yaml").read_text())["available_node_types"]
    pools = load_config(CONFIGS / "autorecap-xl.yaml").pools
    for pool in pools.used():
        kind = kinds["gpu" if pool.gpus else "cpu"]["resources"]
        assert pool.cpus <= kind["CPU"] and pool.gpus <= kind.get("GPU", 0)
    assert sum(pool.cpus * pool.min_workers for pool in pools.used()) <= kinds["cpu"]["resources"]["CPU"]
