"""Rows in, rows out: text generated, or log-probabilities, by any model.

Owns the JSON lines of `predict` and `score`. Knows no task.
"""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import IO, Any

import jax
import numpy as np

from ptjax import parts, step
from ptjax.config import UserError
from ptjax.data import batch, pipeline, table
from ptjax.export import prompt as prompt_lib
from ptjax.parts import Parts

Row = dict[str, Any]


def run(
  config: Any, *, mode: str, source: str, target: str, prompt: str
) -> None:
  """Reads `source`, writes each row with its answer to `target`.

  Args:
    mode: 'predict' adds `prediction`; 'score' adds `log_prob`, in nats over
      the target's pieces and EOS, and `num_tokens`.
    prompt: a file or a run; '' for the model alone.
  """
  rows = list(read_rows(source, mode))
  with _written(target) as file:  # first: it may not be possible
    made, own, frozen = with_prompt(config, prompt)
    answers = (predict if mode == 'predict' else score)(made, own, frozen, rows)
    for row, new in zip(rows, answers):
      file.write(json.dumps({**row, **new}, ensure_ascii=False) + '\n')


@contextlib.contextmanager
def _written(target: str) -> Iterator[IO[str]]:
  """A file that is there when it is whole; a link or device is written to."""
  path = pathlib.Path(target).expanduser()
  aside = path.with_name(f'.{path.name}.part')
  if path.is_symlink() or path.exists() and not path.is_file():
    aside = path
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A lone surrogate in a row is written as JSON's escape of it.
    file = open(aside, 'w', encoding='utf-8', errors='backslashreplace')
  except OSError as error:
    raise UserError(
      f'--output={target} cannot be written: {error.strerror}'
    ) from None
  try:
    with file:
      yield file
    if aside != path:
      os.replace(aside, path)
  finally:
    if aside != path:
      aside.unlink(missing_ok=True)


def with_prompt(
  config: Any, name: str, *, task: str = '', made: Parts | None = None
) -> tuple[Parts, Any, Any]:
  """(parts, tuned, frozen) of a model with the prompt of that name, or none.

  Args:
    task: which of a run's prompts.
    made: parts of the same model, to be used again.
  """
  config = config.copy_and_resolve_references()
  own, record = prompt_lib.read(name, task=task) if name else ({}, {})
  config.method.name, config.method.init = 'none', 'uniform'  # not started
  if own:
    config.method.name = record.get('method', {}).get('name', 'soft_prompt')
  if 'prompt' in own:
    config.method.length = own['prompt']['encoder'].shape[0]
  made = made.of_method(config.method) if made else parts.build(config)
  loaded = made.loaded
  prompt_lib.check_model(
    record, fingerprint=loaded.fingerprint, name=loaded.name
  )
  return made, *made.place(own)


def read_rows(source: str, mode: str) -> Iterator[Row]:
  """The rows of a JSON-lines file, each held against what `mode` needs."""
  needs = ('inputs',) if mode == 'predict' else ('inputs', 'targets')
  try:
    for number, row in enumerate(
      table.jsonl(pathlib.Path(source).expanduser()), 1
    ):
      for need in needs:
        if need not in row and f'{need[:-1]}_ids' not in row:
          raise UserError(
            f'{source}, row {number}: no {need!r} (or {need[:-1] + "_ids"!r}) '
            f'among its fields {", ".join(row) or "(none)"}'
          )
      yield row
  except OSError as error:
    raise UserError(f'--input={source}: {error.strerror or error}') from None


def predict(
  made: Parts, own: Any, frozen: Any, rows: Sequence[Row]
) -> list[Row]:
  """{'prediction': text} for each row."""
  encoded = [_encode(made, *row, targets=False) for row in enumerate(rows, 1)]
  rng = jax.random.key(made.config.seed)
  out: list[Row] = [{}] * len(rows)
  for count, part in enumerate(_batches(made, encoded)):
    ids = made.generate(
      own,
      frozen,
      part,
      jax.random.fold_in(rng, count),
      max_length=made.config.max_length,
    )
    for index, found in zip(part['index'], np.asarray(ids)):
      if index >= 0:
        out[index] = {'prediction': made.tokenizer.decode(found)}
  return out


def score(made: Parts, own: Any, frozen: Any, rows: Sequence[Row]) -> list[Row]:
  """{'log_prob': nats, 'num_tokens': count} for each row."""
  encoded = [_encode(made, *row, targets=True) for row in enumerate(rows, 1)]
  log_probs = step.make_log_probs(made.tuned_model)
  out: list[Row] = [{}] * len(rows)
  for part in _batches(made, encoded):
    sums, counts = log_probs(own, frozen, part)
    for index, nats, count in zip(
      part['index'], np.asarray(sums), np.asarray(counts)
    ):
      if index >= 0:
        out[index] = {'log_prob': float(nats), 'num_tokens': int(count)}
  return out


def _encode(
  made: Parts, number: int, row: Row, *, targets: bool
) -> batch.Encoded:
  """A row's ids: text gets its EOS, ids are taken as they are."""

  def ids(text_key: str, ids_key: str):
    if ids_key in row:
      found = _checked(row[ids_key], made, f'row {number}: {ids_key!r}')
    else:
      text = _text(row[text_key], f'row {number}: {text_key!r}')
      found = [*made.tokenizer.encode(text), made.tokenizer.eos_id]
    return np.asarray(found, np.int32)

  inputs = ids('inputs', 'input_ids')
  if not len(inputs):
    raise UserError(f"row {number}: 'input_ids' is empty; name one or more")
  # The frozen model reads any length; what a prompt adds is said in config.
  return batch.Encoded(
    inputs, ids('targets', 'target_ids') if targets else inputs[:0]
  )


def _text(value: Any, where: str) -> str:
  if not isinstance(value, str):
    raise UserError(f'{where} is {json.dumps(value)[:40]}, not text')
  try:
    value.encode()
  except UnicodeEncodeError:
    raise UserError(f'{where} holds half of a surrogate pair') from None
  return value


def _checked(value: Any, made: Parts, where: str) -> list[int]:
  """Refuses ids that the embedding would take for something else."""
  rows = made.loaded.config.vocab_size
  if not isinstance(value, list) or not all(
    type(i) is int and 0 <= i < rows for i in value
  ):
    raise UserError(
      f'{where} is {json.dumps(value)[:40]}, not a list of ids from 0 to '
      f'{rows - 1}'
    )
  return value


def _batches(made: Parts, encoded: Sequence[batch.Encoded]) -> Iterator[Any]:
  if not encoded:
    return iter(())
  lengths = [len(row.inputs) for row in encoded]
  return pipeline.eval_batches(
    encoded,
    batch_size=min(made.config.eval.batch_size, len(encoded)),
    buckets=batch.choose_buckets(lengths, max_length=max(lengths)),
  )
