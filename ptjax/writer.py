"""What a run tells: metrics.jsonl, TensorBoard, Weights & Biases, the terminal.

Owns those files and their resumption. Tables and sentences go to stdout,
progress to stderr. Knows nothing of what the numbers mean.
"""

import hashlib
import json
import math
import os
import pathlib
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ptjax import progress
from ptjax.config import UserError
from ptjax.progress import Progress


class Writer:
  """Writes what happens in a run to all places that were asked for.

  Args:
    workdir: the run's folder; None = no files, as on hosts other than the
      first, or where nothing is trained.
    wandb: project of Weights & Biases; '' or None = not used.
    quiet: nothing on the terminal.

  Raises:
    UserError: wandb is asked for and not installed.
  """

  def __init__(
    self,
    workdir: pathlib.Path | None,
    *,
    tensorboard: bool = True,
    wandb: str | None = None,
    quiet: bool = False,
  ):
    self._quiet = quiet
    self._lines = self._boards = self._wandb = None
    if workdir is None:
      return
    workdir.mkdir(parents=True, exist_ok=True)
    if wandb:
      self._wandb = _Wandb(wandb, workdir)
    if tensorboard:
      self._boards = _Boards(workdir / 'tensorboard')
    self._lines = _Lines(workdir / 'metrics.jsonl')

  def resume(self, task: str, *, step: int) -> None:
    """Forgets what was written of `task` beyond this step: it comes again."""
    if self._lines:
      self._lines.resume(task, step)
    if self._boards:
      self._boards.resume(task, step)

  def scalars(
    self, step: int, values: Mapping[str, float], *, task: str
  ) -> None:
    """Numbers of a step."""
    if self._lines:
      self._lines.append(
        {'event': 'scalars', 'task': task, 'step': step}, values
      )
    if self._boards:
      self._boards.scalars(task, step, values)
    if self._wandb:
      self._wandb.scalars(task, step, values)

  def event(self, kind: str, values: Mapping[str, Any], *, task: str) -> None:
    """What happens once a task; if it comes again, the last one counts."""
    if self._lines:
      self._lines.append({'event': kind, 'task': task}, values)

  def progress(
    self, name: str, *, total: int, start: int = 0, batch: int = 1
  ) -> Progress:
    """A context manager with update(step, **values) and note(**values)."""
    return Progress(
      name, total=total, start=start, batch=batch, quiet=self._quiet
    )

  def say(self, text: str) -> None:
    """A sentence or a table."""
    if not self._quiet:
      progress.say(text)

  def close(self) -> None:
    for part in (self._lines, self._boards, self._wandb):
      if part:
        part.close()

  def __enter__(self) -> 'Writer':
    return self

  def __exit__(self, *_: Any) -> None:
    self.close()


class _Lines:
  """A file of JSON lines that survives its writer.

  A line is one write, so a killed process can leave at most a torn last line
  (a full disk: one anywhere); what is no JSON is dropped when it is opened.
  """

  def __init__(self, path: pathlib.Path):
    self._path = path
    self._file = open(path, 'ab', buffering=0)
    self._keep(_parse(path.read_bytes()))

  def append(self, head: dict[str, Any], values: Mapping[str, Any]) -> None:
    line = {**head, 'time': round(time.time(), 3), **_valid(values)}
    text = json.dumps(line, ensure_ascii=False, allow_nan=False) + '\n'
    data = text.encode()
    if self._file.write(data) != len(data):
      raise OSError(f'{self._path}: the disk is full')

  def resume(self, task: str, step: int) -> None:
    """Drops what comes again: later steps, and repetitions of an event."""
    lines = _parse(self._path.read_bytes())
    last = {_event(line): number for number, (_, line) in enumerate(lines)}
    self._keep(
      (raw, line)
      for number, (raw, line) in enumerate(lines)
      if line.get('task') != task
      or (
        line['step'] <= step if 'step' in line else last[_event(line)] == number
      )
    )

  def close(self) -> None:
    self._file.close()

  def _keep(self, lines: Iterable[tuple[bytes, dict[str, Any]]]) -> None:
    after = b''.join(raw for raw, _ in lines)
    if after == self._path.read_bytes():
      return
    aside = self._path.with_name(f'.{self._path.name}.part')
    aside.write_bytes(after)
    self._file.close()
    os.replace(aside, self._path)
    self._file = open(self._path, 'ab', buffering=0)


def _parse(data: bytes) -> list[tuple[bytes, dict[str, Any]]]:
  """The whole lines of a file, each with what it says."""
  out = []
  for raw in data.splitlines(keepends=True):
    try:
      line = json.loads(raw)
    except ValueError:
      continue
    if raw.endswith(b'\n') and isinstance(line, dict):
      out.append((raw, line))
  return out


def _event(line: Mapping[str, Any]) -> tuple[Any, Any]:
  return line.get('task'), line.get('event')


def _valid(value: Any) -> Any:
  """JSON has no word for a number that is not finite: null."""
  if isinstance(value, Mapping):
    return {str(key): _valid(item) for key, item in value.items()}
  if isinstance(value, list | tuple):
    return [_valid(item) for item in value]
  if hasattr(value, 'item') and not getattr(value, 'ndim', 0):
    value = value.item()
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


class _Boards:
  """One TensorBoard run a task, so that each can resume at its own step."""

  def __init__(self, folder: pathlib.Path):
    self._folder, self._open = folder, {}

  def resume(self, task: str, step: int) -> None:
    self._close(task)
    self._of(task, purge_step=step + 1)

  def scalars(self, task: str, step: int, values: Mapping[str, float]) -> None:
    board = self._of(task)
    for key, value in values.items():
      board.add_scalar(key, value, step)

  def close(self) -> None:
    for task in list(self._open):
      self._close(task)

  def _of(self, task: str, **options: Any) -> Any:
    if task not in self._open:
      import tensorboardX  # Late: half a second, mostly protobuf.

      folder = self._folder / task
      # Files are named by the second, so one of the same second is written
      # over unless their number is in the name.
      count = len(list(folder.iterdir())) if folder.is_dir() else 0
      self._open[task] = tensorboardX.SummaryWriter(
        str(folder), flush_secs=10, filename_suffix=f'.{count}', **options
      )
    return self._open[task]

  def _close(self, task: str) -> None:
    if task in self._open:
      self._open.pop(task).close()


class _Wandb:
  """One Weights & Biases run; each task has its own step axis."""

  def __init__(self, project: str, workdir: pathlib.Path):
    try:
      import wandb
    except ImportError:
      raise UserError(
        f'wandb={project} needs the package wandb: pip install wandb, or leave '
        'wandb empty (metrics.jsonl and TensorBoard are always written)'
      ) from None
    # Named after the folder, so that a resumed run goes on in its own.
    place = hashlib.sha256(str(workdir.resolve()).encode()).hexdigest()[:8]
    self._run = wandb.init(
      project=project,
      dir=str(workdir),
      name=workdir.name,
      id=place,
      resume='allow',
    )
    self._tasks = set()

  def scalars(self, task: str, step: int, values: Mapping[str, float]) -> None:
    axis = f'{task}/step'
    if task not in self._tasks:
      self._tasks.add(task)
      self._run.define_metric(axis)
      self._run.define_metric(f'{task}/*', step_metric=axis)
    named = {f'{task}/{key}': value for key, value in values.items()}
    self._run.log({axis: step, **named})

  def close(self) -> None:
    self._run.finish()


def table(rows: Sequence[Sequence[Any]]) -> str:
  """Rows of cells as aligned text; the first row is the head.

  A column that holds numbers only is aligned right. Floats get one decimal,
  None a dash.
  """
  texts = [[_cell(cell) for cell in row] for row in rows]
  widths = [max(map(len, column)) for column in zip(*texts)]
  right = [
    all(isinstance(cell, int | float | None) for cell in column)
    for column in zip(*rows[1:])
  ] or [False] * len(widths)
  lines = []
  for row in texts:
    cells = [
      text.rjust(width) if to_right else text.ljust(width)
      for text, width, to_right in zip(row, widths, right)
    ]
    lines.append('  '.join(cells).rstrip())
  lines.insert(1, '  '.join('-' * width for width in widths))
  return '\n'.join(lines)


def _cell(value: Any) -> str:
  if value is None:
    return '–'
  return f'{value:.1f}' if isinstance(value, float) else str(value)
