"""Synchronised batch statistics: two processes see what one process sees of both halves."""

from __future__ import annotations

import os
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from torchbcos import nn


def data() -> torch.Tensor:
    return torch.randn(6, 4, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 2


def layer(*, sync: bool) -> torch.nn.Module:
    return torch.nn.Sequential(nn.BatchNorm(4, sync=sync), nn.BatchNorm(4, centered=False, sync=sync)).double()


def step(net: torch.nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Output and input gradient of a weighted sum."""
    x = x.clone().requires_grad_()
    out = net(x)
    (out**3).sum().backward()
    assert x.grad is not None
    return out.detach(), x.grad


def work(rank: int, folder: str) -> None:
    os.environ.update(GLOO_SOCKET_IFNAME="lo")
    torch.set_num_threads(1)
    # they meet by a file: a port that was free a moment ago may be another program's now, and both would wait for ever
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    net = layer(sync=True)
    rows = slice(0, 2) if rank == 0 else slice(2, 6)  # halves of different size
    torch.save((*step(net, data()[rows]), net.state_dict()), Path(folder) / f"{rank}.pt")
    dist.barrier()  # torch 2.6 hangs where one process leaves while the other still reads its last message
    dist.destroy_process_group()


def test_two_processes_are_one(tmp_path: Path) -> None:
    mp.spawn(work, args=(str(tmp_path),), nprocs=2)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    net = layer(sync=False)
    out, gradient = step(net, data())
    torch.testing.assert_close(torch.cat([p[0] for p in parts]), out)
    torch.testing.assert_close(torch.cat([p[1] for p in parts]), gradient)
    for key, value in net.state_dict().items():
        torch.testing.assert_close(parts[0][2][key], value)
        torch.testing.assert_close(parts[1][2][key], value)
