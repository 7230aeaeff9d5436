"""Starting the processes of a comparison, on this machine or on several, as torchrun does."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Sequence
from typing import Any

import torch
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from torchbcos._core.errors import InputError, StateError
from torchbcos._core.names import quote, whole_number

__all__ = ["how_many", "launch"]


def how_many(devices: str) -> int:
    """Processes of this machine for `--devices`: a number; "auto" and "-1" are one for each CUDA device, and one without any.

    Raises:
        InputError: it is none of these, or there are not as many CUDA devices.

    >>> how_many("3") if not torch.cuda.is_available() else 3
    3
    """
    there = torch.cuda.device_count()
    if devices in ("auto", "-1"):
        return max(1, there)
    count = whole_number(devices)
    if count is None or count < 1:
        raise InputError(f"devices is how many (2), or auto: one for each CUDA device; not {quote(devices)}.")
    return count


def launch(command: Sequence[str], devices: int, nodes: int = 1) -> int:
    """Run a command in many processes, as torchrun does, and wait for them: when one fails, the others are ended.

    Of several machines, each runs this: `MASTER_ADDR` and `MASTER_PORT` name the first of them and a free port there, `NODE_RANK`
    (or `SLURM_NODEID`) says which this is, from 0 on.

    Args:
        command: a program and its arguments.
        devices: processes of this machine.
        nodes: machines.

    Returns:
        The exit code: 0, that of the process that failed first, or 128 and the number of a signal that ended all.

    Raises:
        InputError: the environment does not say which machine this is.
        StateError: a process was killed.
    """
    for name in [name for name in logging.root.manager.loggerDict if name.startswith("torch.distributed.elastic")]:
        logging.getLogger(name).setLevel(logging.CRITICAL)  # the processes say themselves what went wrong
    where: dict[str, Any] = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0"}
    if nodes > 1:
        found = os.environ
        number = whole_number(found.get("NODE_RANK", found.get("SLURM_NODEID", "")))
        host, port = found.get("MASTER_ADDR", ""), found.get("MASTER_PORT", "29500")
        if number is None or not 0 <= number < nodes or not host:
            raise InputError(
                f"With {nodes} machines each runs this command, with MASTER_ADDR (of the first), MASTER_PORT and NODE_RANK (0 to "
                f"{nodes - 1}, which machine this is) in its environment."
            )
        where = {"rdzv_backend": "static", "rdzv_endpoint": f"{host}:{port}", "rdzv_configs": {"rank": number, "timeout": 900}}
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # else each process would take all processors
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # torch prints its call stack where a process has gone
    try:
        with tempfile.TemporaryDirectory() as logs:  # else torch leaves a folder behind
            config = LaunchConfig(
                min_nodes=nodes, max_nodes=nodes, nproc_per_node=devices, run_id="torchbcos", max_restarts=0,
                logs_specs=DefaultLogsSpecs(log_dir=logs), **where,
            )  # fmt: skip
            elastic_launch(config, command[0])(*command[1:])
    except SignalException as error:  # to this process, which has ended the others
        return 128 + int(error.sigval)
    except ChildFailedError as error:
        number, failure = error.get_first_failure()
        if failure.exitcode < 0:
            raise StateError(
                f"Process {number} of this comparison was killed (signal {-failure.exitcode}), by the system where memory ends. "
                "What was computed is kept: run the same command again."
            ) from None
        return failure.exitcode
    return 0
