"""How weights start and how a step changes them: initialisation, loss, schedule, optimizers."""

import itertools
import math
from typing import Any

import torch
from torch import nn

from gpt.model import GPTModel
from gpt.training.options import TrainOptions


def initialise_like_gpt2(model: GPTModel) -> None:
    """Normal weights of 0.02, residual projections of 0.02 / sqrt(2 n_layers), zero biases.

    Source: Radford et al. 2019, section 2.3; the 0.02 is that of Radford et al. 2018, 4.1.
    """
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif parameter.dim() == 2:
            residual = name.endswith(("att.out_proj.weight", "ff.layers.2.weight"))
            scale = math.sqrt(2 * model.cfg.n_layers) if residual else 1.0
            nn.init.normal_(parameter, std=0.02 / scale)


def learning_rate(step: int, options: TrainOptions) -> float:
    """Linear warm-up to the peak, then half a cosine down to 0 at the last step."""
    if step < options.warmup_steps:
        return options.peak_rate * (step + 1) / options.warmup_steps
    done = (step - options.warmup_steps) / max(1, options.steps - options.warmup_steps)
    return options.peak_rate * 0.5 * (1 + math.cos(math.pi * done))


class Muon(torch.optim.Optimizer):
    """Nesterov momentum for matrices, each update made nearly orthogonal: all directions as large.

    As torch.optim.Muon, which multiplies in bfloat16: thirty times slower on a CPU without it.
    The rate is scaled by 0.2 sqrt(max(rows, columns)), which gives updates about the size of
    AdamW's, so a rate means the same for both.
    Source: Jordan et al. 2024 (Muon); Liu et al. 2025, arXiv 2502.16982, 2.2 (the scale).
    """

    def __init__(self, matrices: list[nn.Parameter], lr: float, weight_decay: float) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": 0.95})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            rate, momentum = group["lr"], group["momentum"]
            for matrix in group["params"]:
                if matrix not in self.state:
                    self.state[matrix]["average"] = torch.zeros_like(matrix)
                average = self.state[matrix]["average"].lerp_(matrix.grad, 1 - momentum)
                update = orthogonal(matrix.grad.lerp(average, momentum))
                matrix.mul_(1 - rate * group["weight_decay"])
                matrix.sub_(update, alpha=rate * 0.2 * math.sqrt(max(matrix.shape)))


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """`matrix` (rows, columns) with all singular values near 1, from 0.7 to 1.2.

    Five Newton-Schulz iterations. Source: Jordan et al. 2024, with their coefficients.
    """
    rows, columns = matrix.shape
    x = matrix.T if rows > columns else matrix
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.T  # (rows, rows), the shorter side
        x = 3.4445 * x + (-4.775 * gram + 2.0315 * gram @ gram) @ x
    return x.T if rows > columns else x


def make_optimizers(model: GPTModel, options: TrainOptions) -> list[torch.optim.Optimizer]:
    """AdamW for every parameter, or Muon for the blocks' matrices and AdamW for the rest.

    Matrices decay, biases and norms do not.
    Source: Loshchilov and Hutter 2019 (AdamW).
    """
    vectors, matrices, by_muon = [], [], []
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2:
            vectors.append(parameter)
        elif options.optimizer == "muon" and name.startswith("trf_blocks."):
            by_muon.append(parameter)
        else:
            matrices.append(parameter)
    rate, decay = options.peak_rate, options.weight_decay
    groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    betas = 0.9, options.beta2
    adamw = torch.optim.AdamW(groups, lr=rate, betas=betas, weight_decay=decay, fused=True)
    return [Muon(by_muon, rate, decay), adamw] if by_muon else [adamw]


def moments_fit(optimizer: torch.optim.Optimizer) -> bool:
    """Whether every weight has all its moments, in its own shape, once a state was loaded.

    torch begins anew where a weight has none, and writes beyond those of another shape.
    """
    kinds = ("average",) if isinstance(optimizer, Muon) else ("exp_avg", "exp_avg_sq", "step")
    for weights in itertools.chain(*(group["params"] for group in optimizer.param_groups)):
        found = {name: kept.shape for name, kept in optimizer.state.get(weights, {}).items()}
        if found != {name: () if name == "step" else weights.shape for name in kinds}:
            return False
    return True


class _MeanLoss(torch.autograd.Function):
    """Mean cross-entropy () of (b, t, compact) logits plus `log_counts`.

    Writes its gradient over the logits, a few rows at a time: only one backward pass is possible.
    Autograd's own keeps the log probabilities, makes the rows' gradients and joins them: three
    more arrays as large as the logits.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, targets: torch.Tensor, log_counts: torch.Tensor
    ) -> torch.Tensor:
        nats = torch.zeros((), device=logits.device)
        rows = logits.view(-1, logits.shape[-1])  # a copy would leave the logits alone
        pairs = zip(rows.split(256), targets.flatten().split(256), strict=True)
        for x, y in pairs:  # (256, compact), (256,)
            logs, at = (x + log_counts).float().log_softmax(-1), y[:, None]
            nats -= logs.gather(1, at).sum()
            x.copy_(logs.exp_().scatter_add_(1, at, -torch.ones_like(at, dtype=logs.dtype)))
        ctx.save_for_backward(logits)
        ctx.n = targets.numel()
        return nats / ctx.n

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return ctx.saved_tensors[0].mul_(upstream / ctx.n), None, None


mean_loss = _MeanLoss.apply  # logits, targets, log_counts
