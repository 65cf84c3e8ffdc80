"""The page of a run: complete in itself, true to the log, safe against what texts hold, there after a kill."""

import base64
import json
import math
import wave
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autorecap.training.report import report
from autorecap.training.report.report import write_report

EVIL = '"><script src="https://example.com/x.js"></script>'


class Page(HTMLParser):
    """What a browser would find in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.scripts: list[str] = []
        self._in_script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._in_script = tag == "script"

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False

    def handle_data(self, data: str) -> None:
        (self.scripts if self._in_script else self.text).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def charts(self) -> list[dict[str, Any]]:
        return [json.loads(script) for script in self.scripts if script.startswith("{")]


def log(run: Path, rows: list[dict[str, Any]], tail: str = "") -> None:
    run.mkdir(exist_ok=True)
    (run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + tail)


def sound(path: Path, samples: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((np.asarray(samples) * 32_767).astype("<i2").tobytes())


def train(step: int, **numbers: Any) -> dict[str, Any]:
    return {"kind": "train", "step": step, "loss": 1 / step, "lr": 1e-3, "waited_share": 0.001, "eta_s": 60.0} | numbers


def page(run: Path) -> Page:
    return Page(write_report(run).read_text())


def test_curves_hold_the_logged_values_and_bins_are_in_the_order_of_timesteps(tmp_path: Path) -> None:
    bins = {f"validation_loss_{b * 100}_{b * 100 + 100}": 1 / (b + 1) for b in (9, 0, 1)}
    log(tmp_path, [train(1), train(2, mfu=0.4), {"kind": "validation", "step": 2, "validation_loss": 0.7, **bins}])
    charts = page(tmp_path).charts()
    assert [line["label"] for line in charts[0]["lines"]] == ["training", "validation"]
    assert charts[0]["lines"][0] | {"colour": ""} == {
        "label": "training",
        "colour": "",
        "steps": [1, 2],
        "shown": ["1", "0.5"],
    }
    assert [(line["label"], line["shown"]) for line in charts[1]["lines"]] == [
        ("0 to 100", ["1"]),
        ("100 to 200", ["0.5"]),
        ("900 to 1000", ["0.1"]),
    ]
    assert ["40 %"] in [line["shown"] for chart in charts for line in chart["lines"]]


def test_nothing_is_loaded_from_elsewhere_and_no_text_becomes_markup(tmp_path: Path) -> None:
    """Not the run's name, nor settings, names of numbers, or prompts; and a policy forbids what slips through."""
    run = tmp_path / "run <b>&"
    log(run, [train(1, **{EVIL: 2.0}), train(2, **{EVIL: 3.0})])
    (run / "settings.json").write_text(json.dumps({"data": EVIL, "settings": {"loop.steps": "{{samples}}"}}))
    sound(run / "samples" / "2" / "0.wav", np.zeros(100))
    (run / "samples" / "2" / "prompts.json").write_text(json.dumps([EVIL + "\x1b[31m {{table}}"]))
    found = page(run)
    assert not [a for a in found.all("script") if a.get("src")]
    assert not [name for name, _ in found.elements if name in ("link", "iframe", "object", "base", "form")]
    links = [str(value) for _, a in found.elements for name, value in a.items() if name in ("src", "href")]
    assert links and all(link.startswith("data:") for link in links)
    text = "".join(found.text)
    assert text.count("https://example.com/x.js") >= 3 and "run <b>&" in text and "\x1b" not in text
    assert "{{table}}" in text  # a text is no template
    assert "default-src 'none'" in str(found.all("meta"))


def test_sounds_are_in_the_page_by_prompt_and_step(tmp_path: Path) -> None:
    log(tmp_path, [train(1)])
    tone = 0.5 * np.sin(np.arange(8_000) * 2 * np.pi * 440 / 16_000)
    for step in range(0, 15_000, 1_000):
        for number in range(2):
            sound(tmp_path / "samples" / str(step) / f"{number}.wav", tone * (number + 1) / 2)
        (tmp_path / "samples" / str(step) / "prompts.json").write_text('["a dog", {"prompt": "rain", "seconds": 5}]')
    sound(tmp_path / "samples" / "14000" / "2.wav", tone)
    (tmp_path / "samples" / "14000" / "2.wav").write_bytes(b"RIFF, cut off")
    found = page(tmp_path)
    text = " ".join(found.text)
    assert "a dog" in text and "rain" in text and "step 0" in text and "step 14,000" in text
    players = [str(a["src"]) for a in found.all("audio")]
    assert len(players) == 2 * report.MAX_SAMPLES
    first = base64.b64decode(players[0].partition(",")[2])
    assert first == (tmp_path / "samples" / "0" / "0.wav").read_bytes()
    assert f"{15 * 2 - len(players) + 1} more sounds" in text


def test_a_log_cut_off_by_a_kill_and_repeated_steps_are_read_as_they_were_meant(tmp_path: Path) -> None:
    log(tmp_path, [train(1), train(2, loss=9.0), train(2, loss=4.0), train(3, loss=math.nan)], tail='{"kind": "tra')
    charts = page(tmp_path).charts()
    assert charts[0]["lines"][0]["steps"] == [1, 2] and charts[0]["lines"][0]["shown"] == ["1", "4"]


def test_a_run_without_numbers_has_a_page(tmp_path: Path) -> None:
    assert "Nothing has been logged yet." in "".join(page(tmp_path).text)


@pytest.mark.parametrize(("worst", "words"), [(0.009, "Data kept up"), (0.3, "1 of 2 logged intervals")])
def test_stalls_are_told(tmp_path: Path, worst: float, words: str) -> None:
    log(tmp_path, [train(1), train(2, waited_share=worst)])
    assert words in "".join(page(tmp_path).text)
