"""Storage of torch's distributed checkpoints: tensors in safetensors files and JSON, on a local disk or in S3.

    rank-00003.safetensors      the pieces that one process wrote
    tensors.json                which piece of which tensor lies where

torch's own format keeps the second in a pickle, and no pickle is ever read here. torch (`torch.distributed.checkpoint`)
decides which process writes which piece, and which pieces are read when the number of processes has changed.
"""

import dataclasses
import json
import zlib
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, ReadItem, SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import StorageReader, StorageWriter, WriteResult
from torch.futures import Future

from autorecap.base.folder import Folder
from autorecap.training.loop.processes import Ranks

INDEX = "tensors.json"
_DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
_BY_NAME = {name: dtype for dtype, name in _DTYPES.items()}
_AT_ONCE = 2**28  # bytes read before they are copied into tensors


class DamagedError(Exception):
    """The files of a checkpoint are missing or damaged. The message names one."""


# --- writing


class Writer(StorageWriter):
    """Writes the pieces of this process into one file. torch calls its methods."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder

    def reset(self, checkpoint_id: Any = None) -> None:
        pass

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        pass

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        return [
            dataclasses.replace(plan, storage_data=f"rank-{rank:05d}.safetensors") for rank, plan in enumerate(plans)
        ]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        future: Future[list[WriteResult]] = Future()
        future.set_result(self._write(plan, planner) if plan.items else [])
        return future

    def _write(self, plan: SavePlan, planner: SavePlanner) -> list[WriteResult]:
        header: dict[str, Any] = {}
        pieces, offset = list[tuple[MetadataIndex, Tensor, dict[str, Any]]](), 0
        for item in plan.items:
            tensor = planner.resolve_data(item)
            assert isinstance(tensor, Tensor), "states are tensors alone"
            tensor = tensor.detach().cpu().contiguous()
            where = ",".join(map(str, item.index.offset or ()))
            header[f"{item.index.fqn}@{where}" if any(item.index.offset or ()) else item.index.fqn] = {
                "dtype": _DTYPES[tensor.dtype],
                "shape": list(tensor.shape),
                "data_offsets": [offset, offset + tensor.nbytes],
            }
            about = {"file": plan.storage_data, "start": offset, "bytes": tensor.nbytes}
            pieces.append((item.index, tensor, about | {"crc32": zlib.crc32(_bytes(tensor))}))
            offset += tensor.nbytes
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        start = 8 + len(text)
        with self.folder.writing(plan.storage_data) as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for _, tensor, _ in pieces:
                file.write(_bytes(tensor))
        return [
            WriteResult(index, tensor.nbytes, {**about, "start": start + about["start"]})
            for index, tensor, about in pieces
        ]

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        placed: dict[str, dict[tuple[int, ...], Any]] = {}
        sizes: dict[str, int] = {}
        for result in (result for of_rank in results for result in of_rank):
            placed.setdefault(result.index.fqn, {})[tuple(result.index.offset or ())] = result.storage_data
            file = result.storage_data["file"]
            sizes[file] = max(sizes.get(file, 0), result.storage_data["start"] + result.storage_data["bytes"])
        tensors = {}
        for name, about in metadata.state_dict_metadata.items():
            assert isinstance(about, TensorStorageMetadata)
            tensors[name] = {
                "dtype": _DTYPES[about.properties.dtype],
                "shape": list(about.size),
                "pieces": [
                    {"offsets": list(c.offsets), "shape": list(c.sizes), **placed[name][tuple(c.offsets)]}
                    for c in about.chunks
                ],
            }
        self.folder.put(INDEX, json.dumps({"files": sizes, "tensors": tensors}).encode())

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        return True


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.reshape(-1).view(torch.uint8).numpy().data


# --- reading


class Reader(StorageReader):
    """Reads the pieces that a process needs. Raises DamagedError for files that are not as the index says."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder
        try:
            index = json.loads(folder.read(INDEX))
            self.files, self.tensors = index["files"], index["tensors"]
            for file, size in self.files.items():
                actual = folder.fs.info(folder.path(file))["size"]
                if actual != size:
                    raise DamagedError(f"{folder.path(file)} is cut short: it has {actual:,} bytes, not {size:,}")
        except FileNotFoundError as error:
            raise DamagedError(f"{error.args[-1]} is missing") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedError(f"{folder.path(INDEX)} is damaged ({type(error).__name__}: {error})") from error

    def check(self, wanted: dict[str, Tensor]) -> None:
        """Raise DamagedError if a tensor is missing or has another shape."""
        for name, tensor in wanted.items():
            about = self.tensors.get(name)
            if about is None:
                raise DamagedError(f"{self.folder.root} holds no tensor {name}")
            if about["shape"] != list(tensor.shape):
                raise DamagedError(
                    f"{self.folder.root}: {name} has shape {about['shape']}, but the model's has {list(tensor.shape)}"
                )

    def reset(self, checkpoint_id: Any = None) -> None:
        pass

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        tensors: dict[str, Any] = {}
        self._pieces: dict[MetadataIndex, dict[str, Any]] = {}
        for name, about in self.tensors.items():
            chunks = [
                ChunkStorageMetadata(torch.Size(piece["offsets"]), torch.Size(piece["shape"]))
                for piece in about["pieces"]
            ]
            properties = TensorProperties(dtype=_BY_NAME[about["dtype"]])
            tensors[name] = TensorStorageMetadata(properties, torch.Size(about["shape"]), chunks)
            for piece in about["pieces"]:
                whole = {"dtype": about["dtype"], **piece}
                self._pieces[MetadataIndex(name, torch.Size(piece["offsets"]))] = whole
        return Metadata(state_dict_metadata=tensors)

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        pass

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        waiting: list[ReadItem] = []
        size = 0
        for item in plan.items:
            waiting.append(item)
            size += self._pieces[item.storage_index]["bytes"]
            if size > _AT_ONCE:
                self._read(waiting, planner)
                waiting, size = [], 0
        self._read(waiting, planner)
        future: Future[None] = Future()
        future.set_result(None)
        return future

    def _read(self, items: list[ReadItem], planner: LoadPlanner) -> None:
        pieces = [self._pieces[item.storage_index] for item in items]
        contents = self.folder.fs.cat_ranges(
            [self.folder.path(piece["file"]) for piece in pieces],
            [piece["start"] for piece in pieces],
            [piece["start"] + piece["bytes"] for piece in pieces],
            on_error="raise",
        )
        for item, piece, content in zip(items, pieces, contents, strict=True):
            if piece.get("crc32", zlib.crc32(content)) != zlib.crc32(content):
                name = item.storage_index.fqn
                raise DamagedError(f"{self.folder.path(piece['file'])}: {name} is not what was written")
            dtype = _BY_NAME[piece["dtype"]]
            values = torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0, dtype=dtype)
            values = values.reshape(piece["shape"])
            for dim, (start, length) in enumerate(zip(item.storage_offsets, item.lengths, strict=True)):
                values = values.narrow(dim, start, length)
            target = planner.resolve_tensor(item).detach()
            target.copy_(values)
            planner.commit_tensor(item, target)

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Any) -> bool:
        return True


def group_of(ranks: Ranks) -> Any:
    """Return the process group that checkpoints are written by, apart from the training's, on the CPU; None for one
    process."""
    return torch.distributed.new_group(backend="gloo") if ranks.count > 1 else None
