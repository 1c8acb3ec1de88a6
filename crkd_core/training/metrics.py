"""Numbers of a run over time: a long Parquet table, and TensorBoard."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from crkd_core.artifacts.tables import write_table

METRICS_NAME = "logs/metrics.parquet"
TENSORBOARD_FOLDER = "logs/tensorboard"


class MetricLog:
    """Collects (step, epoch, name, value) rows; a resumed run drops what it is about to repeat."""

    def __init__(self, folder: Path, first_step: int) -> None:
        self._path = folder / METRICS_NAME
        self._rows: list[dict] = []
        if first_step and self._path.exists():
            self._rows = [row for row in pq.read_table(self._path).to_pylist() if row["step"] < first_step]
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        from torch.utils.tensorboard import SummaryWriter

        self._board = SummaryWriter(str(folder / TENSORBOARD_FOLDER), purge_step=first_step or None)

    def add(self, step: int, epoch: int, values: dict[str, float]) -> None:
        """Record the values of one step."""
        for name, value in values.items():
            self._rows.append({"step": step, "epoch": epoch, "name": name, "value": float(value)})
            self._board.add_scalar(name, value, step)

    def write(self) -> None:
        """Bring everything so far to disk."""
        schema = pa.schema(
            [("step", pa.int64()), ("epoch", pa.int32()), ("name", pa.string()), ("value", pa.float64())]
        )
        write_table(self._path, pa.Table.from_pylist(self._rows, schema=schema))
        self._board.flush()

    def epoch_mean(self, epoch: int) -> dict[str, float]:
        """Mean of every loss over one epoch."""
        sums: dict[str, list[float]] = {}
        for row in self._rows:
            if row["epoch"] == epoch and row["name"].startswith("loss/"):
                sums.setdefault(row["name"], []).append(row["value"])
        return {name: sum(values) / len(values) for name, values in sums.items()}

    def close(self) -> None:
        """Write and release the event file."""
        self.write()
        self._board.close()
