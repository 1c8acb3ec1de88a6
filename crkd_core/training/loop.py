"""The training loop: deterministic, resumable at any step, the same for teacher and student."""

import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from crkd_core.data.samples import Batch
from crkd_core.errors import TrainingError
from crkd_core.progress import Progress, Task
from crkd_core.training.autocast import autocast, autocast_type
from crkd_core.training.batches import Batches
from crkd_core.training.checkpoint import CHECKPOINT_NAME, TrainingState, read_checkpoint, write_checkpoint
from crkd_core.training.distributed import ProcessGroup
from crkd_core.training.gradients import SharedLayers, gradient_metrics
from crkd_core.training.metric_log import MetricLog
from crkd_core.training.schedule import build_optimizer, clip_gradients, learning_rate_factor, set_learning_rate
from crkd_core.training.training_plan import TrainingPlan

_MAX_SKIPPED_STEPS = 50
# Seeds that torch's generators tell apart.
_SEEDS = 2**64


class Trainer:
    """Optimises one training step according to a plan.

    Every random choice of a step is a function of (seed, step, rank), so a run that was killed and continued from its
    checkpoint ends with the same weights as one that was not.

    Args:
        module: maps a batch, and the share of the run that lies behind (0 to below 1), to named loss terms.
        folder: of the unfinished run; holds checkpoint and logs.
        watched: layers at which the terms' gradients are recorded every ``train.log_gradients`` steps.
    """

    def __init__(
        self,
        module: nn.Module,
        plan: TrainingPlan,
        batches: Batches,
        folder: Path,
        processes: ProcessGroup,
        watched: SharedLayers | None = None,
    ) -> None:
        self._plan, self._train = plan, plan.config.train
        self._batches = batches
        self._folder = folder
        self._processes, self._device = processes, processes.device
        self._watched = watched or {}
        self._module = module.to(self._device)
        self._optimizer = build_optimizer(self._module, plan.schedule, self._train)
        self._dtype = autocast_type(self._train.precision, self._device)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=self._dtype is torch.float16)
        self._checkpoint = folder / CHECKPOINT_NAME
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

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self._batches.steps_per_epoch * self._plan.schedule.epochs

    def _wrap(self) -> nn.Module:
        if self._processes.size == 1:
            return self._module
        ids = [self._device.index] if self._device.type == "cuda" else None
        # A batch without any radar point leaves the pillar net without a gradient.
        return DistributedDataParallel(self._module, device_ids=ids, find_unused_parameters=True)

    def fit(self, progress: Progress) -> dict[str, float]:
        """Run all epochs; returns the mean of each loss term over the last one.

        Raises:
            TrainingError: the loss or the gradients are no longer finite.
        """
        label, epochs = self._plan.label, self._plan.schedule.epochs
        log = MetricLog(self._folder, self._first_step) if self._processes.is_first else None
        if log is not None and log.is_lost:
            progress.warning(
                f"the metrics of {label} before step {self._first_step} cannot be read: its weights are "
                "the same, its curves and mean losses begin there"
            )
        with progress.task(label, total=self.total_steps, unit="step", done=self._first_step) as task:
            step = self._first_step
            while step < self.total_steps:
                step = self._run_epoch(step, log, task)
        if log is not None:
            log.write()
        return log.epoch_mean(epochs - 1) if log is not None else {}

    def _run_epoch(self, step: int, log: MetricLog | None, task: Task) -> int:
        steps_per_epoch = self._batches.steps_per_epoch
        epoch, start = divmod(step, steps_per_epoch)
        self._parallel.train()
        saved = waited_since = time.monotonic()
        for batch in self._batches.of_epoch(epoch, start):
            arrived = time.monotonic()
            values = self._step(batch.to(self._device), step)
            step += 1
            if log is not None:
                finished = time.monotonic()
                values["data_wait_share"] = (arrived - waited_since) / max(finished - waited_since, 1e-9)
                values["samples_per_second"] = len(batch) * self._processes.size / max(finished - waited_since, 1e-9)
                log.add(step - 1, epoch, values)
                task.advance(1, **_shown(values, epoch, self._plan.schedule.epochs))
                if finished - saved > 60 * self._train.checkpoint_every_minutes:
                    saved = finished
                    self._save(step, log)
            waited_since = time.monotonic()
        done = step - epoch * steps_per_epoch
        if done != steps_per_epoch:
            raise TrainingError(f"epoch {epoch} ended after {done} of {steps_per_epoch} steps.")
        if log is not None and ((epoch + 1) % self._train.checkpoint_every_epochs == 0 or step == self.total_steps):
            self._save(step, log)
        self._processes.barrier()
        return step

    def _step(self, batch: Batch, step: int) -> dict[str, float]:
        schedule, train = self._plan.schedule, self._train
        number = (train.seed * self.total_steps + step) * self._processes.size + self._processes.rank
        torch.manual_seed(number % _SEEDS)
        factor = learning_rate_factor(step, self._batches.steps_per_epoch, schedule.epochs, train)
        set_learning_rate(self._optimizer, factor)
        with autocast(self._dtype, self._device):
            terms: dict[str, Tensor] = self._parallel(batch, step / self.total_steps)
        total = torch.stack([term.float() for term in terms.values()]).sum()
        if not torch.isfinite(total):
            bad = [name for name, term in terms.items() if not torch.isfinite(term)]
            raise TrainingError(
                f"the loss is not finite at step {step} (terms: {', '.join(bad)}; samples {', '.join(batch.tokens)}); "
                "lower the learning rate or set train.precision=fp32, then continue from the last checkpoint."
            )
        gradients = gradient_metrics(terms, self._watched, self._scaler.get_scale()) if self._watches(step) else {}
        self._optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(total).backward()
        self._scaler.unscale_(self._optimizer)
        norm = clip_gradients(self._module.parameters(), train.gradient_clip)
        self._update(norm, step)
        losses = {f"loss/{name}": float(term.detach()) for name, term in terms.items()}
        whole = {"loss/total": float(total.detach()), "gradient_norm": norm}
        return losses | whole | gradients | {"learning_rate": schedule.learning_rate * factor}

    def _watches(self, step: int) -> bool:
        # Only the first process logs, and looking at gradients needs no other.
        return bool(self._watched) and self._processes.is_first and step % self._train.log_gradients == 0

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
