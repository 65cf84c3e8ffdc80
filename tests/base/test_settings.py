"""Declarations of settings: one mechanism checks them all, and tells their allowed values."""

import dataclasses
import pickle
from dataclasses import dataclass
from typing import Any, get_args

import pytest

from autorecap.base.settings import Section, SettingError, allowed_values, check, setting
from autorecap.base.settings_files import to_yaml
from autorecap.pipeline.build.config import BuildConfig
from autorecap.pipeline.latents.encoder import EncodeConfig
from autorecap.training.autocap.recipe import AutoCapTraining
from autorecap.training.genau.recipe import GenAuTraining
from autorecap.training.vae.recipe import VAETraining
from autorecap.training.vocoder.recipe import VocoderTraining

ALL = (BuildConfig, EncodeConfig, AutoCapTraining, GenAuTraining, VAETraining, VocoderTraining)


@dataclass(frozen=True, kw_only=True)
class Oven(Section, name="oven"):
    """Settings that use every kind of declaration."""

    celsius: float = setting(180.0, "How hot it gets.", ge=30, le=300)
    minutes: int = setting(20, "How long it heats.", gt=0)
    fan: float = setting(0.5, "Share of the fan's speed.", ge=0, lt=1)
    cooling: float = setting(-1.0, "Degrees a minute.", le=0)
    mode: str = setting("top", "Where the heat comes from.", choices=("top", "bottom", "both"))
    trays: tuple[int, ...] = setting((1, 3), "Heights of the trays.", ge=1, le=5)
    dishes: tuple[str, ...] = setting(("bread",), "What is baked.", filled=True)
    name: str = setting("oven", "What it is called.", filled=True)
    limit: float | None = setting(None, "Where it stops, if anywhere.", gt=0)

    def validate(self) -> None:
        check(self.celsius < 250 or self.minutes < 60, "oven.minutes", "expected less than 60 from 250 degrees on")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"celsius": 20.0}, "oven.celsius: expected 30 to 300, found 20.0"),
        ({"celsius": 300.5}, "oven.celsius: expected 30 to 300, found 300.5"),
        ({"celsius": float("nan")}, "oven.celsius: expected 30 to 300, found nan"),
        ({"minutes": 0}, "oven.minutes: expected more than 0, found 0"),
        ({"fan": 1.0}, "oven.fan: expected 0 to below 1, found 1.0"),
        ({"cooling": 0.5}, "oven.cooling: expected 0 or less, found 0.5"),
        ({"mode": "left"}, "oven.mode: expected top, bottom or both, found 'left'"),
        ({"trays": (1, 6)}, "oven.trays: expected 1 to 5 for each, found 6"),
        ({"trays": [1]}, "oven.trays: expected a list, such as [1, 3], found [1]"),
        ({"dishes": ()}, "oven.dishes: expected a value, such as [bread], found []"),
        ({"dishes": ("",)}, "oven.dishes: expected a value, such as [bread], found ['']"),
        ({"name": ""}, "oven.name: expected a value, such as oven, found nothing"),
        ({"limit": -1.0}, "oven.limit: expected more than 0, found -1.0"),
        ({"celsius": 250.0, "minutes": 60}, "oven.minutes: expected less than 60 from 250 degrees on"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_by_section_and_field(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError) as caught:
        Oven(**change)
    assert str(caught.value) == message


def test_bounds_themselves_and_no_value_at_all_are_allowed() -> None:
    Oven(celsius=30.0, fan=0.0, cooling=0.0, trays=(), limit=None)
    Oven(celsius=300.0, minutes=1)


def test_the_allowed_values_stand_beside_the_meaning() -> None:
    text = to_yaml(Oven())
    assert "# How hot it gets. [30 to 300]\ncelsius: 180.0" in text
    assert "# Where the heat comes from. [top, bottom or both]" in text
    assert "# What it is called.\n" in text


def test_an_error_comes_whole_from_another_process_and_without_passwords() -> None:
    error = pickle.loads(pickle.dumps(SettingError("youtube.egresses", "found 'http://me:secret@host:1'")))
    assert (error.name, str(error)) == ("youtube.egresses", "youtube.egresses: found 'http://***@host:1'")


def fields_of(kind: Any, name: str = "") -> list[tuple[str, dataclasses.Field[Any]]]:
    return [
        each
        for field in dataclasses.fields(kind)
        for each in (
            fields_of(field.type, f"{name}{field.name}.")
            if dataclasses.is_dataclass(field.type)
            else [(name + field.name, field)]
        )
    ]


@pytest.mark.parametrize("kind", ALL)
def test_every_number_that_can_be_set_has_a_range(kind: Any) -> None:
    numbers = [(name, field) for name, field in fields_of(kind) if {field.type, *get_args(field.type)} & {int, float}]
    assert [name for name, field in numbers if not allowed_values(field)] == []


def sections_of(kind: Any, place: str) -> list[tuple[str, str]]:
    """Where each section stands, and what it calls itself in its errors."""
    inner = [field for field in dataclasses.fields(kind) if dataclasses.is_dataclass(field.type)]
    below = [each for field in inner for each in sections_of(field.type, f"{place}.{field.name}".lstrip("."))]
    return [(place, kind.section_name), *below]


@pytest.mark.parametrize("kind", ALL[:1] + ALL[2:])
def test_every_section_knows_where_it_stands(kind: Any) -> None:
    for place, name in sections_of(kind, ""):
        assert name == (f"{place.partition('.')[0]}.*" if name.endswith("*") else place)
