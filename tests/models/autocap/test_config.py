"""AutoCap's config: the sizes of the paper, and settings that are refused by name.

Also proves models/config.py, which builds and checks every model's config.
"""

import dataclasses
import json

import pytest
import torch

from autorecap.models.autocap import SIZES, AutoCap, AutoCapConfig, CaptionTokenizer
from autorecap.models.swin import SwinConfig


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"window_s": "10"}, "config.window_s is '10': expected a number"),
        ({"window_s": float("inf")}, "config.window_s is inf: expected a number"),
        ({"token_repeat": True}, "config.token_repeat is True: expected a whole number"),
        ({"use_eoa": 1}, "config.use_eoa is 1: expected true or false"),
        ({"htsat": []}, r"config.htsat is \[\]: expected settings by name"),
        ({"bart": {"width": 1.5}}, "config.bart.width is 1.5: expected a whole number"),
    ],
)
def test_a_setting_of_another_type_is_named(changed: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AutoCapConfig.from_dict(SIZES["demo"].to_dict() | changed)


def test_a_config_survives_json() -> None:
    for config in SIZES.values():
        assert AutoCapConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_the_sizes_have_the_parameters_of_the_paper_and_of_bart() -> None:
    def count(size: str) -> int:
        with torch.device("meta"):
            modules = AutoCap(SIZES[size], CaptionTokenizer.train([], 300))
        return sum(parameter.numel() for parameter in modules.parameters())

    htsat, clap = 27_534_488, 67_824_408 + 787_456  # without constants and the AudioSet classifiers; CLAP's projection
    bart, qformer = 139_420_416, 4_732_928 + 65_536
    projections = 590_592 + 1_536 + 197_376 + 393_984 + 1_536
    tables = (1_024 + 12 + 1) * 768  # positions of the audio, tags, eoa
    assert count("base") == htsat + clap + bart + qformer + projections + tables
    assert count("large") - count("base") > 406_291_456 - 139_420_416  # BART-large's and BART-base's own


def test_a_place_of_the_clap_token_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="clap_in_loss is 'front'"):
        dataclasses.replace(SIZES["demo"], clap_in_loss="front")


def test_a_misspelt_setting_is_refused_with_its_place() -> None:
    values = SIZES["demo"].to_dict()
    values["bart"]["widht"] = 3
    with pytest.raises(ValueError, match=r"config\.bart: no setting is called widht"):
        AutoCapConfig.from_dict(values)


def test_sizes_that_cannot_work_are_refused() -> None:
    with pytest.raises(ValueError, match="raise max_positions"):
        dataclasses.replace(SIZES["demo"], max_metadata_tokens=200)
    with pytest.raises(ValueError, match="one of each per stage"):
        SwinConfig(mel=SIZES["demo"].htsat.mel, heads=(4,))
