"""One network trained by several processes, in parts, or in bfloat16, through Hugging Face accelerate (page 11).

The batch of a step stays what the settings say. It is drawn whole by every process (order, cuts, masks, dropout: page
11's seeds), and cut into shares: `accumulation` parts one after the other, each part's rows dealt to the processes.
Gradients of the shares are weighted by their rows and summed once a step; BatchNorm sees the part, not the share. The
loop is page 11's `train`, untouched: it is handed a loss whose gradient has been summed already.
"""
from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mkdcls.encoders import EncoderOutput
from mkdcls.model import MultiTaskModel, Output
from mkdcls.objective import Objective, terms
from mkdcls.training import Data, Settings, batches, seed_at, train

NO_ACCELERATE = ("training one run on several processes, in parts or by `accelerate launch` needs the package "
                 "`accelerate`, which is not installed here: pip install -c constraints.txt -e \".[cluster]\"")

# what torchrun and the MPIs that accelerate knows call the number of processes
SIZES_OF_GROUPS = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


def launched() -> bool:
    "Was this process started by `accelerate launch`, a notebook launcher or torchrun?"
    return any(n in os.environ for n in ("LOCAL_RANK", "ACCELERATE_MIXED_PRECISION"))


def first_process() -> bool:
    "The process that speaks and writes; the only one where nobody launched several"
    return os.environ.get("RANK", "0") == "0"


def accelerator_for(device: str = "auto"):
    "The `Accelerator` of this process; one line where accelerate, the device or a process is missing"
    try:
        from accelerate import Accelerator
        from accelerate.utils import InitProcessGroupKwargs
    except ImportError: raise ValueError(NO_ACCELERATE) from None
    if device not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device {device!r}: choose auto, cpu or cuda; accelerate gives each process a GPU of its own")
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device == "cuda" and not found: raise ValueError("device 'cuda': torch finds none here; choose cpu, or auto")
    cpu = device == "cpu" or not found
    if not cpu and (here := int(os.environ.get("LOCAL_WORLD_SIZE", "1"))) > found:
        raise ValueError(f"{here} processes, but torch finds {found} GPU(s) here: one process a GPU, or DEVICE cpu")
    if cpu and "MASTER_PORT" in os.environ and not any(n in os.environ for n in SIZES_OF_GROUPS):
        raise ValueError("`accelerate launch --cpu` starts one process on a CPU, however many are asked for, unless "
                         "there is MPI: leave --cpu out, and give --multi_gpu to it and --device cpu to mkdcls")
    # the notebook launcher sets the second, which accelerate 1.15 does not read
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION") or os.environ.get("MIXED_PRECISION") or "no"
    if precision not in ("no", "bf16"):
        raise ValueError(f"mixed precision {precision!r}: choose no or bf16; fp16 would need its losses scaled")
    patient = InitProcessGroupKwargs(timeout=timedelta(hours=24))  # others wait while the first prepares features
    return Accelerator(cpu=cpu, mixed_precision=precision, kwargs_handlers=[patient])


# ---- who does what

@dataclass
class Team:
    """The processes that train one run, and the parts of a batch. `add` sums a tensor over the processes.

    With the defaults it is one process that takes a batch whole.
    """
    size: int = 1  # processes
    rank: int = 0  # this one's number
    accumulation: int = 1  # parts of a batch, one after the other
    add: Callable[[Tensor], Tensor] = lambda v: v
    rows: Tensor = field(default_factory=lambda: torch.arange(0))  # of the batch, that it works on now
    total: int = 0  # rows of the whole batch
    alone: bool = True  # does it need nobody else for its statistics now?

    @classmethod
    def of(cls, accelerator, accumulation: int = 1) -> Team:
        "Of an `accelerate.Accelerator`"
        return cls(accelerator.num_processes, accelerator.process_index, accumulation,
                   partial(accelerator.reduce, reduction="sum"))

    @property
    def first(self) -> bool:
        "The process that writes"
        return self.rank == 0

    @property
    def plain(self) -> bool:
        "Is this what page 11 does by itself?"
        return self.size == self.accumulation == 1

    def check(self, batch: int):
        "One line where a batch cannot be dealt; BatchNorm needs two rows in a part"
        if batch < max(self.size, 2) * self.accumulation and not self.plain:
            raise ValueError(f"a batch of {batch} utterances cannot be dealt to {self.size} process(es) in "
                             f"{self.accumulation} part(s): it takes {max(self.size, 2) * self.accumulation} or more")

    def shares(self, n: int) -> list[tuple[Tensor, float, bool]]:
        """This process's rows of a batch of n: for each part its rows, their weight, and whether BatchNorm asks nobody

        The last batch of an epoch may be too small to be dealt: then every process computes it whole.
        """
        if n < max(self.size, 2): return [(torch.arange(n), 1 / self.size, True)]
        parts = torch.arange(n).tensor_split(min(self.accumulation, n // max(self.size, 2)))
        mine = [p.tensor_split(self.size)[self.rank] for p in parts]
        return [(rows, len(rows) / n, self.size == 1) for rows in mine]


# ---- what looks at a batch as a whole

class _Added(torch.autograd.Function):
    "A sum over processes; every process's gradient reaches every process"
    @staticmethod
    def forward(ctx, team, v):
        ctx.team = team
        return team.add(v.contiguous())

    @staticmethod
    def backward(ctx, g): return None, ctx.team.add(g.contiguous())


def moments(
    x: Tensor,  # `[B, C, …]` rows of this process, at least one
    team: Team,
) -> tuple[Tensor, Tensor, Tensor]:  # mean `[C]`, variance `[C]` and count of the rows of all processes
    "Each process's mean and variance, put together (Chan et al. 1983): one sum, and no difference of large squares"
    flat = x.transpose(0, 1).flatten(1)
    var, mean = torch.var_mean(flat, 1, correction=0)
    mine = torch.cat([mean, var, mean.new_tensor([flat.shape[1]])])
    every = torch.stack([mine if r == team.rank else torch.zeros_like(mine) for r in range(team.size)])
    every = _Added.apply(team, every)
    C = len(mean)
    means, variances, n = every[:, :C], every[:, C:-1], every[:, -1:].detach()
    mean = (n * means).sum(0) / n.sum()
    return mean, (n * (variances + (means - mean).square())).sum(0) / n.sum(), n.sum()


def _shared_norm(m: _BatchNorm, team: Team, x: Tensor) -> Tensor:
    "BatchNorm of the rows of all processes"
    if not m.training or team.alone: return type(m).forward(m, x)
    at = (slice(None),) + (None,) * (x.ndim - 2)
    kind = torch.promote_types(x.dtype, torch.float32)
    with torch.autocast(x.device.type, enabled=False):
        mean, var, n = moments(x.to(kind), team)
        y = (x.to(kind) - mean[at]) * (var[at] + m.eps).rsqrt()
        if m.affine: y = y * m.weight[at] + m.bias[at]
    if m.track_running_stats:
        with torch.no_grad():
            m.num_batches_tracked += 1
            share = m.momentum if m.momentum is not None else 1 / float(m.num_batches_tracked)
            m.running_mean.lerp_(mean, share)
            m.running_var.lerp_(var * n / (n - 1), share)
    return y.to(x.dtype)


def _shared_dropout(m: nn.Dropout, team: Team, x: Tensor) -> Tensor:
    "The mask of the whole batch is drawn, and its rows are taken"
    if not m.training: return type(m).forward(m, x)
    whole = nn.functional.dropout(x.new_ones(team.total, *x.shape[1:]), m.p)
    return x * whole[team.rows.to(x.device)]


@contextmanager
def as_team(model: nn.Module, team: Team):
    "Inside, BatchNorm and dropout look at the batch, of which a process holds a share; weights and names stay"
    changed = []
    try:
        for name, m in model.named_modules():
            if name.startswith("teacher."): continue  # frozen: its statistics do not move, and it drops nothing
            kind = _shared_norm if isinstance(m, _BatchNorm) else _shared_dropout if isinstance(m, nn.Dropout) else None
            if isinstance(m, nn.modules.dropout._DropoutNd) and kind is None or kind is _shared_norm and (
                    type(m).forward is not _BatchNorm.forward):
                raise ValueError(f"{name} is a {type(m).__name__}: only torch's BatchNorm and Dropout are known here; "
                                 "train this network by one process")
            if kind: m.forward = partial(kind, m, team); changed.append(m)
        yield model
    finally:
        for m in changed: del m.forward


# ---- a step

def drawn(
    data: Data, index: Tensor,  # `[B]` rows of this batch
    s: Settings, seed: int,  # of this step
):  # inputs of student and teacher `[V·B, T, F]`, lengths `[V·B]`, index `[V·B]` (V views)
    "A batch as page 11's `forward_loss` draws it, in the same order from the same generator"
    g = torch.Generator().manual_seed(seed)
    x, n = data.features.batch(index, s.max_frames, torch.rand(len(index), generator=g))
    views = [x]
    if "mixup" in (s.student_view, s.teacher_view) or s.student_view == "both":
        mixed = s.mixup(x, n, g)
        views = {"normal": [x], "mixup": [mixed], "both": [x, mixed]}[s.student_view]
    def times(v): return torch.cat([v] * len(views))
    return torch.cat(views), times(mixed if s.teacher_view == "mixup" else x), times(n), times(index)


def _wide(e: EncoderOutput | None): return None if e is None else EncoderOutput(e.pooled.float(), e.embedding.float())


def share_loss(
    model: MultiTaskModel, data: Data, batch: tuple,  # of `drawn`
    objective: Objective, s: Settings, seed: int,  # of this step
    team: Team,  # its `rows` are asked for
) -> dict[str, Tensor]:  # the ledger of Eq. 3 over these rows
    "A share of a batch through the model and the objective"
    x, x_teacher, n, index = (v[team.rows.to(v.device)] for v in batch)
    k = None
    if data.k is not None and s.teacher_view == "normal":
        k = EncoderOutput(*(v[index.to(v.device)] for v in data.k))
    torch.manual_seed(seed)  # dropout
    with torch.autocast(x.device.type, torch.bfloat16, enabled=s.precision == "bf16"):
        out = model(x, n, x_teacher=x_teacher, k=k)
    out = Output({t: v.float() for t, v in out.logits.items()}, out.hidden, out.z, _wide(out.x), _wide(out.k))
    labels = {t: data.labels[t][index.to(data.labels[t].device)] for t in model.tasks}
    return terms(out, labels, objective, model.adapter)


class _Summed(torch.autograd.Function):
    "A loss whose gradient is known already: `backward` hands it out"
    @staticmethod
    def forward(ctx, value, gradients, *parameters):
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    def backward(ctx, g): return None, None, *(v * g for v in ctx.gradients)


def step(
    model: MultiTaskModel,  # inside `as_team`
    data: Data, index: Tensor,  # `[B]` rows of this batch
    objective: Objective, s: Settings, seed: int,  # of this step
    team: Team,
) -> dict[str, Tensor]:  # the ledger of the whole batch; its total knows the gradient of the whole batch
    "What `forward_loss` is for one process and one part: shares weighted by their rows, one sum over the processes"
    batch, ledger, parameters = drawn(data, index, s, seed), {}, [p for p in model.parameters() if p.requires_grad]
    views, team.total = len(batch[0]) // len(index), len(batch[0])
    for p in parameters: p.grad = None
    for rows, weight, alone in team.shares(len(index)):
        team.rows, team.alone = torch.cat([rows + v * len(index) for v in range(views)]), alone
        part = share_loss(model, data, batch, objective, s, seed, team)
        (weight * part["total"]).backward()
        for t, v in part.items(): ledger[t] = ledger.get(t, 0.) + weight * v.detach()
    reached = [p for p in parameters if p.grad is not None]
    flat = torch.cat([torch.stack([*ledger.values()]), *(p.grad.flatten() for p in reached)])
    sums, *gradients = team.add(flat).split([len(ledger), *(p.numel() for p in reached)])
    for p in reached: p.grad = None
    ledger = {t: v.to(ledger[t].dtype) for t, v in zip(ledger, sums)}
    gradients = [g.view_as(p).to(p.dtype) for g, p in zip(gradients, reached)]
    return ledger | {"total": _Summed.apply(ledger["total"], gradients, *reached)}


def fit_shared(
    model: MultiTaskModel, data: Data, objective: Objective, s: Settings, seed: int,  # as `training.fit` takes them
    checkpoint: Path | None = None, key: str = "", save_every: float = 60., each_epoch=lambda model: {},
    progress=lambda epoch, step, steps, ledger: None,  # these, too; each process has a checkpoint of its own
    team: Team | None = None,  # None: one process that takes batches whole, and does what `training.fit` does
) -> list[dict]:
    "Train the model of page 09 on Eq. 3 as a team"
    team = team or Team()
    team.check(s.batch)
    device = data.features.starts.device
    model.to(device)
    if s.channels_last: model.student.to(memory_format=torch.channels_last)
    opt = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=s.lr)
    lengths = data.features.n_frames[data.rows.to(device)].cpu()
    def order(epoch): return batches(lengths, s.batch, seed_at(seed, epoch))
    def loss(b, at): return step(model, data, data.rows[b], objective, s, at, team)
    with as_team(model, team):
        curves = train(model, opt, s, seed, order, loss, checkpoint, key, save_every, lambda: each_epoch(model),
                       progress)
    mine = sum(p.detach().double().sum() for p in model.parameters())
    if not torch.isclose(team.add(mine), team.size * mine, rtol=1e-9):
        raise RuntimeError("the processes ended with different weights: this is a fault of mkdcls, please report it")
    return curves
