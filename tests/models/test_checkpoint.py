"""Checkpoints of torch.save are read, and nothing in them is run.

Also proves models/unpickle.py.
"""

import argparse
import collections
import io
import os
import pickle
import random
import struct
import subprocess
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from autorecap.models.checkpoint import CheckpointError, read_checkpoint, read_pickled
from autorecap.models.unpickle import Foreign, UnpickleError, unpickle


def saved(tmp_path, content, **options) -> Path:
    torch.save(content, tmp_path / "a.ckpt", **options)
    return tmp_path / "a.ckpt"


def zipped(tmp_path, pickled: bytes, *storages: bytes, compression=zipfile.ZIP_STORED, prefix="a/") -> Path:
    """A checkpoint with a pickle of our own."""
    with zipfile.ZipFile(tmp_path / "a.ckpt", "w", compression) as archive:
        archive.writestr(f"{prefix}data.pkl", pickled)
        for i, storage in enumerate(storages):
            archive.writestr(f"{prefix}data/{i}", storage)
    return tmp_path / "a.ckpt"


# --- what torch wrote comes back

TENSORS = {
    "matrix": torch.arange(12.0).reshape(3, 4),
    "transposed": torch.arange(12.0).reshape(3, 4).t(),
    "scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 3),
    "half": torch.tensor([1.0, -2.0], dtype=torch.float16),
    "brain": torch.tensor([1.0, -2.0], dtype=torch.bfloat16),
    "double": torch.tensor([1e-300], dtype=torch.float64),
    "long": torch.tensor([2**40]),
    "bool": torch.tensor([True, False]),
    "parameter": torch.nn.Parameter(torch.ones(2)),
    "expanded": torch.ones(1, 3).expand(2, 3),
}


@pytest.mark.parametrize("zip_format", [True, False], ids=["zip", "legacy"])
def test_every_tensor_is_read_as_torch_reads_it(tmp_path, zip_format):
    path = saved(tmp_path, {"state_dict": TENSORS}, _use_new_zipfile_serialization=zip_format)
    found = read_checkpoint(path).tensors
    expected = torch.load(path, weights_only=True)["state_dict"]
    assert set(found) == set(TENSORS)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name
    assert type(found["parameter"]) is torch.Tensor


@pytest.mark.parametrize("zip_format", [True, False], ids=["zip", "legacy"])
def test_names_of_one_tensor_share_its_memory(tmp_path, zip_format):
    shared = torch.arange(4.0)
    path = saved(tmp_path, {"a": shared, "b": shared, "tail": shared[2:]}, _use_new_zipfile_serialization=zip_format)
    found = read_checkpoint(path).tensors
    assert found["a"].data_ptr() == found["b"].data_ptr()
    assert found["tail"].tolist() == [2.0, 3.0]
    assert found["tail"].data_ptr() == found["a"].data_ptr() + 8


def test_tensors_are_views_of_the_file_that_may_be_written_to_without_changing_it(tmp_path):
    path = saved(tmp_path, {"a": torch.zeros(1000)})
    before = path.read_bytes()
    found = read_checkpoint(path).tensors["a"]
    found += 1
    assert path.read_bytes() == before
    assert read_checkpoint(path).tensors["a"].sum() == 0


@pytest.mark.parametrize("key", ["state_dict", "generator", "model", None])
def test_weights_are_found_where_frameworks_put_them(tmp_path, key):
    weights: Any = collections.OrderedDict(a=torch.ones(1))
    weights._metadata = {"": {"version": 1}}
    found = read_checkpoint(saved(tmp_path, {key: weights, "epoch": 3} if key else weights))
    assert list(found.tensors) == ["a"]
    assert found.beside == (("epoch",) if key else ())


def test_prefixes_of_ddp_and_compile_are_taken_out(tmp_path):
    path = saved(tmp_path, {"module.a._orig_mod.weight": torch.ones(1), "module.b": torch.ones(1)})
    assert list(read_checkpoint(path).tensors) == ["a.weight", "b"]


def test_settings_of_libraries_that_are_not_there_are_passed_over(tmp_path):
    foreign = types.ModuleType("omegaconf_made_for_this_test")

    class DictConfig(dict):
        def __init__(self, content):
            super().__init__(content)
            self.flags = {"readonly": True}

        def __reduce__(self):
            return DictConfig, (dict(self),), {"flags": self.flags}, None, iter({"late": self.flags}.items())

    DictConfig.__module__, DictConfig.__qualname__ = foreign.__name__, "DictConfig"
    foreign.__dict__["DictConfig"] = DictConfig
    sys.modules[foreign.__name__] = foreign
    try:
        path = saved(
            tmp_path,
            {
                "state_dict": {"a": torch.ones(2), "extra": DictConfig({"x": 1})},
                "hyper_parameters": DictConfig({"lr": torch.ones(1), "deep": DictConfig({})}),
                "args": argparse.Namespace(a=1),
                "callbacks": {DictConfig: {"best": 1}, (1, 2): 3},
                "path": Path("x"),
            },
        )
    finally:
        del sys.modules[foreign.__name__]
    found = read_checkpoint(path)
    assert list(found.tensors) == ["a"]
    assert set(found.beside) == {"hyper_parameters", "args", "callbacks", "path"}
    assert read_pickled(path)["hyper_parameters"] == Foreign("omegaconf_made_for_this_test.DictConfig")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_of_every_protocol_are_what_pickle_makes_of_them(protocol):
    shared = ["x" * 300]
    value: dict[Any, Any] = {
        "numbers": [0, -1, 255, 65_535, 2**31, -(2**40), 2**3000, 1.5, -0.0, float("inf")],
        "texts": ["", "é\u2603\n", "a" * 70_000, b"\x00\xff"],
        "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
        "flags": [True, False, None],
        "shared": [shared, shared],
        7: {"nested": {"deep": []}},
    }
    if protocol < 3:  # older ones build bytes by a function
        value["texts"] = value["texts"][:3]
    found = unpickle(io.BytesIO(pickle.dumps(value, protocol)), {}, lambda _: None)
    assert found == value
    assert found["shared"][0] is found["shared"][1]


# --- nothing is run


class Evil:
    """Its pickle calls a function with arguments; pickle's own reader would do so."""

    def __init__(self, called, *arguments, state=None):
        self.reduced = (called, arguments) if state is None else (called, arguments, state)

    def __reduce__(self):
        return self.reduced

    def __call__(self):
        """What stands first in a reduction must look callable."""


class Trap:
    """Goes off when its state is restored, an item is set, or it is called."""

    sprung = False

    def __getstate__(self):
        return {"x": 1}

    def __setstate__(self, state):
        Trap.sprung = True

    def __init_subclass__(cls):
        Trap.sprung = True

    @classmethod
    def spring(cls, *_):
        cls.sprung = True


def attacks(canary: Path):
    touch = f"open({str(canary)!r}, 'w').close()"
    shell = f"touch {canary}"
    yield "system", Evil(os.system, shell)
    yield "eval", Evil(eval, touch)
    yield "exec", Evil(exec, touch)
    yield "open", Evil(open, str(canary), "w")
    yield "popen", Evil(subprocess.Popen, ["touch", str(canary)])
    yield "getattr, then call", Evil(Evil(getattr, Evil(__import__, "builtins"), "eval"), touch)
    yield "import", Evil(__import__, "this")
    yield "map", Evil(list, Evil(map, eval, [touch]))
    yield "nested in a container's arguments", Evil(collections.OrderedDict, [("a", Evil(os.system, shell))])
    yield (
        "nested in a tensor",
        Evil(torch._utils._rebuild_tensor_v2, Evil(eval, touch), 0, (1,), (1,), False, collections.OrderedDict()),
    )
    yield "torch.load", Evil(torch.load, str(canary))
    yield "state", Evil(Trap, state={"x": 1})
    yield "slots", Evil(Trap, state=(None, {"__setstate__": eval, "sprung": True}))
    yield "state of the class", Evil(Evil(getattr, Trap, "spring"))
    yield "instance", Trap()
    yield "new class", Evil(type, "Sub", (Trap,), {})


ATTACKS = [name for name, _ in attacks(Path())]


@pytest.mark.parametrize("zip_format", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_not_run_and_the_weights_beside_it_are_read(tmp_path, monkeypatch, name, zip_format):
    canary = tmp_path / "canary"
    attack = dict(attacks(canary))[name]
    path = saved(
        tmp_path,
        {"state_dict": {"a": torch.ones(2), "b": attack}, "hyper_parameters": [attack, {"x": attack}]},
        _use_new_zipfile_serialization=zip_format,
    )
    monkeypatch.delitem(sys.modules, "this", raising=False)
    monkeypatch.setattr(Trap, "sprung", False)
    assert list(read_checkpoint(path).tensors) == ["a"]
    assert not canary.exists() and not Trap.sprung and "this" not in sys.modules


def test_the_attacks_are_real(tmp_path):
    """Python's own unpickler falls for them: what the test above shows is not that they are harmless."""
    sprung = []
    for name, attack in attacks(tmp_path / "canary"):
        Trap.sprung = False
        try:
            pickle.loads(pickle.dumps(attack))
        except Exception:  # after it has run
            pass
        if (tmp_path / "canary").exists() or Trap.sprung or "this" in sys.modules:
            sprung.append(name)
        (tmp_path / "canary").unlink(missing_ok=True)
        sys.modules.pop("this", None)
    assert len(sprung) >= 10


@pytest.mark.parametrize(
    "pickled",
    [
        b"cos\nsystem\n(S'touch CANARY'\ntR.",  # GLOBAL, REDUCE
        b"(S'touch CANARY'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'touch CANARY'\no.",  # OBJ
        b"\x80\x02cos\nsystem\nX\x0c\x00\x00\x00touch CANARY\x85\x81.",  # NEWOBJ
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x0ctouch CANARY\x85}\x92.",  # STACK_GLOBAL, NEWOBJ_EX
        b"\x80\x02cos\nsystem\nX\x0c\x00\x00\x00touch CANARY\x85Q.",  # as a persistent id
        b"Ptouch CANARY\n.",
        b"\x80\x02\x82\x01)R.",  # EXT1
        b"c__main__\nx y z\n)R.",
        b"\x80\x04]\x93.",
    ],
)
def test_opcodes_by_hand_run_nothing(tmp_path, monkeypatch, pickled):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError):
        read_checkpoint(zipped(tmp_path, pickled))
    assert not (tmp_path / "CANARY").exists()


# --- hostile and broken files

HEAD = b"\x80\x02}X\x01\x00\x00\x00a"
STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu%stQ"


def tensor_pickle(numel: int, offset: int, size: tuple, stride: tuple) -> bytes:
    """`{"a": tensor}` with the numbers that are given."""

    def value(n):
        return pickle.dumps(n, 2)[2:-1]

    rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE % value(numel)
    return HEAD + rebuilt + value(offset) + value(size) + value(stride) + b"tRs."


def test_the_pickle_by_hand_is_one_that_reads(tmp_path):
    path = zipped(tmp_path, tensor_pickle(4, 0, (2, 2), (2, 1)), struct.pack("4f", 1, 2, 3, 4))
    assert read_checkpoint(path).tensors["a"].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("numel", "offset", "size", "stride"),
    [
        (1 << 40, 0, (4,), (1,)),
        (-4, 0, (4,), (1,)),
        (1 << 70, 0, (4,), (1,)),
        (4, 1, (4,), (1,)),
        (4, 0, (5,), (1,)),
        (4, 0, (2, 2), (3, 1)),
        (4, -1, (4,), (1,)),
        (4, 0, (-4,), (1,)),
        (4, 0, (4,), (-1,)),
        (4, 0, (1 << 62, 4), (1 << 62, 1)),  # the product overflows 64 bits to 0
        (4, 0, (1 << 40,), (0,)),  # 16 bytes that would fill the memory
        (4, 0, (4,), (1, 1)),
        (4, 0, (1,) * 100, (1,) * 100),
        (4, 0, ("x",), (1,)),
    ],
)
def test_a_tensor_that_does_not_lie_in_its_storage_is_refused(tmp_path, numel, offset, size, stride):
    path = zipped(tmp_path, tensor_pickle(numel, offset, size, stride), bytes(16))
    with pytest.raises(CheckpointError, match=r"a\.ckpt"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "pickled",
    [
        b"\x80\x02K\x01r\xff\xff\xff\x7f.",  # an array of the memo would have 2 ** 31 entries
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",  # bytes of 8 EiB
        b"\x80\x02\x8b\xff\xff\xff\x7f\x01.",  # a number of 2 GiB
        b"\x80\x02(" * 1000 + b".",
        b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",  # lists in lists
        b"\x80\x02K\x01" + b"\x86" * 3 + b".",
        b"\x80\x02)" + b"2\x86" * 200 + b"}2K\x01s.",  # a tuple whose hash would take 2 ** 200 steps
        b"\x80\x02}" + b"\x29" + b"2\x86" * 200 + b"K\x01s.",
        b"I" + b"9" * 10_000 + b"\n.",
        b"\x80\x02",
        b"",
        b".",
        b"\x80\x02}q\x00h\x05.",
        b"\x80\x02N",
        b"\xff\xff.",
    ],
)
def test_bombs_and_nonsense_are_refused_at_once(tmp_path, pickled):
    with pytest.raises(CheckpointError, match=r"a\.ckpt"):
        read_checkpoint(zipped(tmp_path, pickled))


def test_a_compressed_record_is_refused_before_it_is_unpacked(tmp_path):
    with pytest.raises(CheckpointError, match="compressed"):
        read_checkpoint(zipped(tmp_path, bytes(1 << 20), compression=zipfile.ZIP_DEFLATED))


def test_a_storage_of_another_length_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="has 12 bytes, not 4 numbers"):
        read_checkpoint(zipped(tmp_path, tensor_pickle(4, 0, (4,), (1,)), bytes(12)))


def test_names_that_lead_out_of_a_folder_are_only_names(tmp_path):
    path = zipped(tmp_path, tensor_pickle(4, 0, (4,), (1,)), bytes(16), prefix="../../")
    assert read_checkpoint(path).tensors["a"].tolist() == [0] * 4
    path = zipped(tmp_path, tensor_pickle(4, 0, (4,), (1,)).replace(b"\x01\x00\x00\x000", b"\x07\x00\x00\x00../../x"))
    with pytest.raises(CheckpointError, match="missing"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>Sign in</html>", "web page"),
        (b"\n <HTML>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git-lfs"),
        (struct.pack("<Q", 40) + b'{"a":{}}', "safetensors"),
        (pickle.dumps({"a": 1}), "torch.save did not write"),
        (b"\x1f\x8bxxxxxxxx", "begins with"),
        (b"PK\x03\x04 and no more", "cut short"),
    ],
)
def test_a_file_that_is_something_else_is_said_to_be_that(tmp_path, content, said):
    path = tmp_path / "model.ckpt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=said) as error:
        read_checkpoint(path)
    assert str(path) in str(error.value)


def test_missing_files_folders_and_other_contents_are_named(tmp_path):
    for path, said in ((tmp_path / "none.ckpt", "No such file"), (tmp_path, "directory")):
        with pytest.raises(CheckpointError, match=said):
            read_checkpoint(path)
    for content, said in (
        ([1, 2], "holds a list"),
        ({"a": 1, "b": 2}, "holds no tensors by name, but 'a', 'b'"),
        (argparse.Namespace(), r"whole 'argparse\.Namespace' object"),
    ):
        with pytest.raises(CheckpointError, match=said):
            read_checkpoint(saved(tmp_path, content))


@pytest.mark.parametrize("zip_format", [True, False], ids=["zip", "legacy"])
def test_a_file_cut_anywhere_is_refused(tmp_path, zip_format):
    path = saved(tmp_path, {"state_dict": TENSORS}, _use_new_zipfile_serialization=zip_format)
    whole = path.read_bytes()
    for length in range(1, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            read_checkpoint(path)


@pytest.mark.parametrize("zip_format", [True, False], ids=["zip", "legacy"])
def test_damaged_bytes_give_tensors_or_an_error_that_names_the_file(tmp_path, zip_format):
    path = saved(tmp_path, {"state_dict": TENSORS}, _use_new_zipfile_serialization=zip_format)
    whole = path.read_bytes()
    rng = random.Random(0)
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(rng.choice((1, 3, 30))):
            damaged[rng.randrange(min(len(whole), 4000))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            for tensor in read_checkpoint(path).tensors.values():
                tensor.sum()
        except CheckpointError as error:
            assert str(path) in str(error)


def test_a_pickle_must_end_with_one_value():
    for pickled in (b"NN.", b"(N."):
        with pytest.raises(UnpickleError):
            unpickle(io.BytesIO(pickled), {}, lambda _: None)
