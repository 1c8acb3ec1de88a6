"""The training loop: deterministic, resumable at any step, the same for teacher and student."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from crkd_core.data.samples import Batch
from crkd_core.errors import TrainingError
from crkd_core.evaluation.nuscenes.metrics import Metrics
from crkd_core.models.autocast import autocast_type
from crkd_core.progress import Progress, Task
from crkd_core.training.accumulation import BatchShares, in_steps
from crkd_core.training.batches import Batches
from crkd_core.training.checkpoint import CHECKPOINT_NAME, TrainingState, read_checkpoint, write_checkpoint
from crkd_core.training.distributed import ProcessGroup
from crkd_core.training.division import Division
from crkd_core.training.gradients import SharedLayers, gradient_metrics
from crkd_core.training.kept_weights import KeptWeights, ScoredEpoch
from crkd_core.training.metric_log import SCORE, MetricLog
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
        watched: layers at which the terms' gradients are recorded every ``train.log_gradients`` steps; with several
            batches a step, those of the last.
        score: scores of the module as it is (see :class:`.validation.Validation`), asked of every process after every
            ``validate_every`` epochs and the last; None on all but the first process.
    """

    def __init__(
        self,
        module: nn.Module,
        plan: TrainingPlan,
        batches: Batches,
        folder: Path,
        processes: ProcessGroup,
        watched: SharedLayers | None = None,
        score: Callable[[], Metrics | None] | None = None,
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
        self._kept = KeptWeights(self._module, self._train.ema_decay, self._train.validate_metric)
        self._score = score
        self._first_step = 0
        self._skipped = 0
        self._divisions: tuple[Division, ...] = ()
        if self._checkpoint.exists():
            state = read_checkpoint(self._checkpoint, self._module, self._optimizer, self._kept)
            self._first_step, self._divisions = state.step, state.divisions
            if state.scaler:
                self._scaler.load_state_dict(state.scaler)
        division = replace(plan.division(processes.size), from_step=self._first_step)
        if not self._divisions or not self._divisions[-1].is_like(division):
            self._divisions += (division,)
        self._parallel = self._wrap()
        self._shares = BatchShares(
            self._module, self._parallel, processes, self._dtype, self._train.normalise_over_ranks
        )

    @property
    def first_step(self) -> int:
        """Steps an earlier, killed run had finished."""
        return self._first_step

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self._batches.steps_per_epoch * self._plan.schedule.epochs

    @property
    def divisions(self) -> tuple[Division, ...]:
        """How the samples of a step were divided, from the first step on; several where it was continued otherwise."""
        return self._divisions

    @property
    def kept(self) -> KeptWeights:
        """The weights of the run."""
        return self._kept

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
                self._finish_epoch(step, log)
        if log is not None:
            log.write()
        return log.epoch_mean(epochs - 1) if log is not None else {}

    def _run_epoch(self, step: int, log: MetricLog | None, task: Task) -> int:
        """Optimise to the end of the epoch; returns the number of steps that are done then."""
        steps_per_epoch = self._batches.steps_per_epoch
        epoch, start = divmod(step, steps_per_epoch)
        self._parallel.train()
        saved = waited_since = time.monotonic()
        for batches in in_steps(self._batches.of_epoch(epoch, start), self._plan.schedule.accumulate):
            arrived = time.monotonic()
            values = self._step(batches, step)
            step += 1
            if log is not None:
                finished = time.monotonic()
                samples = self._processes.size * sum(map(len, batches))
                values["data_wait_share"] = (arrived - waited_since) / max(finished - waited_since, 1e-9)
                values["samples_per_second"] = samples / max(finished - waited_since, 1e-9)
                log.add(step - 1, epoch, values)
                task.advance(1, **_shown(values, epoch, self._plan.schedule.epochs))
                # Not where an epoch is to be validated first: a run that is continued there would leave it out.
                is_due = finished - saved > 60 * self._train.checkpoint_every_minutes
                if is_due and not self._is_validated(step):
                    saved = finished
                    self._save(step, log)
            waited_since = time.monotonic()
        done = step - epoch * steps_per_epoch
        if done != steps_per_epoch:
            raise TrainingError(f"epoch {epoch} ended after {done} of {steps_per_epoch} steps.")
        return step

    def _finish_epoch(self, step: int, log: MetricLog | None) -> None:
        """What comes after the last step of an epoch: scores, and a checkpoint."""
        epochs = step // self._batches.steps_per_epoch
        is_validated = self._is_validated(step)
        if is_validated:
            self._validate(epochs, step, log)
        is_due = is_validated or epochs % self._train.checkpoint_every_epochs == 0 or step == self.total_steps
        if log is not None and is_due:
            self._save(step, log)
        self._processes.barrier()

    def _is_validated(self, step: int) -> bool:
        """Whether an epoch that is validated ends with this step."""
        epochs, rest = divmod(step, self._batches.steps_per_epoch)
        every = self._plan.schedule.validate_every
        is_last = step == self.total_steps
        return self._score is not None and rest == 0 and (is_last or epochs % every == 0)

    def _validate(self, epochs: int, step: int, log: MetricLog | None) -> None:
        if self._score is None:
            return
        with self._kept.averaged():
            # Batch norms' running statistics are each process's own until the next step begins.
            self._processes.align(self._module.state_dict().values())
            metrics = self._score()
            if metrics is not None and log is not None:
                self._kept.compare(ScoredEpoch(epochs, step, metrics.mean_ap, metrics.nds))
                log.add(step - 1, epochs - 1, {SCORE + "mAP": metrics.mean_ap, SCORE + "NDS": metrics.nds})

    def _step(self, batches: Sequence[Batch], step: int) -> dict[str, float]:
        schedule, train, progress = self._plan.schedule, self._train, step / self.total_steps
        number = (train.seed * self.total_steps + step) * self._processes.size + self._processes.rank
        torch.manual_seed(number % _SEEDS)
        factor = learning_rate_factor(step, self._batches.steps_per_epoch, schedule.epochs, train)
        set_learning_rate(self._optimizer, factor)
        self._optimizer.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        for batch, terms in self._shares.terms(batches, progress):
            total = _total(terms, batch, step)
            gradients = gradient_metrics(terms, self._watched, self._scaler.get_scale()) if self._watches(step) else {}
            self._scaler.scale(total).backward()
            for name, term in {**terms, "total": total}.items():
                sums[name] = sums[name] + term.detach() if name in sums else term.detach()
        self._scaler.unscale_(self._optimizer)
        norm = clip_gradients(self._module.parameters(), train.gradient_clip)
        self._update(norm, step)
        self._kept.average(step)
        losses = {f"loss/{name}": float(value) for name, value in sums.items()}
        return losses | {"gradient_norm": norm} | gradients | {"learning_rate": schedule.learning_rate * factor}

    def _watches(self, step: int) -> bool:
        # Only the first process logs; the others are needed where batch norms have gradients from all of them.
        takes_part = self._processes.is_first or self._train.sync_batch_norm
        return bool(self._watched) and takes_part and step % self._train.log_gradients == 0

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
        state = TrainingState(step=step, scaler=self._scaler.state_dict(), divisions=self._divisions)
        write_checkpoint(self._checkpoint, self._module, self._optimizer, state, self._kept)


def _total(terms: dict[str, Tensor], batch: Batch, step: int) -> Tensor:
    total = torch.stack([term.float() for term in terms.values()]).sum()
    if not torch.isfinite(total):
        bad = [name for name, term in terms.items() if not torch.isfinite(term)]
        raise TrainingError(
            f"the loss is not finite at step {step} (terms: {', '.join(bad)}; samples {', '.join(batch.tokens)}); "
            "lower the learning rate or set train.precision=fp32, then continue from the last checkpoint."
        )
    return total


def _shown(values: dict[str, float], epoch: int, epochs: int) -> dict[str, str]:
    losses = {name.removeprefix("loss/"): f"{value:.2f}" for name, value in values.items() if name.startswith("loss/")}
    return {"epoch": f"{epoch + 1}/{epochs}", **losses, "wait": f"{values['data_wait_share']:.0%}"}
