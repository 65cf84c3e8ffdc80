"""Checkpoints with the names of the released GenAu become folders that give the official model's numbers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from autorecap.cli.convert import convert as command
from autorecap.models.bpe import BpeTokenizer
from autorecap.models.clap import TEXT_SIZES, ClapText
from autorecap.models.files import ModelFilesError
from autorecap.models.genau.backbones.backbone import Text
from autorecap.models.genau.config import SIZES
from autorecap.models.genau.convert import FIT, MISSING, _parts, convert
from autorecap.models.genau.model import GenAu, small_encoders
from autorecap.models.genau.sampling.diffusion import Diffusion
from autorecap.models.genau.vae.model import VAE, VAEConfig
from autorecap.models.genau.vocoder.model import Vocoder, VocoderConfig
from tests.support.genau_vectors import Vectors

TINY: dict[str, Any] = {"num_groups": 4, "head_width": 16}  # what shapes do not tell of the small configuration
SCALE_FACTOR = 1.446


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    return Vectors()


@pytest.fixture(scope="module")
def text_branch() -> ClapText:
    """A small text branch with 512-wide vectors, and the tokenizer that is needed for it."""
    torch.manual_seed(0)
    tokenizer = BpeTokenizer.train(["a dog barks", "rain falls"], 300)
    return ClapText(TEXT_SIZES["demo"], tokenizer)


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in tensors.items()}


@pytest.fixture(scope="module")
def state(vectors, text_branch) -> dict[str, Tensor]:
    """All that a released checkpoint holds, in the size of the vectors."""
    fit = {name: torch.empty(shape) for name, shape in vectors.shapes["fit_tiny"].items()}
    loss = {name: torch.zeros(shape) for name, shape in vectors.shapes["vae_1d_loss_module"].items()}
    vae = VAE(VAEConfig(channels=8, width=32, inner_channels=16)).state_dict()
    vocoder = Vocoder(VocoderConfig(width=64)).state_dict()
    clap = {}
    for name, tensor in text_branch.roberta.state_dict().items():
        official = name.replace("text_model.", "text_branch.", 1)
        for layer, number in (("linear1", "0"), ("linear2", "2")):
            official = official.replace(f"text_projection.{layer}", f"text_projection.{number}")
        clap[official] = tensor
    return {
        **prefixed(FIT, vectors.fill(fit)),
        **prefixed("first_stage_model.", vectors.fill(vae) | loss),
        **prefixed("first_stage_model.vocoder.", vectors.fill(vocoder)),
        **prefixed("cond_stage_models.0.model.", clap | {"audio_branch.bn0.weight": torch.zeros(64)}),
        "cond_stage_models.1.model.encoder.block.0.layer.0.SelfAttention.q.weight": torch.zeros(4, 4),
        "cond_stage_models.1.model.shared.weight": torch.zeros(4, 4),
        "clap.model.audio_branch.bn0.weight": torch.zeros(64),
        "scale_factor": torch.tensor(SCALE_FACTOR),
        "logvar": torch.zeros(1000),
        **{name: Diffusion().alphas_cumprod.float() for name in ("alphas_cumprod", "sqrt_alphas_cumprod")},
    }


@pytest.fixture(scope="module")
def checkpoint(state, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("genau") / "genau.ckpt"
    torch.save({"state_dict": state, "global_step": 210_000, "hyper_parameters": {}}, path)
    return path


@pytest.fixture(scope="module")
def folder(checkpoint) -> Path:
    convert(checkpoint, checkpoint.parent / "out", **TINY)
    return checkpoint.parent / "out"


@torch.no_grad()
def test_the_converted_model_gives_the_official_numbers(vectors, folder):
    model = GenAu.from_pretrained(folder, with_text=False)
    x, y = vectors.input("fit_tiny.x", 2, 8, 32, 1)[..., 0], vectors.input("fit_tiny.y", 2, 1, 48)[:, 0]
    out = model.backbone(x, torch.tensor([7, 981]), Text(y), torch.tensor([0, 3]))
    torch.testing.assert_close(out.eps, vectors["fit_tiny.eps"][..., 0], atol=1e-4, rtol=0)
    mel_BMT = (vectors.input("vae_small.mel", 1, 1, 64, 64) * 2 - 5)[:, 0].mT
    posterior = model.vae.encode(mel_BMT)
    torch.testing.assert_close(posterior.mean[..., None], vectors["vae_small.mean"], atol=1e-4, rtol=0)
    made_B1TM = model.vae.decode(posterior.mean).mT[:, None]
    torch.testing.assert_close(made_B1TM, vectors["vae_small.dec_of_mean"], atol=1e-4, rtol=0)
    wav = model.vocoder(vectors.input("vocoder_small.mel", 1, 64, 16))
    torch.testing.assert_close(wav, vectors["vocoder_small.wav"][:, 0, : 16 * 160], atol=1e-5, rtol=0)
    assert float(model.scale_factor) == pytest.approx(SCALE_FACTOR)
    assert (model.config.unconditional_dataset, model.config.exact_durations) == (0, False)


def test_every_tensor_is_used_or_has_a_reason(state, checkpoint, tmp_path):
    done = convert(checkpoint, tmp_path / "out", **TINY)
    assert done.num_tensors == len(state) and "" not in done.unused
    named = {name for names in done.unused.values() for name in names}
    assert not any(name.startswith((FIT, "first_stage_model.enc", "first_stage_model.voc")) for name in named)
    assert {
        name for name in state if name.startswith(("clap.", "cond_stage_models.", "first_stage_model.loss."))
    } < named
    assert done.beside == ("global_step", "hyper_parameters")


def test_a_tensor_that_nobody_knows_stands_out(state, tmp_path):
    torch.save({"state_dict": state | {"surprise.weight": torch.zeros(1)}}, tmp_path / "a.ckpt")
    assert convert(tmp_path / "a.ckpt", tmp_path / "out", **TINY).unused[""] == ["surprise.weight"]


def test_what_the_folder_lacks_is_written_into_it_and_said_when_it_is_opened(folder):
    assert "google/flan-t5-large" in (folder / MISSING).read_text()
    with pytest.raises(ModelFilesError, match="t5"):
        GenAu.from_pretrained(folder)


def test_its_own_clap_and_a_given_t5_are_put_in(checkpoint, text_branch, tmp_path):
    small_encoders(SIZES["demo"]).t5.save_pretrained(tmp_path / "t5")
    text_branch.tokenizer.save(tmp_path / "tokenizer.json")
    done = convert(checkpoint, tmp_path / "out", t5=tmp_path / "t5", tokenizer=tmp_path, **TINY)
    assert done.missing == () and not (tmp_path / "out" / MISSING).exists()
    found = ClapText.from_pretrained(tmp_path / "out" / "clap")
    weights = found.roberta.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in text_branch.roberta.state_dict().items())
    assert (tmp_path / "out" / "t5" / "model.safetensors").is_file()
    assert not any("text_branch" in name for names in done.unused.values() for name in names)


@pytest.mark.parametrize("damage", [lambda tensor: torch.zeros(()), lambda tensor: tensor * torch.nan])
@pytest.mark.parametrize("name", ["embeddings.position_embeddings.weight", "embeddings.word_embeddings.weight"])
def test_a_damaged_text_branch_is_named(state, text_branch, tmp_path, name, damage):
    name = f"cond_stage_models.0.model.text_branch.{name}"
    torch.save({"state_dict": state | {name: damage(state[name])}}, tmp_path / "a.ckpt")
    text_branch.tokenizer.save(tmp_path / "tokenizer.json")
    with pytest.raises(ModelFilesError, match="CLAP's text branch"):
        convert(tmp_path / "a.ckpt", tmp_path / "out", tokenizer=tmp_path, **TINY)
    assert not (tmp_path / "out").exists()


def refused(*arguments: object) -> str:
    result = CliRunner().invoke(command, ["genau", *map(str, arguments)])
    assert result.exit_code == 2 and "Traceback" not in result.output
    return " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale_factor": None}, "scale_factor is missing"),
        ({"scale_factor": torch.tensor(torch.nan)}, "scale_factor is nan"),
        ({"alphas_cumprod": torch.ones(1000)}, "another noise schedule"),
        ({FIT + "latents": None}, "latents is missing"),
        ({FIT + "to_patches.0.weight": torch.full((64, 8), torch.nan)}, "to_patches.0.weight holds NaN"),
        ({"first_stage_model.post_quant_conv.weight": None}, "post_quant_conv.weight is missing"),
        ({"first_stage_model.vocoder.conv_pre.weight": None}, "conv_pre.weight is missing"),
        ({"first_stage_model.vocoder.ups.0.weight": torch.zeros(3)}, r"ups.0.weight has shape \(3,\), expected 3 dim"),
        ({"first_stage_model.encoder.conv_in.weight": torch.zeros(0, 0, 0)}, "conv_in.weight has shape .* none empty"),
        ({FIT + "context_projection_summary_text_embeddings.weight": torch.zeros(())}, "embeddings.weight has shape"),
        ({FIT + "blocks.0.global_layers.0.0.to_q.weight": None}, "0.0.to_q.weight is missing, but there are tensors"),
        ({FIT + "latents": torch.zeros(16, 32, dtype=torch.int64)}, "latents holds torch.int64, expected floating"),
        ({FIT + "patches_pe": torch.full((32, 64), 1e300, dtype=torch.float64)}, "patches_pe holds NaN or infinity"),
    ],
)
def test_damage_is_named(state, tmp_path, change, message):
    broken = {name: tensor for name, tensor in (state | change).items() if tensor is not None}
    torch.save({"state_dict": broken}, tmp_path / "a.ckpt")
    with pytest.raises(ModelFilesError, match=message) as error:
        convert(tmp_path / "a.ckpt", tmp_path / "out", **TINY)
    assert "a.ckpt" in str(error.value) and not (tmp_path / "out").exists()


def test_other_weights_are_named_for_what_they_are(tmp_path):
    for name, said in (
        ("audio_query_tokens", "AutoCap"),
        ("encoder.conv_in.weight", "VAE alone"),
        ("conv_pre.weight_g", "vocoder alone"),
        ("x", "not GenAu's"),
    ):
        torch.save({"state_dict": {name: torch.zeros(1)}}, tmp_path / "a.ckpt")
        assert said in refused(tmp_path / "a.ckpt", tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize(("size", "section"), [("s", "fit_S"), ("l", "fit_L")])
def test_the_papers_sizes_are_recognised_by_their_shapes(vectors, size, section):
    """Every name and shape; one number in place of gigabytes."""
    one = torch.zeros(1)
    first = vectors.shapes["vae_1d"] | vectors.shapes["vocoder_in_vae_ckpt_after_remove_weight_norm"]
    tensors = {FIT + name: one.expand(shape) for name, shape in vectors.shapes[section].items()}
    tensors |= {"first_stage_model." + name: one.expand(shape) for name, shape in first.items()}
    config, state, used = _parts(tensors | {"scale_factor": torch.ones(())}, num_groups=8, head_width=64)
    assert (config.size, config.vae.size, config.vocoder.size) == (size, "base", "base")
    assert used == {*tensors, "scale_factor"}
    with torch.device("meta"):
        own = GenAu(config).parts().state_dict()
    assert {name: tensor.shape for name, tensor in state.items()} == {
        name: tensor.shape for name, tensor in own.items()
    }
