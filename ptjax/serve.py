"""Rows in, rows out: text generated, or log-probabilities, by any model.

Owns the JSON lines of `predict` and `score`, and which prompt a row meets:
rows of different prompts go through one batch. Knows no task.
"""

import contextlib
import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any

import jax
import numpy as np

from ptjax import bucket, processes, progress, prompted, tree
from ptjax.config import UserError, check_text, nearest
from ptjax.data import batch, hard_prompt, pipeline, table
from ptjax.export import bank, names
from ptjax.export.prompt import Prompt
from ptjax.interpret import look
from ptjax.parts import Parts

Row = dict[str, Any]


def run(
  config: Any, *, mode: str, source: str, target: str, prompt: str
) -> None:
  """Reads `source`, writes each row with its answer to `target`.

  Args:
    mode: 'predict' adds `prediction`; 'score' adds `log_prob`, in nats over
      the target's pieces and EOS, and `num_tokens`.
    prompt: files, banks, runs, joined by commas; '' for the model alone.
  """
  rows = list(read_rows(source, mode))
  prompts = names.find(prompt) if prompt else []
  target = target if processes.first() else os.devnull
  with written(target) as file:  # first: it may not be possible
    server = Server(config, prompts)
    answers = server.predict(rows) if mode == 'predict' else server.score(rows)
    for row, new in zip(rows, answers):
      file.write(json.dumps({**row, **new}, ensure_ascii=False) + '\n')


@contextlib.contextmanager
def written(target: str) -> Iterator[IO[str]]:
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


def read_rows(source: str, mode: str) -> Iterator[Row]:
  """The rows of a JSON-lines file, each held against what `mode` needs."""
  needs = ('inputs',) if mode == 'predict' else ('inputs', 'targets')
  try:
    for number, row in enumerate(table.jsonl(bucket.copied(source)), 1):
      for need in needs:
        if need not in row and f'{need[:-1]}_ids' not in row:
          raise UserError(
            f'{source}, row {number}: no {need!r} (or {need[:-1] + "_ids"!r}) '
            f'among its fields {", ".join(row) or "(none)"}'
          )
      yield row
  except OSError as error:
    raise UserError(f'--input={source}: {error.strerror or error}') from None


def inspect(
  config: Any, *, prompts: Sequence[Prompt], folder: pathlib.Path
) -> dict[str, Any]:
  """Looks at soft prompts of one model; see `interpret.look`."""
  bank.same_model(prompts)
  looked_at = [
    look.Prompt(
      found.name,
      found.rows,
      labels=found.record.get('labels', ()),
      from_labels=found.record.get('init') == 'labels',
    )
    for found in prompts
  ]
  made, *_ = prompted.with_prompts(config, prompts[:1])
  return look.run(
    looked_at,
    made.loaded.params['token_embedder']['embedding'],
    tokenizer=made.tokenizer,
    folder=folder,
    count=config.neighbours,
    say=progress.say,
  )


class Server:
  """A loaded model that answers rows, each with the prompt that it names.

  A row's `prompt` is the name of one of `prompts`; '' or null is the model
  alone. A row without the field has the only prompt there is.

  Args:
    made: parts of the same model, to be used again.

  Raises:
    UserError: prompts of different models.
  """

  def __init__(
    self, config: Any, prompts: Sequence[Prompt], *, made: Parts | None = None
  ):
    bank.same_model(prompts)
    self.words = hard_prompt.instruction(config)
    self.names = [found.name for found in prompts]
    self.lengths = [len(f.rows) for f in prompts] if len(prompts) > 1 else [0]
    # Shorter ones are filled up in front, where rows do not count.
    longest = max(self.lengths)
    if len(prompts) > 1:
      prompts = [_filled(found, longest) for found in prompts]
    self.parts, tuned, self.frozen = prompted.with_prompts(
      config, prompts, made=made
    )
    self.mixed = len(prompts) > 1
    self.tuned = tuned
    if not self.mixed:
      self.tuned = tree.at(tuned, 0)
    method = self.parts.tuned_model.method
    if not self.mixed or method.places.behind:
      self.lengths = [method.front] * len(self.lengths)

  def predict(self, rows: Sequence[Row]) -> list[Row]:
    """{'prediction': text} for each row."""
    rng = jax.random.key(self.parts.config.seed)
    out: list[Row] = [{}] * len(rows)
    for count, part in enumerate(self._batches(rows, targets=False)):
      ids = self.parts.generate(
        self.tuned,
        self.frozen,
        part,
        jax.random.fold_in(rng, count),
        max_length=self.parts.config.max_length,
      )
      for index, found in zip(part['index'], np.asarray(ids)):
        if index >= 0:
          out[index] = {'prediction': self.parts.tokenizer.decode(found)}
    return out

  def score(self, rows: Sequence[Row]) -> list[Row]:
    """{'log_prob': nats, 'num_tokens': count} for each row."""
    out: list[Row] = [{}] * len(rows)
    for part in self._batches(rows, targets=True):
      sums, counts = self.parts.log_probs(self.tuned, self.frozen, part)
      for index, nats, count in zip(
        part['index'], np.asarray(sums), np.asarray(counts)
      ):
        if index >= 0:
          out[index] = {'log_prob': float(nats), 'num_tokens': int(count)}
    return out

  def embeds(self, rows: Sequence[Row]) -> list[np.ndarray]:
    """What the model reads for each row: its virtual tokens, then its pieces.

    [P + L, D] in float32, of a row's own lengths.
    """
    table_VxD = self.frozen['model']['token_embedder']['embedding']
    own = self.tuned['prompt']['encoder'] if self.tuned else None
    out: list[np.ndarray] = [np.empty(0)] * len(rows)
    for part in self._batches(rows, targets=False):
      for row, index in enumerate(part['index']):
        if index < 0:
          continue
        ids_L = part['inputs'][row][part['input_mask'][row].astype(bool)]
        read = [table_VxD[ids_L]]
        if front := int(part['front'][row]):
          prompt_PxD = own[part['member'][row]] if self.mixed else own
          read.insert(0, prompt_PxD[-front:])
        out[index] = np.concatenate([np.asarray(r, np.float32) for r in read])
    return out

  def _batches(self, rows: Sequence[Row], *, targets: bool) -> Iterator[Any]:
    made = self.parts
    rows = [_worded(self.words, *r) for r in enumerate(rows, 1)]
    encoded = [_encode(made, *r, targets=targets) for r in enumerate(rows, 1)]
    member_N = np.array([self._member(*row) for row in enumerate(rows, 1)], int)
    if not encoded:
      return
    lengths = [len(row.inputs) for row in encoded]
    answers = [len(row.targets) for row in encoded]
    most = max(answers) if targets else made.config.max_length
    made.tuned_model.check_context(inputs=max(lengths), targets=most)
    for part in pipeline.eval_batches(
      encoded,
      batch_size=made.layout.fit(
        min(made.config.eval.batch_size, len(encoded))
      ),
      buckets=batch.choose_buckets(lengths, max_length=max(lengths)),
    ):
      member_B = member_N[part['index']]  # of a filler row the last one's
      part['front'] = np.asarray([*self.lengths, 0], np.int32)[member_B]
      if self.mixed:
        part['member'] = np.maximum(member_B, 0).astype(np.int32)
      yield part

  def _member(self, number: int, row: Row) -> int:
    """The number of a row's prompt, -1 for none."""
    if 'prompt' not in row:
      if not self.mixed:
        return 0
      raise UserError(
        f"row {number}: no field 'prompt', which must name one of the "
        f'{len(self.names)} prompts {_some(self.names)}'
      )
    name = row['prompt']
    if name in ('', None):
      if self.names and not set(self.tuned) <= {'prompt'}:
        raise UserError(
          f'row {number}: asks for the model alone, but {self.names[0]} is of '
          f'{self.parts.config.method.name}, which changes the model for all '
          'rows; give such rows to a call without --prompt'
        )
      return -1
    if name not in self.names:
      raise UserError(
        f'row {number}: there is no prompt {name!r}'
        f'{nearest(name, self.names)}; --prompt names '
        f'{_some(self.names) or "none"}'
      )
    return self.names.index(name)


def _worded(words: str, number: int, row: Row) -> Row:
  """A row with the words in front, unless it is for the model alone."""
  if not words or row.get('prompt', words) in ('', None):
    return row
  if 'input_ids' in row:
    raise UserError(
      f"row {number}: 'input_ids' are taken as they are, so "
      "method.instruction cannot stand in front of them; give 'inputs'"
    )
  inputs = _text(row['inputs'], f"row {number}: 'inputs'")
  return {**row, 'inputs': words + inputs}


def _filled(found: Prompt, length: int) -> Prompt:
  rows = found.rows
  filled = np.pad(rows, [(length - len(rows), 0), (0, 0)])
  return dataclasses.replace(found, own={'prompt': {'encoder': filled}})


def _some(names: Sequence[str], most: int = 10) -> str:
  return ', '.join(names[:most]) + (', …' if len(names) > most else '')


def _encode(
  made: Parts, number: int, row: Row, *, targets: bool
) -> batch.Encoded:
  """A row's ids: text as `batch.encode` writes it, ids as they are."""
  pieces = made.tokenizer

  def ids(key: str, of_text: Callable[[str], list[int]]) -> np.ndarray:
    ids_key = f'{key[:-1]}_ids'
    if ids_key in row:
      found = _checked(row[ids_key], made, f'row {number}: {ids_key!r}')
    else:
      found = of_text(_text(row[key], f'row {number}: {key!r}'))
    return np.asarray(found, np.int32)

  def read(text: str) -> list[int]:
    return batch.input_ids([text], pieces, causal=made.causal)[0]

  def said(text: str) -> list[int]:
    # Behind ids nobody knows what stands at their end.
    before = row.get('inputs') if isinstance(row.get('inputs'), str) else '.'
    return batch.answer_ids(text, pieces, behind=before, causal=made.causal)

  inputs = ids('inputs', read)
  if not len(inputs):
    raise UserError(f"row {number}: 'input_ids' is empty; name one or more")
  return batch.Encoded(inputs, ids('targets', said) if targets else inputs[:0])


def _text(value: Any, where: str) -> str:
  if not isinstance(value, str):
    raise UserError(f'{where} is {json.dumps(value)[:40]}, not text')
  check_text([value], f'{where} ')
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
