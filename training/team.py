"""Several processes that train one network: torchrun --standalone --nproc-per-node 2 training/train.py ...

Each takes its share of every batch, and the gradients are averaged; so all hold the same weights, and the first one
writes them. Without torchrun it is a team of one, to which everything here is nothing to do.
"""
import contextlib
import os

import torch
import torch.distributed


class Team:
    """This process among those that torchrun started: `rank` of `size`, `local_size` of them on this machine."""

    def __init__(self):
        self.rank, self.size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self.local_rank, self.local_size = int(os.environ.get("LOCAL_RANK", 0)), int(os.environ.get("LOCAL_WORLD_SIZE", 1))

    def join(self, device):
        """Meets the others; to be called first. Returns the device of this process ("cuda": one each)."""
        if device == "cuda" and self.size > 1:
            device = "cuda:%d" % self.local_rank
        if self.size > 1:
            torch.distributed.init_process_group("gloo")
        return device

    @contextlib.contextmanager
    def one_first(self):
        """What the first of a machine does alone, and the others after it: they find its files."""
        for turn in (0, 1):
            if turn == min(self.local_rank, 1):
                yield
            if self.size > 1:
                torch.distributed.barrier()

    def share(self, numbers):
        """The sample numbers of this process; a batch has as many for each."""
        return numbers[self.rank::self.size]

    def average(self, parameters):
        """Gradients become the mean over the processes'."""
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients]).cpu()
        torch.distributed.all_reduce(flat)
        for gradient, part in zip(gradients, (flat / self.size).split([g.numel() for g in gradients])):
            gradient.copy_(part.view_as(gradient))
