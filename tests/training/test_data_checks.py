"""What is refused before the first step: clips that hold less than a model hears."""

import pytest

from autorecap.dataset.reading.clips import DataError
from autorecap.dataset.reading.manifest import open_manifest
from autorecap.training.data_checks import check_rates
from tests.support.datasets import Growing, five_shards


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Growing:
    return five_shards(str(tmp_path_factory.mktemp("read") / "dataset"))


def test_clips_below_the_rate_that_a_model_hears_are_refused(tmp_path, shards):
    low = Growing(str(tmp_path / "low"), rate_hz=8_000)
    low.add(range(3), seconds=0.2)
    check_rates(open_manifest([shards.url]), 32_000)
    manifest = open_manifest([shards.url, low.url])
    check_rates(manifest, 8_000)
    with pytest.raises(DataError, match=r"has clips at 8,000 Hz, and the model hears 16,000 Hz: .*--where"):
        check_rates(manifest, 16_000)
