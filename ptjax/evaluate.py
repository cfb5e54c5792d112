"""One task, one state -> answers, scores and a predictions file.

Where arrays become text again and meet a task (`serve` does it for bare rows).
Knows no model and no method.
"""

import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from ptjax import report
from ptjax.config import UserError
from ptjax.data.split import Split, short
from ptjax.parts import Parts
from ptjax.predict import rank
from ptjax.tasks.base import Task


def answer(
  parts: Parts,
  tuned: Any,
  frozen: Any,
  split: Split,
  *,
  by: str,
  prompted: bool = True,
) -> list[str]:
  """The model's answer to every example, in order.

  Args:
    prompted: False leaves the prompt out.
    by: 'generate', greedy text as it comes; or 'rank', the most likely of the
      example's choices (log-probability with EOS; per piece if
      `eval.normalise`).
  """
  config = parts.config
  out = [''] * len(split)
  batches = split.eval_batches(
    batch_size=config.eval.batch_size, with_choices=by == 'rank'
  )
  for batch in batches:
    batch['prompted'] = np.full(len(batch['index']), prompted)
    if by == 'rank':
      sums, lengths = parts.choices(tuned, frozen, batch)
      chosen = np.asarray(
        rank.choose(
          sums,
          lengths,
          choice_mask_BxC=batch['choice_mask'],
          normalise=config.eval.normalise,
        )
      )
    else:
      chosen = np.asarray(
        parts.greedy(tuned, frozen, batch, None, max_length=split.target_length)
      )
    for index, found in zip(batch['index'], chosen):
      if index < 0:
        continue
      if by == 'rank':
        out[index] = split.examples[index].choices[int(found)]
      else:
        out[index] = parts.tokenizer.decode(found)
  return out


def scores(task: Task, answers: Sequence[str], split: Split) -> dict[str, Any]:
  """{'metrics': {name: ×100}, 'score': their mean, 'invalid': % no label}."""
  metrics = task.metrics(answers, split.examples)
  return {
    'metrics': metrics,
    'score': task.score(metrics),
    'invalid': task.invalid(answers, split.examples),
  }


def check(config: Any, task: Task, split: Split) -> None:
  """Refuses, before anything is trained, what could not be scored.

  Raises:
    UserError: the split has no labels, or no choices to rank.
  """
  if not task.labelled(split.examples):
    raise UserError(
      f'eval.split={split.name}: the {split.name} examples of {task.name} have '
      'no labels; use eval.split=dev, and eval.submission=True for the files '
      'of the leaderboard'
    )
  if config.eval.by == 'rank' and not rankable(split):
    raise UserError(
      f'eval.by=rank: {task.name} has no choices to rank; use eval.by=generate'
    )


def rankable(split: Split) -> bool:
  """Whether every example has choices to rank."""
  return all(example.choices for example in split.examples)


def write_predictions(
  path: pathlib.Path, split: Split, answers: dict[str, Sequence[str]]
) -> None:
  """One JSON line an example: input, target, and each kind of answer."""
  path.parent.mkdir(parents=True, exist_ok=True)
  aside = path.with_name(f'.{path.name}.part')
  lines = [
    {
      'idx': example.meta.get('idx', i),
      'inputs': example.inputs,
      'target': example.targets,
      **{kind: texts[i] for kind, texts in answers.items()},
    }
    for i, example in enumerate(split.examples)
  ]
  # Half of a surrogate pair is written as JSON's escape of it.
  with open(aside, 'w', encoding='utf-8', errors='backslashreplace') as file:
    for line in lines:
      file.write(json.dumps(line, ensure_ascii=False) + '\n')
  os.replace(aside, path)


def final(
  parts: Parts,
  task: Task,
  tuned: Any,
  frozen: Any,
  split: Split,
  *,
  folder: pathlib.Path,
  step: int | None,
) -> dict[str, Any]:
  """A task's entry of results.json; writes its predictions under `folder`.

  Args:
    step: of the update that `tuned` is from; None if that is not known.
  """
  config, name = parts.config, short(task)
  kinds = [config.eval.by]
  if config.eval.rank and rankable(split):
    kinds += [by for by in ('generate', 'rank') if by not in kinds]
  answers = {by: answer(parts, tuned, frozen, split, by=by) for by in kinds}
  path = folder / 'predictions' / f'{name}-{split.name}.jsonl'
  write_predictions(path, split, answers)
  return report.entry(
    task,
    {by: scores(task, texts, split) for by, texts in answers.items()},
    by=config.eval.by,
    split=split,
    step=step,
  )
