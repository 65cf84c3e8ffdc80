"""A captioner to begin training with, out of files as they are published."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

from autorecap.cli.convert import convert
from autorecap.models.autocap import SIZES, AutoCap
from autorecap.models.autocap.official import PRETRAINED, from_official
from autorecap.models.bpe import BOS, EOS
from tests.models.autocap.test_official import byte_tokenizer
from tests.support.autocap_official import SHARED, draw, weights

CONFIG = SIZES["parity"]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """HTSAT.ckpt, clap.pt and the folder bart, with the names that they have when they stand alone."""
    folder = tmp_path_factory.mktemp("published")
    tensors = weights(CONFIG)

    def part(official: str, own: str) -> dict[str, torch.Tensor]:
        return {own + name.removeprefix(official): t for name, t in tensors.items() if name.startswith(official)}

    htsat, clap, bart = PRETRAINED
    torch.save({"state_dict": part(htsat, "sed_model."), "epoch": 3}, folder / "HTSAT.ckpt")
    torch.save({"epoch": 15, "state_dict": part(clap, "module.")}, folder / "clap.pt")
    (folder / "bart").mkdir()
    words = {name: t for name, t in part(bart, "").items() if "embed_tokens" not in name}
    save_file(words, folder / "bart" / "model.safetensors")
    byte_tokenizer(CONFIG.bart.vocab).save(folder / "bart" / "tokenizer.json")
    return folder


def run(published: Path, out: Path, **other: str) -> Result:
    paths = {"htsat": "HTSAT.ckpt", "clap": "clap.pt", "bart": "bart"} | other
    options = [f"--{name}={published / path}" for name, path in paths.items()]
    return CliRunner().invoke(convert, ["autocap-parts", str(out), *options, "--size", "parity"])


def test_encoders_and_bart_are_the_published_ones_and_the_rest_is_new_and_repeatable(
    published: Path, tmp_path: Path
) -> None:
    done = run(published, tmp_path / "a")
    assert done.exit_code == 0, done.output
    assert "--init" in done.output and "no text branch" in done.output
    model = AutoCap.from_pretrained(tmp_path / "a")
    own = model.state_dict()
    expected, _ = from_official(weights(CONFIG), CONFIG, PRETRAINED)
    assert {name.split(".")[0] for name in expected} == {"htsat", "clap", "bart"}
    assert all(torch.equal(own[name], tensor) for name, tensor in expected.items())
    words = torch.from_numpy(draw(SHARED, (CONFIG.bart.vocab, CONFIG.bart.width)))
    assert torch.equal(model.tags.weight[0], words[BOS])
    assert model.eoa is not None and torch.equal(model.eoa, words[EOS])
    run(published, tmp_path / "b")
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"htsat": "clap.pt", "clap": "HTSAT.ckpt"}, "bn0.weight is missing"),
        ({"htsat": "bart/model.safetensors"}, "is a safetensors file"),
        ({"bart": "gone"}, "no such folder"),
        ({"clap": "gone.pt"}, "No such file"),
    ],
)
def test_a_file_that_is_none_of_it_is_named(
    published: Path, tmp_path: Path, other: dict[str, str], message: str
) -> None:
    done = run(published, tmp_path / "out", **other)
    assert done.exit_code == 2
    assert message in done.output and str(published / next(iter(other.values()))) in done.output
    assert not (tmp_path / "out").exists()


def test_a_size_that_does_not_fit_is_refused(published: Path, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    arguments = [
        f"--htsat={published / 'HTSAT.ckpt'}",
        f"--clap={published / 'clap.pt'}",
        f"--bart={published / 'bart'}",
    ]
    done = CliRunner().invoke(convert, ["autocap-parts", str(tmp_path / "x"), *arguments, "--size", "demo"])
    assert done.exit_code == 2 and "for size 'demo' it should be" in done.output
    done = CliRunner().invoke(convert, ["autocap-parts", str(tmp_path / "x"), *arguments, "--size", "giant"])
    assert done.exit_code == 2 and "one of demo, parity, base, large" in done.output
