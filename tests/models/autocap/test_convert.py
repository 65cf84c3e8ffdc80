"""Checkpoints with the names of the released AutoCap become folders that give the official model's numbers.

The command is cli/convert.py.
"""

import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from typer.testing import CliRunner

from autorecap.cli.convert import convert as command
from autorecap.models.autocap import AutoCap, ModelFilesError
from autorecap.models.autocap.convert import convert, read_bart_tokenizer
from autorecap.models.autocap.model import caption_loss
from autorecap.models.clap import ClapText
from tests.support.autocap_official import canonical, draw, is_fixed, waveform
from tests.support.places import VECTORS

TOLERANCE = 1e-4
FULL_LOSS = 11.452293
"""Of the official model of the released size, equation 3's order in loss and generation, label smoothing 0.1."""
VOCAB = 300
MASK = VOCAB - 1


@pytest.fixture(scope="module")
def official():
    """The shapes and types of the released model's tensors by name, and the numbers of the small one."""
    listed = json.loads((VECTORS / "parity" / "autocap-shapes.json").read_text())
    integers = set(listed["int64"])
    tensors = {name: (shape, "int64" if name in integers else "float32") for name, shape in listed["shapes"].items()}
    with np.load(VECTORS / "parity" / "autocap-tiny.npz") as numbers:
        vectors = {name.removeprefix("tiny/"): torch.from_numpy(np.asarray(numbers[name])) for name in numbers.files}
    return types.SimpleNamespace(tensors=tensors, vectors=vectors)


def small_shapes(tensors) -> dict[str, tuple[list[int], str]]:
    """The released model's tensors in the size of the vectors: BART and CLAP's text branch small, CLAP as HTSAT."""
    bart = {768: 64, 3072: 128, 50_265: VOCAB}
    out = {}
    for name, (shape, dtype) in tensors.items():
        if name.startswith(("decoder.", "special_tokens_embed.", "clap_model.model.text_branch.")):
            if any(f".{part}.{i}." in name for part in ("layers", "layer") for i in range(2, 12)):
                continue
            shape = [bart.get(n, n) for n in shape]
        elif name.startswith("clap_model.model.audio_branch."):
            twin = name.replace("clap_model.model.audio_branch.", "encoder.audio_enc.")
            twin = twin.replace("spectrogram_extractor.", "audio_feats_extractor.mel_trans.")
            twin = twin.replace("logmel_extractor.", "audio_feats_extractor.log_trans.")
            if twin not in tensors:
                continue  # a block that the larger CLAP alone has
            shape = tensors[twin][0]
        elif name == "clap_model.model.audio_projection.0.weight":
            shape = [512, 768]
        elif name == "clap_model.model.text_projection.0.weight":
            shape = [512, 64]
        elif name.startswith(("enc_to_dec_proj.", "audio_qformer_proj.", "clap_proj.", "clap_layernorm.")):
            shape = [64, *shape[1:]]
        elif name.startswith(("audio_Qfromer_layernorm_embedding.", "audio_position_embedding.")):
            shape = [*shape[:-1], 64]
        elif ".crossattention.self.key.weight" in name or ".crossattention.self.value.weight" in name:
            shape = [256, 64]
        out[name] = shape, dtype
    return out


def made(shapes) -> dict[str, Tensor]:
    """The state dict, with names of one tensor sharing its memory, as torch.save writes them."""
    state, drawn = {}, {}
    for name, (shape, dtype) in shapes.items():
        key = canonical(name)
        if key not in drawn:
            if is_fixed(name):
                drawn[key] = torch.zeros(shape, dtype=getattr(torch, dtype))
            else:
                drawn[key] = torch.from_numpy(draw(name, shape))
        state[name] = drawn[key]
    return state


def lightning(path: Path, state: dict[str, Tensor]) -> Path:
    """A Lightning checkpoint, its settings objects of a library that is gone by the time it is read."""
    library = types.ModuleType("omegaconf_of_the_trainer")

    class DictConfig:
        def __init__(self, **content):
            self.__dict__.update(content)

    DictConfig.__module__, DictConfig.__qualname__ = library.__name__, "DictConfig"
    library.__dict__["DictConfig"] = DictConfig
    sys.modules[library.__name__] = library
    try:
        content = {
            "epoch": 19,
            "global_step": 99_000,
            "pytorch-lightning_version": "2.1.0",
            "state_dict": state,
            "loops": {"fit_loop": {"state_dict": {}}},
            "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5), "dirpath": Path("x")}},
            "optimizer_states": [{"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 1e-5}]}],
            "hyper_parameters": DictConfig(training=DictConfig(lr=1e-5), model=DictConfig()),
        }
        torch.save(content, path)
    finally:
        del sys.modules[library.__name__]
    return path


def byte_tokenizer(path: Path, vocab: int = VOCAB) -> Path:
    """A byte-level tokenizer without merges: id = 4 + byte. The vectors' stand-in for BART's."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in printable]
    chars = {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(rest)}
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *(chars[b] for b in range(256))]
    tokens += [f"<unused{i}>" for i in range(len(tokens), vocab - 1)] + ["<mask>"]
    bpe = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, [], unk_token="<unk>"))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    path.write_text(bpe.to_str())
    return path


@pytest.fixture(scope="module")
def state(official) -> dict[str, Tensor]:
    return made(small_shapes(official.tensors))


@pytest.fixture(scope="module")
def folder(official, state, tmp_path_factory) -> Path:
    """What the command makes of a made checkpoint."""
    tmp = tmp_path_factory.mktemp("autocap")
    checkpoint = lightning(tmp / "autocap.ckpt", state)
    tokenizer = byte_tokenizer(tmp / "bytes.json")
    result = CliRunner().invoke(
        command, ["autocap", str(checkpoint), str(tmp / "out"), "--tokenizer", str(tokenizer), "--all-names"]
    )
    assert result.exit_code == 0, result.output
    (tmp / "report.txt").write_text(result.stdout)
    return tmp / "out"


def close(found: Tensor, expected: Tensor) -> bool:
    return found.shape == expected.shape and bool((found - expected).abs().max() <= TOLERANCE)


@torch.inference_mode()
def check(model: AutoCap, official, vectors: dict[str, Tensor], vocab_step: int) -> None:
    heard = model.hear(model.features(model.prepare([waveform(0), waveform(1)], 32_000)))
    assert close(heard.vectors, vectors["htsat_32"])
    assert close(heard.clap, vectors["clap_emb"])
    ids_BT, mask_BT = model.tokenizer.metadata(["Rain on a roof", "Dog"], ["a tin roof in the rain", ""], 128)
    assert torch.equal(mask_BT, vectors["meta_mask_with_eos"])
    embeddings_BTD, _ = model.encoder_input(heard, ids_BT, mask_BT)
    assert close(embeddings_BTD[:, ::4], vectors["gen/bart_enc_in_t4"])
    labels_BL = vectors["train/caption_ids"].masked_fill(vectors["train/caption_mask"] == 0, -100)
    logits_BLV = model(heard, ids_BT, mask_BT, labels_BL)
    real_BL = vectors["train/caption_mask"].bool()
    assert close(logits_BLV[..., ::vocab_step][real_BL], vectors[f"gen/tf_logits_v{vocab_step}"][real_BL])
    for num_beams in (1, 2, 3):
        ids_BL = model.generate(heard, ids_BT, mask_BT, num_beams=num_beams, max_new_tokens=29)
        assert torch.equal(ids_BL, vectors[f"gen/ids_beam{num_beams}"])


def test_the_converted_model_gives_the_official_numbers(official, folder):
    model = AutoCap.from_pretrained(folder)
    assert (model.config.size, model.config.use_eoa) == ("parity", False)
    check(model, official, official.vectors, vocab_step=1)


def test_every_tensor_is_used_or_named_with_the_reason(official, state, folder):
    report = (folder.parent / "report.txt").read_text()
    used = int(report.split(" tensors, ")[1].split()[0])
    named = [name for line in report.splitlines() if "not used: " in line for name in line.split(": ")[2].split(", ")]
    assert report.startswith(f"{len(state)} tensors")
    assert used + len(named) == len(state) and set(named) < set(state)
    assert "WARNING" not in report
    assert not any(name.startswith(("decoder.", "special_tokens_embed.", "audio_Qformer.bert.enc")) for name in named)
    beside = "epoch, global_step, pytorch-lightning_version, loops, callbacks, optimizer_states, hyper_parameters"
    assert f"beside the weights, not read: {beside}" in report


def test_the_text_branch_of_clap_becomes_a_folder(official, state, folder):
    text = ClapText.from_pretrained(folder / "clap_text")
    name = "clap_model.model.text_branch.encoder.layer.1.output.dense.weight"
    assert torch.equal(text.roberta.text_model.encoder.layer[1].output.dense.weight, state[name])
    assert text.embed(["a dog barks"]).shape == (1, 512)


def test_a_bare_state_dict_without_text_branch_and_aliases_gives_the_same_folder(official, state, folder, tmp_path):
    left = {
        name: tensor
        for name, tensor in state.items()
        if not name.startswith(("special_tokens_embed.model.", "clap_model.model.text_"))
    }
    torch.save(left, tmp_path / "bare.ckpt", _use_new_zipfile_serialization=False)
    done = convert(tmp_path / "bare.ckpt", tmp_path / "out", byte_tokenizer(tmp_path / "bytes.json"))
    assert not done.has_clap_text and not (tmp_path / "out" / "clap_text").exists()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        assert (tmp_path / "out" / name).read_bytes() == (folder / name).read_bytes()


# --- what does not convert


def refused(*arguments: object) -> str:
    result = CliRunner().invoke(command, ["autocap", *map(str, arguments)])
    assert result.exit_code == 2
    assert "Traceback" not in result.output
    return " ".join(result.stderr.split())


def test_other_weights_are_named_for_what_they_are(tmp_path):
    for name, kind in (
        ("model.diffusion_model.latents", "GenAu"),
        ("audio_branch.x", "CLAP"),
        ("layer.weight", "not AutoCap"),
    ):
        torch.save({"state_dict": {name: torch.zeros(1)}}, tmp_path / "a.ckpt")
        said = refused(tmp_path / "a.ckpt", tmp_path / "out")
        assert kind in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("fault", ["shape", "nan"])
def test_a_tensor_that_is_misshapen_or_nan_is_named(official, state, tmp_path, fault):
    name = "audio_Qformer.bert.encoder.layer.1.output_query.dense.weight"
    broken = state[name][:3] if fault == "shape" else state[name].clone().fill_(torch.nan)
    torch.save(state | {name: broken}, tmp_path / "a.ckpt")
    said = refused(tmp_path / "a.ckpt", tmp_path / "out", "--tokenizer", byte_tokenizer(tmp_path / "bytes.json"))
    assert ("qformer.layers.1.ffn.outer.weight" if fault == "shape" else name) in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("audio_query_tokens", (256, 256), "has shape (256, 256), expected 3 axes"),
        ("audio_query_tokens", (1, 256, 250), "qformer: a width of 250 does not divide into 8 heads"),
        ("encoder.audio_enc.patch_embed.proj.weight", (96,), "has shape (96,), expected 4 axes"),
        ("encoder.audio_enc.layers.1.blocks.0.attn.relative_position_bias_table", (225, 0), "write 1 or more of each"),
    ],
)
def test_shapes_that_make_no_model_are_named(official, state, tmp_path, name, shape, message):
    torch.save(state | {name: torch.zeros(shape)}, tmp_path / "a.ckpt")
    said = refused(tmp_path / "a.ckpt", tmp_path / "out", "--tokenizer", byte_tokenizer(tmp_path / "bytes.json"))
    assert message in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        (
            "audio_Qformer.bert.encoder.layer.1.attention.self.query.weight",
            None,
            "query.weight is missing, but there are tensors",
        ),
        (
            "encoder.audio_enc.layers.2.blocks.2.norm1.weight",
            None,
            "2.norm1.weight is missing, but there are tensors",
        ),
        ("encoder.audio_enc.layers.0.blocks.0.attn.qkv.weight", torch.zeros(()), "of shape (), not a weight"),
        ("clap_proj.bias", torch.zeros(64, dtype=torch.int32), "torch.int32 of shape (64,), not a weight"),
        ("clap_proj.bias", torch.full((64,), 1e300, dtype=torch.float64), "clap_proj.bias holds NaN or infinity"),
    ],
)
def test_tensors_that_lack_or_are_no_weights_are_named(official, state, tmp_path, name, tensor, message):
    changed = {key: value for key, value in (state | {name: tensor}).items() if value is not None}
    torch.save(changed, tmp_path / "a.ckpt")
    said = refused(tmp_path / "a.ckpt", tmp_path / "out", "--tokenizer", byte_tokenizer(tmp_path / "bytes.json"))
    assert message in said
    assert not (tmp_path / "out").exists()


def test_without_network_the_tokenizer_is_asked_for(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    said = refused(folder.parent / "autocap.ckpt", tmp_path / "out")
    assert "facebook/bart-base" in said and "--tokenizer" in said
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_of_another_size_is_refused(folder, tmp_path):
    tokenizer = byte_tokenizer(tmp_path / "bytes.json", vocab=290)
    said = refused(folder.parent / "autocap.ckpt", tmp_path / "out", "--tokenizer", tokenizer)
    assert "has 290 tokens, the checkpoint's BART 300" in said


def test_a_folder_with_files_in_it_is_not_written_to(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("")
    assert "not an empty folder" in refused(tmp_path / "a.ckpt", tmp_path / "out")


def test_a_page_that_was_saved_in_place_of_the_checkpoint_is_recognised(tmp_path):
    (tmp_path / "a.ckpt").write_text("<!DOCTYPE html><title>Google Drive - Virus scan warning</title>")
    assert "a.ckpt is not a checkpoint of torch: it is a web page" in refused(tmp_path / "a.ckpt", tmp_path / "out")


# --- the tokenizer


def test_vocabulary_and_merges_give_the_tokenizer_that_tokenizer_json_gives(tmp_path):
    path = byte_tokenizer(tmp_path / "tokenizer.json")
    values = json.loads(path.read_text())["model"]
    vocab = values["vocab"] | {"do": 300, "dog": 301}
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "vocab.json").write_text(json.dumps(vocab))
    (tmp_path / "old" / "merges.txt").write_text("#version: 0.2\nd o\ndo g\n")
    old, new = read_bart_tokenizer(tmp_path / "old"), read_bart_tokenizer(tmp_path)
    assert new.encode_text("dog é") == [4 + b for b in "dog é".encode()]
    assert old.encode_text("dog é") == [301, *(4 + b for b in " é".encode())]
    assert old.decode(old.encode_text("a dog barks")) == "a dog barks"
    assert read_bart_tokenizer(path).encode_text("x") == new.encode_text("x")


@pytest.mark.parametrize("content", [{}, {"tokenizer.json": "{}"}, {"vocab.json": "{}"}, {"vocab.json": "x"}])
def test_a_folder_without_a_usable_tokenizer_is_named(tmp_path, content):
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ModelFilesError, match=r"name a tokenizer\.json of facebook/bart-base"):
        read_bart_tokenizer(tmp_path)


@pytest.mark.slow
def test_the_released_size_converts_and_gives_the_official_loss(official, tmp_path):
    """All 1,297 tensors, 1.5 GB. A tokenizer of the right size stands in for BART's."""
    checkpoint = lightning(tmp_path / "autocap.ckpt", made(official.tensors))
    done = convert(checkpoint, tmp_path / "out", byte_tokenizer(tmp_path / "bytes.json", vocab=50_265))
    assert (done.config.size, done.num_tensors) == ("base", 1_297)
    assert done.has_clap_text and "" not in done.unused
    model = AutoCap.from_pretrained(tmp_path / "out")
    waveforms = [waveform(i) for i in range(2)]
    ids_BT, mask_BT = model.tokenizer.metadata(["Rain on a roof", "Dog"], ["a tin roof in the rain", ""], 128)
    labels_BL = model.tokenizer.labels(["a dog barks", "rain falls on a roof"], 30)
    with torch.inference_mode():
        heard = model.hear(model.features(model.prepare(waveforms, 32_000)))
        loss = caption_loss(model(heard, ids_BT, mask_BT, labels_BL), labels_BL, label_smoothing=0.1)
    assert float(loss) == pytest.approx(FULL_LOSS, abs=1e-4)
