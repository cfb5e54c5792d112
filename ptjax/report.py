"""What a person reads: the health of a run, its table; and results.json.

Owns words and layout. Computes no score but the mean over tasks.
"""

import math
import statistics
from collections.abc import Sequence
from typing import Any

from ptjax.data.split import Split
from ptjax.tasks import paper
from ptjax.tasks.base import Task


def health(
  name: str, found: dict[str, Any], *, train: Split, dev: Split
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
  members = len(found['loss'])
  times = f'{members} members of ' if members > 1 else ''
  lines = [
    f'{name}: {len(train)} training and {len(dev)} dev examples; '
    f'inputs of {", ".join(map(str, train.buckets))} pieces',
    f'  tuned {times}{tuned:,} and frozen {frozen:,} parameters '
    f'({share:.3g} %)',
    f'  majority class {found["majority"]:.1f}'
    + (f'; untuned model: {", ".join(untuned)}' if untuned else ''),
    f'  loss {_each(found["loss"], ".3f")}, '
    f'gradient norm {_each(found["grad_norm"], ".3g")}',
  ]
  cut = train.cut + dev.cut
  if cut:
    lines.append(f'  {cut} inputs were longer than input_length and were cut')
  return '\n'.join(lines)


def compiled(name: str, steps: Sequence[int], late: Sequence[int]) -> str:
  """In front of which steps the training step was compiled for a new shape."""
  shapes = 'shape' if len(steps) == 1 else 'shapes'
  text = (
    f'{name}: the training step was compiled for {len(steps)} batch {shapes}'
  )
  if not late:
    return f'{text}, none after the first epoch'
  return f'{text}, after the first epoch at steps {", ".join(map(str, late))}'


def _each(values: Sequence[float], form: str) -> str:
  return ' '.join(format(value, form) for value in values)


def entry(
  task: Task,
  found: dict[str, dict[str, Any]],
  *,
  by: str,
  split: Split,
  members: Sequence[dict[str, Any]],
) -> dict[str, Any]:
  """A task's part of results.json.

  Args:
    found: {'generate': scores, 'rank': scores}, see `evaluate.all_scores`.
    by: which of them is the task's score, the one that chose the prompt.
    members: of each prompt its `step` and `dev_score`, where they are known;
      a score of None is that of a member which failed before it had any.
  """
  main, steps = found[by], [m['step'] for m in members if 'step' in m]
  # The best member is chosen on dev; where dev scores are not known, by what
  # is reported, which is said.
  known = bool(members) and all('dev_score' in m for m in members)
  own = [scores['score'] for scores in main['members']]
  best = _first_best([m['dev_score'] for m in members] if known else own)
  out = {
    'metrics': _metrics_of(main, best),
    'score': spread(own, best, main['ensemble']['score']),
    'by': by,
    'invalid': round(main['ensemble']['invalid'], 4),
    'examples': task.counted(split.examples),
    'cut': split.cut,
    'steps': steps,
    'split': split.name,
  }
  if known:
    out['selected_on'] = 'dev'
  if len(own) > 1:
    out['agreement'] = round(main['agreement'], 4)
    out['best_member'], out['best_by'] = best, 'dev' if known else split.name
    out['members'] = [
      {**member, 'score': _finite(score)} for member, score in zip(members, own)
    ]
  for kind, other in found.items():
    if kind != by:
      out[kind] = _metrics_of(other, best)
  return out


def _first_best(scores: Sequence[float | None]) -> int:
  """The first of the highest; what is not finite is the lowest."""
  finite = [-math.inf if s is None or s != s else s for s in scores]
  return finite.index(max(finite))


def _metrics_of(found: dict[str, Any], best: int) -> dict[str, Any]:
  return {
    name: spread([m['metrics'][name] for m in found['members']], best, value)
    for name, value in found['ensemble']['metrics'].items()
  }


def spread(
  members: Sequence[float], best: int, ensemble: float
) -> dict[str, Any]:
  """A metric of several prompts, in the form of results.json.

  With one prompt its average, best and ensemble are the same number; with
  several, `std` is the standard deviation of the sample.
  """
  values = [_finite(v) for v in members]
  whole = None not in values
  out = {
    'average': round(statistics.fmean(values), 4) if whole else None,
    'best': values[best],
    'ensemble': _finite(ensemble),
    'members': values,
  }
  if len(values) > 1:
    out['std'] = round(statistics.stdev(values), 4) if whole else None
  return out


def _finite(value: float) -> float | None:
  """None is JSON's word for what is not finite."""
  return round(float(value), 4) if math.isfinite(value) else None


def results(
  tasks: dict[str, Any], *, model: dict[str, Any], method: dict[str, Any]
) -> dict[str, Any]:
  """All of results.json; the score is the mean over tasks, each the mean of
  its metrics (SuperGLUE's own rule)."""
  scores = [t['score'] for t in tasks.values()]
  kinds = ('average', 'best', 'ensemble')
  mean = {kind: _mean([s[kind] for s in scores]) for kind in kinds}
  sizes = {len(s['members']) for s in scores}
  if len(sizes) == 1 and sizes != {1}:
    # Member i of every task is one run of the suite, as in the paper's table.
    mean['members'] = [_mean(v) for v in zip(*(s['members'] for s in scores))]
    if None not in mean['members']:
      mean['std'] = round(statistics.stdev(mean['members']), 4)
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
  """results.json -> its table; the paper's numbers beside a run of its own."""
  several = any(len(t['score']['members']) > 1 for t in found['tasks'].values())
  out = _rows_of_members(found) if several else _rows(found)
  beside = _paper(found, several)
  if any(beside):
    out[0].append('paper: average, best, ensemble' if several else 'paper')
    for row, text in zip(out[1:], beside):
      row.append(text)
  return out


def _paper(found: dict[str, Any], several: bool) -> list[str]:
  """For each row of the table what the paper has there; '' for nothing."""
  size = found['model']['parameters']
  tasks = [(n, list(t['metrics'])) for n, t in found['tasks'].items()]
  if len(tasks) == len(paper.TABLE_3) - 1:
    tasks.append(('all', ['score']))
  elif len(tasks) > 1:
    tasks.append(('', ['']))  # the score of some tasks is not the paper's
  said = [
    [paper.table_3(name, metric, parameters=size) for metric in metrics]
    for name, metrics in tasks
  ]
  if several:
    each = [three for task in said for three in task]
    return [', '.join(map(str, three)) if three else '' for three in each]
  return [', '.join(str(three[0]) for three in task if three) for task in said]


def _rows(found: dict[str, Any]) -> list[list[str]]:
  """One prompt a task: metrics, steps, seconds."""
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
    score = f'score {_number(found["score"]["average"])}'
    out.append(['all', score, '', '', '', '', f'{found["seconds"]:.0f}'])
  return out


def _rows_of_members(found: dict[str, Any]) -> list[list[str]]:
  """Several prompts a task, as in Table 3 of the paper."""
  out = [
    ['task', 'metric', 'average', 'best', 'ensemble', 'agreement', 'rank', 's']
  ]
  for name, task in found['tasks'].items():
    for i, (metric, value) in enumerate(task['metrics'].items()):
      other = next((task[k] for k in ('rank', 'generate') if k in task), {})
      ends = ['', '', '']
      if not i:
        ends = [f'{task["agreement"]:.1f}' if 'agreement' in task else '']
        ends += ['', f'{task.get("seconds", 0):.0f}']
      if metric in other:
        ends[1] = _number(other[metric]['ensemble'])
      out.append(
        [
          '' if i else name,
          f'{metric} ({task["split"]})',
          *_three(value),
          *ends,
        ]
      )
  if len(found['tasks']) > 1:
    three = _three(found['score'])
    out.append(['all', 'score', *three, '', '', f'{found["seconds"]:.0f}'])
  return out


def _three(value: dict[str, Any]) -> list[str]:
  return [average(value), _number(value['best']), _number(value['ensemble'])]


def average(value: dict[str, Any]) -> str:
  """'97.1 ± 0.3' of a score of several members; of one, the number."""
  said = _number(value['average'])
  if value.get('std') is not None:
    said += f' ± {_number(value["std"])}'
  return said


def member_rows(
  members: Sequence[dict[str, Any]], varying: Sequence[str]
) -> list[list[str]]:
  """A sweep: its members by their score on dev, the best first."""
  order = sorted(
    range(len(members)),
    key=lambda i: (-_low(members[i]['dev_score']), i),
  )
  head = ['member', *varying, 'dev', 'reported', 'step', '']
  return [head] + [
    [
      str(i),
      *(str(members[i][name]) for name in varying),
      _number(members[i]['dev_score']),
      _number(members[i].get('score')),
      str(members[i]['step']),
      members[i].get('failed', ''),
    ]
    for i in order
  ]


def _low(value: float | None) -> float:
  return -math.inf if value is None else value


def _metrics(metrics: dict[str, Any], *, names: bool = True) -> str:
  return ', '.join(
    f'{name if names else ""} {_number(value["average"])}'.strip()
    for name, value in metrics.items()
  )


def _number(value: float | None) -> str:
  return '–' if value is None else f'{value:.1f}'
