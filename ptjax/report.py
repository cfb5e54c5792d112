"""What a person reads: the health of a run, its table; and results.json.

Owns words and layout. Computes no score but the mean over tasks.
"""

import math
from collections.abc import Sequence
from typing import Any

from ptjax.data.split import Split
from ptjax.tasks.base import Task


def health(
  name: str, found: dict[str, float], *, train: Split, dev: Split
) -> str:
  """The lines before step 1."""
  tuned, frozen = found['tuned'], found['frozen']
  share = 100 * tuned / max(tuned + frozen, 1)
  untuned = [
    f'{kind} {found[key]:.1f}'
    for kind, key in (
      ('exact match', 'untuned_generate'),
      ('rank', 'untuned_rank'),
    )
    if key in found
  ]
  lines = [
    f'{name}: {len(train)} training and {len(dev)} dev examples; '
    f'inputs of {", ".join(map(str, train.buckets))} pieces',
    f'  tuned {tuned:,} and frozen {frozen:,} parameters ({share:.3g} %)',
    f'  majority class {found["majority"]:.1f}'
    + (f'; untuned model: {", ".join(untuned)}' if untuned else ''),
    f'  loss {found["loss"]:.3f}, gradient norm {found["grad_norm"]:.3g}',
  ]
  cut = train.cut + dev.cut
  if cut:
    lines.append(f'  {cut} inputs were longer than input_length and were cut')
  return '\n'.join(lines)


def entry(
  task: Task,
  found: dict[str, dict[str, Any]],
  *,
  by: str,
  split: Split,
  step: int | None,
) -> dict[str, Any]:
  """A task's part of results.json.

  Args:
    found: {'generate': scores, 'rank': scores}, see `evaluate.scores`.
    by: which of them is the task's score, the one that chose the prompt.
    step: of the prompt; None if that is not known.
  """
  main = found[by]
  out = {
    'metrics': {k: members([v]) for k, v in main['metrics'].items()},
    'score': members([main['score']]),
    'by': by,
    'invalid': round(main['invalid'], 4),
    'examples': task.counted(split.examples),
    'cut': split.cut,
    'steps': [] if step is None else [step],
    'split': split.name,
    'selected_on': 'dev',
  }
  for kind, other in found.items():
    if kind != by:
      out[kind] = {k: members([v]) for k, v in other['metrics'].items()}
  return out


def members(values: Sequence[float]) -> dict[str, Any]:
  """A metric of several prompts, in the form of results.json.

  With one prompt its average, best and ensemble are the same number.
  """
  values = [round(float(v), 4) if math.isfinite(v) else None for v in values]
  (only,) = values
  return {'average': only, 'best': only, 'ensemble': only, 'members': values}


def results(
  tasks: dict[str, Any], *, model: dict[str, Any], method: dict[str, Any]
) -> dict[str, Any]:
  """All of results.json; the score is the mean over tasks, each the mean of
  its metrics (SuperGLUE's own rule)."""
  scores = [t['score'] for t in tasks.values()]
  kinds = ('average', 'best', 'ensemble')
  mean = {kind: _mean([s[kind] for s in scores]) for kind in kinds}
  return {
    'tasks': tasks,
    'score': mean,
    'model': model,
    'method': method,
    'seconds': round(sum(t.get('seconds', 0.0) for t in tasks.values()), 1),
  }


def _mean(values: Sequence[float | None]) -> float | None:
  """None, JSON's word for what is not finite, if any of them is."""
  if None in values:
    return None
  return round(sum(values) / len(values), 4)


def rows(found: dict[str, Any]) -> list[list[str]]:
  """results.json -> the table: task, metrics, steps, seconds."""
  out = [['task', 'metrics', 'otherwise', 'invalid %', 'examples', 'step', 's']]
  for name, task in found['tasks'].items():
    other = next((task[k] for k in ('rank', 'generate') if k in task), {})
    out.append(
      [
        name,
        f'{_metrics(task["metrics"])} ({task["split"]})',
        _metrics(other, names=False),
        f'{task["invalid"]:.1f}',
        str(task['examples']),
        ' '.join(map(str, task['steps'])),
        f'{task.get("seconds", 0):.0f}',
      ]
    )
  if len(found['tasks']) > 1:
    average = f'score {_number(found["score"]["average"])}'
    out.append(['all', average, '', '', '', '', f'{found["seconds"]:.0f}'])
  return out


def _metrics(metrics: dict[str, Any], *, names: bool = True) -> str:
  return ', '.join(
    f'{name if names else ""} {_number(value["average"])}'.strip()
    for name, value in metrics.items()
  )


def _number(value: float | None) -> str:
  return '–' if value is None else f'{value:.1f}'
