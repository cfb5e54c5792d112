"""One task, one state -> answers, scores and a predictions file.

The only place that sees arrays and text together on the way out. Knows no
model and no method.
"""

import json
import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from ptjax.data.split import Split
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
  rng = jax.random.key(config.seed)
  for count, batch in enumerate(batches):
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
        parts.generate(
          tuned,
          frozen,
          batch,
          jax.random.fold_in(rng, count),
          max_length=split.target_length,
        )
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


def rankable(split: Split) -> bool:
  """Whether every example has choices to rank."""
  return all(example.choices for example in split.examples)


def write_predictions(
  path: pathlib.Path, split: Split, answers: dict[str, Sequence[str]]
) -> None:
  """One JSON line an example: input, target, and each kind of answer."""
  path.parent.mkdir(parents=True, exist_ok=True)
  aside = path.with_name(f'.{path.name}.part')
  with open(aside, 'w', encoding='utf-8') as file:
    for i, example in enumerate(split.examples):
      line = {
        'idx': example.meta.get('idx', i),
        'inputs': example.inputs,
        'target': example.targets,
        **{kind: texts[i] for kind, texts in answers.items()},
      }
      file.write(json.dumps(line, ensure_ascii=False) + '\n')
  os.replace(aside, path)


def members(values: Sequence[float]) -> dict[str, Any]:
  """A metric of several prompts, in the form of results.json.

  With one prompt its average, best and ensemble are the same number.
  """
  values = [round(float(v), 4) if math.isfinite(v) else None for v in values]
  (only,) = values
  return {'average': only, 'best': only, 'ensemble': only, 'members': values}
