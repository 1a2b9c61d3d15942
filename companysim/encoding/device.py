"""Where tensors live, and in which precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from companysim.config import Device, Dtype
from companysim.errors import ConfigError

DEVICES: tuple[str, ...] = get_args(Device)
DTYPES: tuple[str, ...] = get_args(Dtype)


def check_choice(name: str, value: str, known: Sequence[str]) -> None:
    """Raise `ConfigError` if a value is none of the two or more that are known."""
    if value not in known:
        raise ConfigError(f"{name} is {value!r}: choose {', '.join(known[:-1])} or {known[-1]}")


def check_dtype(dtype: str) -> None:
    """Raise `ConfigError` if it is no precision of a tensor on disk or of a model."""
    check_choice("dtype", dtype, DTYPES)


def check_device(device: str) -> None:
    """Refuse a device that is unknown or not in this machine.

    Parameters
    ----------
    device : str
        ``cpu``, ``cuda`` or ``mps``; a number may follow, as in ``cuda:1``.

    Raises
    ------
    ConfigError
    """
    import torch

    kind, _, number = device.partition(":")
    check_choice("device", kind if number == "" or number.isdigit() else device, DEVICES)
    here = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[kind]
    if int(number or 0) >= here:
        raise ConfigError(f"device is {device!r}, but torch finds no such device here: choose another, such as cpu")
