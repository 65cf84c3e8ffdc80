"""Checkpoints that `torch.save` wrote are read here, and nothing in them is run.

The tensors are views of the file, mapped into memory: nothing is copied before it is used, however large the file.
Every settings object beside them (omegaconf, Lightning, argparse, numpy scalars) is passed over, see `unpickle.py`.
"""

import io
import mmap
import struct
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from autorecap.models.files import ModelFilesError
from autorecap.models.unpickle import Foreign, Maker, UnpickleError, unpickle

MAX_PICKLE_BYTES = 16 << 20  # names and shapes; the weights lie outside. 1,297 tensors take 0.2 MB
WEIGHTS_KEYS = ("state_dict", "generator", "model")  # where Lightning, HiFi-GAN and others put the weights

_ZIP = b"PK\x03\x04"
_LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # torch.save before 1.6: a pickled magic number comes first
_LOCAL_HEADER_BYTES = 30  # of a zip record; the lengths of its name and extra field are its last four bytes
_DTYPES = {
    f"torch.{name}Storage": dtype
    for name, dtype in (
        ("Double", torch.float64),
        ("Float", torch.float32),
        ("Half", torch.float16),
        ("BFloat16", torch.bfloat16),
        ("Long", torch.int64),
        ("Int", torch.int32),
        ("Short", torch.int16),
        ("Char", torch.int8),
        ("Byte", torch.uint8),
        ("Bool", torch.bool),
    )
}


class CheckpointError(ModelFilesError):
    """The file cannot be read as a checkpoint. The message names it, and says what it is instead."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint holds weights by name; what lies beside them is named and not read."""

    path: Path
    tensors: dict[str, Tensor]
    beside: tuple[str, ...]  # names of what else the file holds: epoch, hyper_parameters, ...


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Reads the weights of a checkpoint, from under `WEIGHTS_KEYS` or from its top level.

    Prefixes that DDP ("module.") and torch.compile ("_orig_mod.") put into names are taken out. Raises CheckpointError.
    """
    path = Path(path)
    root = read_pickled(path)
    if isinstance(root, Foreign):
        raise CheckpointError(f"{path} holds a whole {root.name[:80]!r} object: save its state_dict() instead")
    if not isinstance(root, dict):
        raise CheckpointError(f"{path} holds a {type(root).__name__}, where tensors by name were expected")
    weights: dict[Any, Any] = root
    beside: tuple[str, ...] = ()
    for key in WEIGHTS_KEYS:
        if isinstance(root.get(key), dict):
            weights, beside = root[key], tuple(str(name)[:80] for name in root if name != key)
            break
    tensors = {str(name): value for name, value in weights.items() if isinstance(value, Tensor)}
    if not tensors:
        found = ", ".join(repr(name)[:40] for name in list(root)[:8]) or "nothing"
        raise CheckpointError(f"{path} holds no tensors by name, but {found}: is it a checkpoint of a model?")
    return Checkpoint(path=path, tensors=_plain_names(tensors), beside=beside)


def read_pickled(path: Path) -> Any:
    """Reads everything in the file: plain values, tensors, and `Foreign` for the rest. Raises CheckpointError."""
    try:
        with path.open("rb") as file:
            head = file.read(512)
            if head.startswith(_ZIP):
                return _read_zip(_records(file), _mapped(file))
            if head.startswith(_LEGACY):
                return _read_legacy(_mapped(file))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnpickleError as error:
        raise CheckpointError(f"{path} is cut short, damaged, or not of torch ({error}): fetch it again") from error
    raise CheckpointError(f"{path} is not a checkpoint of torch: it {_describe(head)}")


def _describe(head: bytes) -> str:
    start = head.lstrip().lower()
    if not head:
        return "is empty. Fetch it again"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page: the download gave a page in place of the file. Fetch it again, signed in where needed"
    if start.startswith(b"version https://git-lfs"):
        return "is a pointer of git-lfs in place of the file. Run `git lfs pull` where it came from"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32:
        return "is a safetensors file, where one of torch.save is expected"
    if head.startswith(b"\x80"):
        return "is a pickle that torch.save did not write"
    return f"begins with {head[:8]!r}"


def _plain_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    tensors = {name.replace("_orig_mod.", ""): tensor for name, tensor in tensors.items()}
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors


# --- the two containers


def _mapped(file: BinaryIO) -> mmap.mmap:
    """Maps the file into memory that may be written to: a page that is written to becomes a copy, the file stays."""
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


def _records(file: BinaryIO) -> dict[str, zipfile.ZipInfo]:
    """Returns a zip's records by name. They are looked up, never unpacked to where their names say."""
    try:
        return {record.filename: record for record in zipfile.ZipFile(file).infolist()}
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error) as error:
        raise UnpickleError(f"a zip without a readable index: {error}") from error


def _read_zip(records: dict[str, zipfile.ZipInfo], buffer: mmap.mmap) -> Any:
    """Reads what torch.save writes since 1.6: a zip of NAME/data.pkl and an uncompressed NAME/data/KEY per storage."""
    pickles = [name for name in records if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise UnpickleError(f"a zip with {len(pickles)} records data.pkl in it, where torch.save writes one")
    prefix = pickles[0].removesuffix("data.pkl")
    order = records.get(f"{prefix}byteorder")
    if order and buffer[(at := _span(order, buffer)[0]) : at + len(sys.byteorder)] != sys.byteorder.encode():
        raise UnpickleError("it was written on a machine of another byte order")
    start, end = _span(records[pickles[0]], buffer)
    if end - start > MAX_PICKLE_BYTES:
        raise UnpickleError(f"its names and shapes take {end - start} bytes, more than {MAX_PICKLE_BYTES}")

    def storage(key: str, dtype: torch.dtype, numel: int) -> Tensor:
        record = records.get(f"{prefix}data/{key}")
        if record is None:
            raise UnpickleError(f"record data/{key[:40]!r} is missing")
        first, last = _span(record, buffer)
        if last - first != numel * dtype.itemsize:
            raise UnpickleError(f"record data/{key[:40]!r} has {last - first} bytes, not {numel} numbers of {dtype}")
        return _view(buffer, first, dtype, numel)

    return unpickle(io.BytesIO(buffer[start:end]), _makers(len(buffer)), _Storages(storage))


def _span(record: zipfile.ZipInfo, buffer: mmap.mmap) -> tuple[int, int]:
    """Returns where the bytes of a record begin and end in the file."""
    header = record.header_offset
    if record.compress_type != zipfile.ZIP_STORED or record.flag_bits & 1:
        raise UnpickleError(f"record {record.filename[:80]!r} is compressed or encrypted, which torch.save does not do")
    if not 0 <= header <= len(buffer) - _LOCAL_HEADER_BYTES or buffer[header : header + 4] != _ZIP:
        raise UnpickleError(f"record {record.filename[:80]!r} is not where the zip's index says")
    name_bytes, extra_bytes = (int.from_bytes(buffer[header + at : header + at + 2], "little") for at in (26, 28))
    start = header + _LOCAL_HEADER_BYTES + name_bytes + extra_bytes
    if start + record.file_size > len(buffer):
        raise UnpickleError(f"record {record.filename[:80]!r} reaches past the end of the file")
    return start, start + record.file_size


def _read_legacy(buffer: mmap.mmap) -> Any:
    """Reads what torch.save wrote before 1.6: five pickles, then the storages.

    The pickles are the magic number, the version, the system, the content and the keys of the storages.
    """
    stream = io.BytesIO(buffer[:MAX_PICKLE_BYTES])
    for _ in range(3):
        unpickle(stream, {}, lambda _: None)
    content_at = stream.tell()
    kinds: dict[str, tuple[torch.dtype, int]] = {}

    def note(key: str, dtype: torch.dtype, numel: int) -> Tensor:
        kinds[key] = dtype, numel
        return torch.empty(0, dtype=dtype)

    unpickle(stream, {}, _Storages(note))  # the storages' sizes must be known before any of them can be found
    keys = unpickle(stream, {}, lambda _: None)
    position, starts = stream.tell(), {}
    for key in keys if isinstance(keys, list) else ():
        if not isinstance(key, str) or key not in kinds:
            raise UnpickleError("it lists a storage of a kind that is not known")
        dtype, numel = kinds[key]
        if int.from_bytes(buffer[position : position + 8], "little") != numel:
            raise UnpickleError(f"storage {key[:40]!r} is not as long as its tensors say")
        starts[key] = position + 8
        position = starts[key] + numel * dtype.itemsize
        if position > len(buffer):
            raise UnpickleError(f"storage {key[:40]!r} reaches past the end of the file")

    def storage(key: str, dtype: torch.dtype, numel: int) -> Tensor:
        if key not in starts or kinds[key] != (dtype, numel):
            raise UnpickleError(f"storage {key[:40]!r} is missing")
        return _view(buffer, starts[key], dtype, numel)

    stream.seek(content_at)
    return unpickle(stream, _makers(len(buffer)), _Storages(storage))


def _view(buffer: mmap.mmap, start: int, dtype: torch.dtype, numel: int) -> Tensor:
    if not numel:
        return torch.empty(0, dtype=dtype)
    if start % dtype.itemsize:  # only ever in the legacy format
        copy = bytearray(buffer[start : start + numel * dtype.itemsize])
        return torch.frombuffer(copy, dtype=dtype)
    return torch.frombuffer(buffer, dtype=dtype, count=numel, offset=start)


# --- what a checkpoint's pickle may make


@dataclass(frozen=True)
class _Storage:
    """Tensors are views of these numbers; the class keeps a tensor from being taken for a storage."""

    values: Tensor


class _Storages:
    """Persistent ids become storages, each made once: ("storage", type, key, device, number of elements, ...)."""

    def __init__(self, read: Callable[[str, torch.dtype, int], Tensor]) -> None:
        self.read = read
        self.made: dict[str, _Storage] = {}

    def __call__(self, persistent_id: Any) -> Any:
        match persistent_id:
            case ("storage", Foreign(name=kind), str(key), _, int(numel), *_):
                if kind not in _DTYPES:
                    return Foreign(kind)
                if not 0 <= numel < 1 << 48:
                    raise UnpickleError(f"storage {key[:40]!r} has an impossible size")
                if key not in self.made:
                    self.made[key] = _Storage(self.read(key, _DTYPES[kind], numel))
                elif self.made[key].values.dtype != _DTYPES[kind]:
                    raise UnpickleError(f"storage {key[:40]!r} is of two types")
                return self.made[key]
            case _:
                return Foreign("persistent object")


def _makers(num_bytes: int) -> dict[str, Maker]:
    """Returns the only globals that have an effect. `num_bytes`: of the file, which no tensor may exceed."""

    def tensor(arguments: tuple[Any, ...]) -> Any:
        match arguments:
            case (_Storage(values=values), int(offset), tuple(size), tuple(stride), *_):
                return _tensor(values, offset, size, stride, num_bytes)
            case _:
                return Foreign("tensor of a kind that is not known")

    def parameter(arguments: tuple[Any, ...]) -> Any:
        return arguments[0] if arguments and isinstance(arguments[0], Tensor) else Foreign("parameter")

    def mapping(_: tuple[Any, ...]) -> Any:
        return {}  # its entries come after

    return {
        "torch._utils._rebuild_tensor": tensor,
        "torch._utils._rebuild_tensor_v2": tensor,
        "torch._utils._rebuild_parameter": parameter,
        "collections.OrderedDict": mapping,
        "collections.defaultdict": mapping,
    }


def _tensor(values: Tensor, offset: int, size: tuple[Any, ...], stride: tuple[Any, ...], num_bytes: int) -> Tensor:
    """Returns a view of a storage, checked to lie in it: torch's own check can be led to overflow."""
    numbers = (offset, *size, *stride)
    if len(size) != len(stride) or not all(isinstance(n, int) and 0 <= n < 1 << 48 for n in numbers):
        raise UnpickleError("a tensor has an impossible shape")
    reach = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) + 1 if all(size) else offset
    # A stride of 0 repeats: a few bytes must not become a tensor that fills the memory.
    if len(size) > 64 or reach > len(values) or prod(size) > num_bytes:
        raise UnpickleError("a tensor reaches past the end of its storage")
    return values.as_strided(size, stride, offset)
