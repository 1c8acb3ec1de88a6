"""Numbers of a run over time: a long Parquet table, and TensorBoard."""

import os
import socket
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from crkd_core.artifacts.atomic import explain_write_errors
from crkd_core.artifacts.journal import claim
from crkd_core.artifacts.tables import write_table

METRICS_NAME = "logs/metrics.parquet"
SCORE = "validation/"
"""Beginning of the names of scores on the split val."""
TENSORBOARD_FOLDER = "logs/tensorboard"
_FLUSH_SECONDS = 30.0


class MetricLog:
    """Collects (step, epoch, name, value) rows; a resumed run drops what it is about to repeat.

    Attributes:
        is_lost: whether the table of the run to resume cannot be read: the rows then begin where it goes on.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        self._path = folder / METRICS_NAME
        earlier = _read_rows(self._path) if first_step else []
        self.is_lost = earlier is None
        self._rows = [row for row in earlier or () if row["step"] < first_step]
        self._board = _EventFile(folder / TENSORBOARD_FOLDER, first_step)

    def add(self, step: int, epoch: int, values: dict[str, float]) -> None:
        """Record the values of one step."""
        for name, value in values.items():
            self._rows.append({"step": step, "epoch": epoch, "name": name, "value": float(value)})
        self._board.add(step, values)

    def write(self) -> None:
        """Bring everything so far to disk.

        Raises:
            WriteError: the disk is full, or the folder cannot be written.
        """
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


def _read_rows(path: Path) -> list[dict] | None:
    """None where they cannot be read; they are a log, without which the run can go on."""
    try:
        return pq.read_table(path).to_pylist()
    except (pa.ArrowException, OSError):
        return None


class _EventFile:
    """One TensorBoard file of scalars.

    TensorBoard's own writer works in a thread, where a full disk is no error of the run but a traceback on the screen;
    this one writes where it is called.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        self._path = folder / f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
        self._events: list[Any] = [Event(wall_time=time.time(), file_version="brain.Event:2")]
        if first_step:  # TensorBoard then forgets what the stopped run wrote from this step on
            restart = SessionLog(status=SessionLog.START)
            self._events.append(Event(wall_time=time.time(), step=first_step, session_log=restart))
        self._flushed = time.monotonic()

    def add(self, step: int, values: dict[str, float]) -> None:
        """Record the values of one step."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        scalars = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._events.append(Event(wall_time=time.time(), step=step, summary=Summary(value=scalars)))
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Append what was recorded to the file."""
        from tensorboard.summary.writer.record_writer import RecordWriter

        with explain_write_errors(self._path):
            if not self._path.exists():
                self._path.parent.mkdir(parents=True, exist_ok=True)
                claim(self._path)
            with self._path.open("ab") as stream:
                records = RecordWriter(stream)
                for event in self._events:
                    records.write(event.SerializeToString())
        self._events.clear()
        self._flushed = time.monotonic()
