"""The training loop: deterministic, resumable at any step, the same for teacher and student."""

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from crkd_core.config.train import RunConfig, TrainConfig
from crkd_core.data.samples import Batch
from crkd_core.errors import TrainingError
from crkd_core.progress import Progress, Task
from crkd_core.training.checkpoint import CHECKPOINT_NAME, TrainingState, read_checkpoint, write_checkpoint
from crkd_core.training.distributed import ProcessGroup
from crkd_core.training.gradients import SharedLayers, gradient_metrics
from crkd_core.training.metrics import MetricLog
from crkd_core.training.schedule import build_optimizer, clip_gradients, learning_rate_factor, set_learning_rate
from crkd_core.training.steps import DetectionStep

# Batches of one epoch, of which the first `start` are skipped.
EpochLoader = Callable[[int, int], Iterable[Batch]]

_MAX_SKIPPED_STEPS = 50
# Seeds that torch's generators tell apart.
_SEEDS = 2**64


@dataclass(frozen=True)
class TrainingPlan:
    """Everything a run needs besides the module.

    Attributes:
        description: what the progress bar says.
        folder: the unfinished run's folder; holds checkpoint and logs.
        batches: (epoch, start) to the batches of that epoch from number `start`, the same for every call.
        steps_per_epoch: batches an epoch and process.
        shared: layers at which the terms' gradients are recorded every ``train.log_gradients`` steps.
    """

    description: str
    folder: Path
    batches: EpochLoader
    steps_per_epoch: int
    run: RunConfig
    train: TrainConfig
    processes: ProcessGroup
    shared: SharedLayers = field(default_factory=dict)

    @property
    def total_steps(self) -> int:
        return self.steps_per_epoch * self.run.epochs


def _channels_last(module: nn.Module) -> nn.Module:
    # The many narrow convolutions of the head run a third faster with the channels innermost.
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module


def autocast_type(precision: str, device: torch.device) -> torch.dtype | None:
    """The reduced type to compute in; None for float32."""
    if precision == "auto":
        if device.type != "cuda":
            return None
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def autocast(dtype: torch.dtype | None, device: torch.device) -> AbstractContextManager:
    """Autocast of a type on a device; nothing for None."""
    return torch.autocast(device.type, dtype=dtype) if dtype is not None else nullcontext()


class Trainer:
    """Optimises one module, whose forward maps a batch to named loss terms, according to a plan.

    Every random choice of a step is a function of (seed, step, rank), so a run that was killed and continued from its
    checkpoint ends with the same weights as one that was not.
    """

    def __init__(self, module: nn.Module, plan: TrainingPlan) -> None:
        self._plan = plan
        self._module = _channels_last(module.to(plan.processes.device))
        self._optimizer = build_optimizer(self._module, plan.run, plan.train)
        self._dtype = autocast_type(plan.train.precision, plan.processes.device)
        self._scaler = torch.amp.GradScaler(plan.processes.device.type, enabled=self._dtype is torch.float16)
        self._checkpoint = plan.folder / CHECKPOINT_NAME
        self._first_step = 0
        self._skipped = 0
        if self._checkpoint.exists():
            state = read_checkpoint(self._checkpoint, self._module, self._optimizer)
            self._first_step = state.step
            if state.scaler:
                self._scaler.load_state_dict(state.scaler)
        self._parallel = self._wrap()

    @property
    def first_step(self) -> int:
        """Steps an earlier, killed run had finished."""
        return self._first_step

    def _wrap(self) -> nn.Module:
        processes = self._plan.processes
        if processes.size == 1:
            return self._module
        ids = [processes.device.index] if processes.device.type == "cuda" else None
        # A batch without any radar point leaves the pillar net without a gradient.
        return DistributedDataParallel(self._module, device_ids=ids, find_unused_parameters=True)

    def fit(self, progress: Progress) -> dict[str, float]:
        """Run all epochs; returns the mean of each loss term over the last one.

        Raises:
            TrainingError: the loss or the gradients are no longer finite.
        """
        plan = self._plan
        log = MetricLog(plan.folder, self._first_step) if plan.processes.is_first else None
        if log is not None and log.is_lost:
            progress.warning(
                f"the metrics of {plan.description} before step {self._first_step} cannot be read: its weights are "
                "the same, its curves and mean losses begin there"
            )
        with progress.task(plan.description, total=plan.total_steps, unit="step", done=self._first_step) as task:
            step = self._first_step
            while step < plan.total_steps:
                step = self._run_epoch(step, log, task)
        if log is not None:
            log.write()
        return log.epoch_mean(plan.run.epochs - 1) if log is not None else {}

    def _run_epoch(self, step: int, log: MetricLog | None, task: Task) -> int:
        plan = self._plan
        epoch, start = divmod(step, plan.steps_per_epoch)
        self._parallel.train()
        saved = waited_since = time.monotonic()
        for batch in plan.batches(epoch, start):
            arrived = time.monotonic()
            values = self._step(batch.to(plan.processes.device), step)
            step += 1
            if log is not None:
                finished = time.monotonic()
                values["data_wait_share"] = (arrived - waited_since) / max(finished - waited_since, 1e-9)
                values["samples_per_second"] = len(batch) * plan.processes.size / max(finished - waited_since, 1e-9)
                log.add(step - 1, epoch, values)
                task.advance(1, **_shown(values, epoch, plan.run.epochs))
                if finished - saved > 60 * plan.train.checkpoint_every_minutes:
                    saved = finished
                    self._save(step, log)
            waited_since = time.monotonic()
        expected = (epoch + 1) * plan.steps_per_epoch
        if step != expected:
            raise TrainingError(
                f"epoch {epoch} ended after {step - epoch * plan.steps_per_epoch} of {plan.steps_per_epoch} steps."
            )
        if log is not None and ((epoch + 1) % plan.train.checkpoint_every_epochs == 0 or step == plan.total_steps):
            self._save(step, log)
        plan.processes.barrier()
        return step

    def _step(self, batch: Batch, step: int) -> dict[str, float]:
        plan = self._plan
        number = (plan.train.seed * plan.total_steps + step) * plan.processes.size + plan.processes.rank
        torch.manual_seed(number % _SEEDS)
        factor = learning_rate_factor(step, plan.steps_per_epoch, plan.run.epochs, plan.train)
        set_learning_rate(self._optimizer, factor)
        if isinstance(self._module, DetectionStep):
            self._module.progress = step / plan.total_steps
        with autocast(self._dtype, plan.processes.device):
            terms: dict[str, Tensor] = self._parallel(batch)
        total = torch.stack([term.float() for term in terms.values()]).sum()
        if not torch.isfinite(total):
            bad = [name for name, term in terms.items() if not torch.isfinite(term)]
            raise TrainingError(
                f"the loss is not finite at step {step} (terms: {', '.join(bad)}; samples {', '.join(batch.tokens)}); "
                "lower the learning rate or set train.precision=fp32, then continue from the last checkpoint."
            )
        gradients = gradient_metrics(terms, plan.shared, self._scaler.get_scale()) if self._watches(step) else {}
        self._optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(total).backward()
        self._scaler.unscale_(self._optimizer)
        norm = clip_gradients(self._module.parameters(), plan.train.gradient_clip)
        self._update(norm, step)
        losses = {f"loss/{name}": float(term.detach()) for name, term in terms.items()}
        whole = {"loss/total": float(total.detach()), "gradient_norm": norm}
        return losses | whole | gradients | {"learning_rate": plan.run.learning_rate * factor}

    def _watches(self, step: int) -> bool:
        # Only the first process logs, and looking at gradients needs no other.
        plan = self._plan
        return bool(plan.shared) and plan.processes.is_first and step % plan.train.log_gradients == 0

    def _update(self, norm: float, step: int) -> None:
        if self._scaler.is_enabled():
            self._scaler.step(self._optimizer)
            self._scaler.update()
        elif norm == norm and norm != float("inf"):
            self._optimizer.step()
            self._skipped = 0
            return
        else:
            self._skipped += 1
        if self._skipped > _MAX_SKIPPED_STEPS:
            raise TrainingError(
                f"the gradients were not finite for {self._skipped} steps up to step {step}; lower the learning rate "
                "or set train.precision=fp32, then continue from the last checkpoint."
            )

    def _save(self, step: int, log: MetricLog) -> None:
        log.write()
        state = TrainingState(step=step, scaler=self._scaler.state_dict())
        write_checkpoint(self._checkpoint, self._module, self._optimizer, state)


def _shown(values: dict[str, float], epoch: int, epochs: int) -> dict[str, str]:
    losses = {name.removeprefix("loss/"): f"{value:.2f}" for name, value in values.items() if name.startswith("loss/")}
    return {"epoch": f"{epoch + 1}/{epochs}", **losses, "wait": f"{values['data_wait_share']:.0%}"}
