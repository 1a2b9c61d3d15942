"""Where tensors live, and in which precision."""

from __future__ import annotations

from companysim.errors import ConfigError

DEVICES = ("cpu", "cuda", "mps")
DTYPES = ("float32", "bfloat16", "float16")


def check_dtype(dtype: str) -> None:
    """Refuse what is no precision of a tensor on disk or of a model.

    Raises
    ------
    ConfigError
        If it is not ``float32``, ``bfloat16`` or ``float16``.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"dtype is {dtype!r}: choose {', '.join(DTYPES[:-1])} or {DTYPES[-1]}")


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
    if kind not in DEVICES or not (number == "" or number.isdigit()):
        raise ConfigError(f"device is {device!r}: choose {', '.join(DEVICES[:-1])} or {DEVICES[-1]}")
    here = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[kind]
    if int(number or 0) >= here:
        raise ConfigError(f"device is {device!r}, but torch finds no such device here: choose another, such as cpu")
