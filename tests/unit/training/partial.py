"""Two steps of a loss that leaves unknown labels out, on two processes that know different numbers of them: OUT."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from torchbcos.training.losses import Bce


def share_of(rank: int) -> tuple[Tensor, Tensor]:
    """Inputs and labels of one of two processes: the first knows little, and nothing in the second step."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(2, 6, 4, dtype=torch.float64, generator=generator)
    y = (torch.randn(2, 6, 3, dtype=torch.float64, generator=generator) > 0).double()
    y[:, :3, 1:], y[0, 4], y[1, :3] = math.nan, math.nan, math.nan
    rows = slice(0, 3) if rank == 0 else slice(3, 6) if rank == 1 else slice(0, 6)
    return x[:, rows], y[:, rows]


def learned(x: Tensor, y: Tensor) -> tuple[list[float], list[Tensor]]:
    """Losses and gradients of a layer in two steps, averaged over the processes as DDP does."""
    world = dist.get_world_size() if dist.is_initialized() else 1
    losses, gradients = list[float](), list[Tensor]()
    for k in range(2):
        layer = nn.Linear(4, 3).double()
        with torch.no_grad():
            for p in layer.parameters():
                p.copy_(torch.linspace(-1, 1, p.numel(), dtype=torch.float64).reshape(p.shape))
        loss = Bce(smoothing=0.1, partial=True).loss(layer(x[k]), y[k])
        loss.backward()
        value, gradient = loss.detach(), torch.cat([p.grad.flatten() for p in layer.parameters() if p.grad is not None])
        if world > 1:
            dist.all_reduce(value)
            dist.all_reduce(gradient)
        losses.append(float(value) / world)
        gradients.append(gradient / world)
    return losses, gradients


def main() -> None:
    """Each process writes what it learned into OUT."""
    out = Path(sys.argv[1])
    os.environ.update(GLOO_SOCKET_IFNAME="lo")
    torch.set_num_threads(1)
    other = os.fork()
    rank = 1 if other == 0 else 0
    dist.init_process_group("gloo", init_method=f"file://{out}/meeting", rank=rank, world_size=2)
    torch.save(learned(*share_of(rank)), out / f"{rank}.pt")
    dist.barrier()  # neither leaves while the other still reads its last message
    dist.destroy_process_group()
    if other:
        raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]))


if __name__ == "__main__":
    main()
