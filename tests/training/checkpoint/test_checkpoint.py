"""Checkpoints: a resumed run ends with the same bits, only whole ones count, and damage is named.

Also proves training/checkpoint/tensor_files.py, the format of their tensors.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from autorecap.training.checkpoint import checkpoint
from autorecap.training.checkpoint.tensor_files import INDEX
from autorecap.training.loop.optim import OPTIMIZERS
from autorecap.training.loop.trainer import Trainer
from tests.fakes.s3 import s3_server
from tests.support.small_training import Numbers, config, same, silent, weights


def saved(folder: Path, trainer: Trainer, told: dict[str, Any], keep: int = 1) -> checkpoint.Checkpoint:
    saver = checkpoint.Saver(folder, trainer.ranks, keep)
    found = saver.save(trainer, told)
    saver.wait()
    return found


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path, optimizer: str) -> None:
    settings = config(optimizer=optimizer, ema_decay=0.9)
    whole = Trainer(Numbers(), settings)
    whole.run(silent)
    first = Trainer(Numbers(), settings)
    first.run(silent, until=5)
    saver = checkpoint.Saver(tmp_path, first.ranks, 1)
    path = saver.save(first, {"seed": 0})
    first.run(silent, until=8)  # what is being written is the state as it was
    saver.wait()
    torch.manual_seed(123)
    second = Trainer(Numbers(), settings)
    checkpoint.load(path, {"seed": 0}, second)
    assert second.step == 5
    second.run(silent)
    assert second.step == 12
    assert same(list(whole.tensors().values()), list(second.tensors().values()))


def test_a_checkpoint_is_refused_to_another_run_with_the_difference(tmp_path: Path) -> None:
    trainer = Trainer(Numbers(), config())
    path = saved(tmp_path, trainer, {"settings": {"loop.lr": 0.1}, "data": 5})
    with pytest.raises(checkpoint.OtherRunError, match=r"settings\.loop\.lr: 0\.1 -> 0\.2") as error:
        checkpoint.load(path, {"settings": {"loop.lr": 0.2}, "data": 5}, trainer)
    assert "data" not in str(error.value).splitlines()[1] and error.value.exit_code == 3


def test_only_whole_checkpoints_count_and_the_last_ones_and_the_best_are_kept(tmp_path: Path) -> None:
    trainer = Trainer(Numbers(), config())
    (tmp_path / "step-00000007").mkdir()  # what a killed process leaves
    (tmp_path / "step-00000007" / "rank-00000.safetensors").touch()
    saver = checkpoint.Saver(tmp_path, trainer.ranks, keep=2)
    for step, score in ((1, 0.3), (2, 0.1), (3, 0.2), (11, None), (12, 0.4)):
        trainer.step = step
        saver.save(trainer, {}, score)
    saver.wait()
    kept = ["step-00000002", "step-00000011", "step-00000012"]
    assert sorted(path.name for path in tmp_path.iterdir()) == kept
    assert [found.name for found in checkpoint.all_in(tmp_path)] == kept


@pytest.mark.parametrize("name", ["rank-00000.safetensors", INDEX, checkpoint.STATE])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, name: str) -> None:
    trainer = Trainer(Numbers(), config())
    trainer.run(silent, until=1)
    path = Path(saved(tmp_path, trainer, {}).url)
    for content in ((path / name).read_bytes()[:20], b""):
        (path / name).write_bytes(content)
        with pytest.raises(checkpoint.CheckpointError, match=name):
            checkpoint.load(checkpoint.all_in(tmp_path)[0], {}, trainer)


def test_a_flipped_byte_is_noticed_and_its_tensor_named(tmp_path: Path) -> None:
    trainer = Trainer(Numbers(), config())
    trainer.run(silent, until=1)
    file = Path(saved(tmp_path, trainer, {}).url) / "rank-00000.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    with pytest.raises(checkpoint.CheckpointError, match=r"rank-00000\.safetensors: \S+ is not what was written"):
        checkpoint.load(checkpoint.all_in(tmp_path)[0], {}, trainer)


@pytest.mark.parametrize("content", ["[]", '{"format": "train/1"}', "null"])
def test_a_state_of_another_kind_is_named(tmp_path: Path, content: str) -> None:
    trainer = Trainer(Numbers(), config())
    found = saved(tmp_path, trainer, {})
    (Path(found.url) / checkpoint.STATE).write_text(content.replace("train/1", checkpoint.FORMAT))
    with pytest.raises(checkpoint.CheckpointError, match=checkpoint.STATE):
        checkpoint.read_identity(found)


def test_a_place_that_can_hold_no_checkpoints_is_named() -> None:
    with pytest.raises(checkpoint.CheckpointError, match="foo://x cannot be searched for checkpoints: nothing"):
        checkpoint.all_in("foo://x")


def test_a_checkpoint_is_safetensors_and_json_that_others_can_read(tmp_path: Path) -> None:
    trainer = Trainer(Numbers(), config())
    trainer.run(silent, until=2)
    path = Path(saved(tmp_path, trainer, {}).url)
    assert sorted(each.name for each in path.iterdir()) == ["rank-00000.safetensors", "state.json", "tensors.json"]
    found = load_file(path / "rank-00000.safetensors")
    assert found.keys() == trainer.tensors().keys()
    assert all(torch.equal(tensor, found[name]) for name, tensor in trainer.tensors().items())


def test_checkpoints_live_in_s3_as_well() -> None:
    with s3_server():
        import s3fs

        s3fs.S3FileSystem(skip_instance_cache=True).mkdir("runs")
        trainer = Trainer(Numbers(), config())
        trainer.run(silent, until=3)
        saver = checkpoint.Saver("s3://runs/one", trainer.ranks, 1)
        saver.save(trainer, {})
        trainer.run(silent, until=4)
        saver.save(trainer, {})
        saver.wait()
        (found,) = checkpoint.all_in("s3://runs/one")
        other = Trainer(Numbers(), config())
        checkpoint.load(found, {}, other)
        assert other.step == 4 and same(weights(trainer), weights(other))
