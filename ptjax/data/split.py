"""The splits of one task: examples, their ids, and the shapes they share.

Where rows, a task and a tokenizer come together on the way in. Knows no model.
"""

import dataclasses
import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ptjax.config import UserError
from ptjax.data import batch, hard_prompt, pipeline, source
from ptjax.data.batch import Batch, Encoded
from ptjax.data.tokenizer import Tokenizer
from ptjax.tasks import base, mixture
from ptjax.tasks.base import Example, Task


@dataclasses.dataclass(frozen=True)
class Split:
  """Examples with their ids.

  Attributes:
    encoded: `encoded[i]` are the ids of `examples[i]`.
    buckets: padded input lengths of its batches, the same for all splits of a
      task, so that a function is compiled once for each.
    target_length: padded length of its targets and choices, likewise.
    cut: inputs that were too long; see `batch.encode`.
    readings: how each member reads it, where a hard prompt is in front; then
      `encoded` is the first's.
    remarks: sentences about the task's splits that a reader must know.
    tasks: the number of each example's task in a mixture; () = there is one.
    cap: of each at most so many come an epoch; see `pipeline.train_batches`.
  """

  name: str
  examples: Sequence[Example]
  encoded: Sequence[Encoded]
  buckets: tuple[int, ...]
  target_length: int
  cut: int
  readings: Sequence[hard_prompt.Reading] = ()
  remarks: tuple[str, ...] = ()
  tasks: Sequence[int] = ()
  cap: int = 0

  @property
  def tasks_mixed(self) -> int:
    """How many tasks its examples are of."""
    return len(set(self.tasks)) or 1

  def __len__(self) -> int:
    return len(self.examples)

  def head(self, size: int) -> 'Split':
    """The first `size` examples; of a mixture as many from all over it."""
    some = range(min(size, len(self)))
    if self.tasks:
      some = [i * len(self) // len(some) for i in some]
    return dataclasses.replace(
      self,
      examples=[self.examples[i] for i in some],
      encoded=[self.encoded[i] for i in some],
      tasks=[self.tasks[i] for i in some] if self.tasks else (),
    )

  def train_batches(
    self,
    *,
    batch_size: int,
    seed: int,
    start_step: int,
    share: tuple[int, int] = (0, 1),
  ) -> Iterator[Batch]:
    """See `pipeline.train_batches`; `share`: process_index, process_count."""
    index, count = share
    found = pipeline.train_batches(
      self.encoded,
      batch_size=batch_size,
      buckets=self.buckets,
      seed=seed,
      start_step=start_step,
      process_index=index,
      process_count=count,
      target_length=self.target_length,
      parts=np.bincount(self.tasks).tolist() if self.tasks else (),
      cap=self.cap,
    )
    return map(self._with_tasks, found)

  def eval_batches(
    self, *, batch_size: int, with_choices: bool
  ) -> Iterator[Batch]:
    """See `pipeline.eval_batches`."""
    found = pipeline.eval_batches(
      self.encoded,
      batch_size=batch_size,
      buckets=self.buckets,
      with_choices=with_choices,
      target_length=self.target_length,
    )
    return map(self._with_tasks, found)

  def _with_tasks(self, made: Batch) -> Batch:
    """Of a mixture also `task` [B]; a filler row has some task's number."""
    if not self.tasks:
      return made
    return made | {'task': np.asarray(self.tasks, np.int32)[made['index']]}

  def as_read(self, made: Batch) -> list[Batch]:
    """A batch as each member reads it, or the batch that they all read."""
    return [
      made | self._inputs(reading.encoded, made['index'])
      for reading in self.readings
    ] or [made]

  def _inputs(self, encoded: Sequence[Encoded], rows: Sequence[int]) -> Batch:
    longest = max(len(encoded[i].inputs) for i in rows if i >= 0)
    bucket = next(b for b in self.buckets if b >= longest)
    made = batch.make(encoded, rows, shape=(bucket, self.target_length))
    return {key: made[key] for key in ('inputs', 'input_mask')}


def tasks(config: Any) -> list[Task]:
  """The tasks that `config.task` names; `custom` is that of `config.custom`.

  One task of them all if `config.mixture` is set.
  """
  if config.mixture < 0:
    raise UserError(f'mixture={config.mixture} must be at least 0')
  if config.mixture and config.method.name == hard_prompt.NAME:
    raise UserError(
      f'mixture={config.mixture} is trained on, and a hard prompt is not; set '
      'mixture=0 or another method.name'
    )
  if config.task != 'custom':
    # In a mixture an input must say which task it is of.
    prefix = config.prefix or config.mixture > 0
    found = [base.load(name, prefix=prefix) for name in base.names(config.task)]
    return [mixture.of(found)] if config.mixture else found
  if config.mixture:
    raise UserError(
      f'mixture={config.mixture} is for several tasks, and task=custom is one'
    )
  own = config.custom
  if not re.fullmatch(r'(\w[\w.-]*)?', own.name):
    raise UserError(
      f'custom.name={own.name!r} must be letters, digits, ., - and _, since '
      'files are called by it'
    )
  return [
    base.load(
      f'custom/{own.name}',
      template=own.template,
      target=own.target,
      labels=own.labels,
      metric_names=own.metrics,
    )
  ]


def reported(config: Any) -> str:
  """The split whose score is published.

  A task of your own without `custom.test` has dev alone, and is said to.
  """
  if config.task == 'custom' and not config.custom.test:
    return 'dev'
  return config.eval.split


def digest(*splits: Split) -> str:
  """Hex digits that change if an id or the order of an example does."""
  sha = hashlib.sha256()
  for split in splits:
    for row in split.encoded:
      for ids in (row.inputs, row.targets, *row.choices):
        sha.update(len(ids).to_bytes(4, 'little') + ids.tobytes())
  return sha.hexdigest()


def _check_labels(task: Task, tokenizer: Tokenizer) -> None:
  """A label that does not come back from its ids could never be answered."""
  for word in task.labels:
    back = tokenizer.decode(tokenizer.encode(tokenizer.joint + word))
    if back != word:
      raise UserError(
        f"{task.name}: the label {word!r} is not in this tokenizer's pieces: "
        f'it comes back as {back!r}; choose another word for it'
      )


def load(
  config: Any,
  task: Task,
  names: Sequence[str],
  tokenizer: Tokenizer,
  *,
  causal: bool = False,
) -> dict[str, Split]:
  """The named splits of a task, in the shapes of `config`.

  Args:
    causal: the model is decoder-only; see `batch.encode`.

  Raises:
    UserError: a split is missing or empty, or a label does not fit or cannot
      be said.
  """
  mixed = isinstance(task, mixture.Mixture)
  each_task = task.parts if mixed else (task,)
  for one in each_task:
    _check_labels(one, tokenizer)
  written = hard_prompt.write(
    config, lambda: _examples(config, task, 'train'), name=task.name
  )
  found = {}
  for name in names:
    examples = _examples(config, task, name)
    readings = [
      hard_prompt.read(
        each,
        examples,
        tokenizer,
        # Less what `batch.encode` puts around a text.
        room=config.input_length - (len(tokenizer.begin) if causal else 1),
        keep_end=causal,
      )
      for each in written
    ]
    read = [
      batch.encode(
        each,
        tokenizer,
        input_length=config.input_length,
        target_length=config.target_length,
        causal=causal,
      )
      for each in [r.examples for r in readings] or [examples]
    ]
    found[name] = examples, readings, read
  all_ = [
    row for *_, read in found.values() for encoded, _ in read for row in encoded
  ]
  buckets = tuple(config.buckets) or batch.choose_buckets(
    [len(row.inputs) for row in all_],
    max_length=config.input_length,
    rows=config.train.batch_size,
  )
  length = batch.target_length(all_)
  # Asked now: buckets without room shall not end the last task of eight.
  next(pipeline.eval_batches(all_, batch_size=1, buckets=buckets))
  remarks = [r for one in each_task for r in source.remarks(config, one.name)]
  return {
    name: Split(
      name,
      examples,
      *(read[0][0], buckets, length),
      # What is cut has no demonstration left, so it is cut for all members.
      read[0][1] + sum(r.cut for r in readings[:1]),
      [
        dataclasses.replace(r, encoded=encoded)
        for r, (encoded, _) in zip(readings, read)
      ],
      remarks=tuple(remarks),
      tasks=task.numbers(examples) if mixed else (),
      cap=config.mixture,
    )
    for name, (examples, readings, read) in found.items()
  }


def _examples(config: Any, task: Task, name: str) -> list[Example]:
  if isinstance(task, mixture.Mixture):
    return task.gather(lambda part: _examples(config, part, name))
  rows = source.rows(config, task.name, name)
  if name == 'train' and config.shots:
    units = task.units(rows)
    rows = source.few_shot(units, config.shots, seed=config.seed)
  return task.examples(rows, name)
