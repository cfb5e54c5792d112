"""Answers to test splits, as the leaderboards of SuperGLUE and RAFT take them.

Owns the names and forms of their files. An answer that is no label cannot be
submitted: the task's first label stands for it, and is counted.
"""

import csv
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from ptjax import files
from ptjax.config import UserError
from ptjax.tasks.base import Example, Task

FILES = {
  'boolq': 'BoolQ',
  'cb': 'CB',
  'copa': 'COPA',
  'multirc': 'MultiRC',
  'record': 'ReCoRD',
  'rte': 'RTE',
  'wic': 'WiC',
  'wsc': 'WSC',
  'axb': 'AX-b',
  'axg': 'AX-g',
}


RAFT = ('twitter_complaints',)


def check(task: Task) -> str:
  """The task's short name, if a leaderboard has it."""
  family, _, name = task.name.partition('/')
  if name not in {'superglue': FILES, 'raft': RAFT}.get(family, ()):
    raise UserError(
      f"{task.name} is no task of SuperGLUE's leaderboard or RAFT's; they have "
      f'{", ".join((*FILES, *RAFT))}'
    )
  return name


def write(
  folder: pathlib.Path,
  task: Task,
  predictions: Sequence[str],
  *,
  examples: Sequence[Example],
) -> tuple[pathlib.Path, int]:
  """Writes a task's file; returns its path and the answers replaced.

  Raises:
    UserError: the leaderboard has no such task.
  """
  name = check(task)
  if len(predictions) != len(examples):
    raise ValueError(
      f'{len(predictions)} predictions for {len(examples)} examples'
    )
  if name in RAFT:
    return _raft(folder / name, task, predictions, examples)
  lines, replaced = _lines(name, task, predictions, examples)
  path = folder / f'{FILES[name]}.jsonl'
  with files.replaced(path) as aside:
    text = ''.join(json.dumps(x, ensure_ascii=False) + '\n' for x in lines)
    aside.write_text(text, encoding='utf-8')
  return path, replaced


def _raft(
  folder: pathlib.Path,
  task: Task,
  predictions: Sequence[str],
  examples: Sequence[Example],
) -> tuple[pathlib.Path, int]:
  """A table of ID and label word, in a folder called as the task is."""
  found = [task.index(p) for p in predictions]
  path = folder / 'predictions.csv'
  with files.replaced(path) as aside:
    with open(aside, 'w', encoding='utf-8', newline='') as file:
      table = csv.writer(file, lineterminator='\n')
      table.writerow(['ID', 'Label'])
      for example, index in zip(examples, found):
        table.writerow([example.meta['idx'], task.labels[max(index, 0)]])
  return path, sum(index < 0 for index in found)


def _lines(
  name: str,
  task: Task,
  predictions: Sequence[str],
  examples: Sequence[Example],
) -> tuple[list[dict[str, Any]], int]:
  if name == 'record':
    return list(_record(predictions, examples)), 0
  if name == 'wsc':
    found = task.answers(predictions, examples)
  else:
    found = [task.index(p) for p in predictions]
  replaced = sum(index < 0 for index in found)
  found = [max(index, 0) for index in found]
  if name == 'multirc':
    return list(_multirc(found, examples)), replaced
  lines = [
    {'idx': _idx(e), 'label': _label(name, task, index)}
    for e, index in zip(examples, found)
  ]
  return lines, replaced


def _label(name: str, task: Task, index: int) -> str | int:
  if name == 'copa':
    return index
  if name == 'wsc':
    return ('False', 'True')[index]
  word = task.labels[index]
  return word.lower() if name in ('boolq', 'wic') else word


def _idx(example: Example) -> int:
  # AX-b's file has its numbers in quotes.
  return int(example.meta['idx'])


def _multirc(
  found: Sequence[int], examples: Sequence[Example]
) -> Iterator[dict[str, Any]]:
  """One line a paragraph, with its questions and their answers inside."""
  paragraphs: dict[Any, dict[Any, list]] = {}
  for example, label in zip(examples, found):
    idx = example.meta['idx']
    questions = paragraphs.setdefault(idx['paragraph'], {})
    questions.setdefault(idx['question'], []).append(
      {'idx': idx['answer'], 'label': label}
    )
  for paragraph, questions in paragraphs.items():
    inside = [{'idx': q, 'answers': a} for q, a in questions.items()]
    yield {'idx': paragraph, 'passage': {'questions': inside}}


def _record(
  predictions: Sequence[str], examples: Sequence[Example]
) -> Iterator[dict[str, Any]]:
  seen = set()
  for prediction, example in zip(predictions, examples):
    if example.meta['group'] not in seen:
      seen.add(example.meta['group'])
      query = example.meta['idx']['query']
      yield {'idx': query, 'label': prediction.strip()}
