"""Measures peak memory: every byte of tensor storage alive at once, counted the same way on every run.

The resident size of a process says little about a small model, since the interpreter, the libraries and the allocator
take far more. So on the CPU the storages themselves are counted, as operators make and free them. Scratch space inside
a kernel is not seen. On a GPU the caching allocator keeps the same count, rounded to 512 bytes.
"""

import weakref
from collections.abc import Callable, Iterator
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

MIB = 2**20


class PeakMeter(Protocol):
    """Counts while it is entered. It may be entered again, and `peak` then continues from its former value."""

    peak: int

    def __enter__(self) -> Self: ...
    def __exit__(self, *error: Any) -> None: ...


def peak_mib(run: Callable[[], object], model: nn.Module) -> float:
    """Returns the peak of run() in MiB: the model's weights, what run() touches of older tensors, and all that it
    makes.
    """
    meter = peak_meter(model)
    with meter:
        run()
    return meter.peak / MIB


def peak_meter(model: nn.Module) -> PeakMeter:
    device = next((tensor.device for tensor in _weights(model)), torch.device("cpu"))
    return CudaMeter(model, device) if device.type == "cuda" else StorageMeter(model)


def weight_bytes(model: nn.Module) -> int:
    """Counts the bytes of parameters and buffers; those that share storage count once."""
    storages = (tensor.untyped_storage() for tensor in _weights(model))
    return sum({storage._cdata: storage.nbytes() for storage in storages}.values())


class StorageMeter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Sees every operator, and counts each storage from the moment it is made or first touched until it is freed.

    Views share a storage, so they cost nothing; in-place and `out=` operators may make one grow.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        # By address of the storage: its size, and the weak reference that tells when it is freed.
        self._storages: dict[int, tuple[int, weakref.ref[torch.UntypedStorage]]] = {}
        for tensor in _weights(model):
            self._count(tensor)
        self.peak = self.live

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Keeps torch from importing its compiler at the first operator: a second of a worker's start, and 87 MiB."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_iter((args, kwargs, result)):
            if isinstance(value, Tensor):
                self._count(value)
        self.peak = max(self.peak, self.live)
        return result

    def _count(self, tensor: Tensor) -> None:
        if tensor.device.type != "cpu":
            return
        storage = tensor.untyped_storage()
        address = storage._cdata
        known = self._storages.get(address)
        if known is None:
            known = 0, weakref.ref(storage, lambda _: self._forget(address))
        size, reference = known
        self.live += storage.nbytes() - size
        self._storages[address] = storage.nbytes(), reference

    def _forget(self, address: int) -> None:
        size, _ = self._storages.pop(address)
        self.live -= size


class CudaMeter:
    """Reads the caching allocator's own peak, less what the process held otherwise at the start."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self._device = device
        self._others = torch.cuda.memory_allocated(device) - weight_bytes(model)
        self.peak = weight_bytes(model)

    def __enter__(self) -> Self:
        torch.cuda.synchronize(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        return self

    def __exit__(self, *error: Any) -> None:
        torch.cuda.synchronize(self._device)
        self.peak = max(self.peak, torch.cuda.max_memory_allocated(self._device) - self._others)


def _weights(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()
