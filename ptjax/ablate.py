"""One setting at several values, or two: a run each, a table and a picture.

Owns the order of the runs and what is told of them together (Lester et al.
2021, Figure 3). Each run is an ordinary one in a folder of its own, so it is
resumed, evaluated and looked at like any other.
"""

import itertools
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from ptjax import config as config_lib
from ptjax import (
  costs,
  files,
  processes,
  progress,
  report,
  train,
  workdir,
  writer,
)
from ptjax.config import UserError

Values = tuple[str, ...]  # one of each key


def run(config: Any, folder: pathlib.Path) -> dict[str, Any]:
  """Runs `config.ablation.key` at each of its values.

  With `inner_key` at each of these all values of that one: FOLDER/VALUE/VALUE.
  Writes ablation.json, ablation.txt and, with matplotlib, ablation.png.

  Raises:
    UserError: what a run with one of the values would be refused for, before
      the first begins.
  """
  runs = settings(config)
  for changed in runs.values():
    train.check(changed)
  keys, found = _keys(config), {}
  for values, changed in runs.items():
    progress.say(', '.join(f'{k}={v}' for k, v in zip(keys, values)))
    place = folder.joinpath(*map(_plain, values))
    found[values] = train.run(changed, place)
  text = writer.table(table(keys, found))
  progress.say(text)
  left = _left(keys, found)
  if not processes.first():
    return left
  (folder / 'ablation.txt').write_text(text + '\n', encoding='utf-8')
  workdir.write_json(folder / 'ablation.json', left)
  said = draw(keys, found, folder / 'ablation.png')
  progress.say(f'{folder}: ablation.json, ablation.txt, {said}')
  return left


def settings(config: Any) -> dict[Values, Any]:
  """{a value of each key: the configuration of its run}."""
  c, keys = config.ablation, _keys(config)
  over = [tuple(c.over), *([tuple(c.inner_over)] if c.inner_key else [])]
  for name, values in zip(('over', 'inner_over'), over):
    if not values:
      raise UserError(
        f'ablation.{name} is empty; name the values of the setting'
      )
    if len({_plain(str(value)) for value in values}) < len(values):
      raise UserError(
        f'ablation.{name}={values} would share a folder; name each once'
      )
  if len(set(keys)) < len(keys):
    raise UserError(
      f'ablation.inner_key={c.inner_key} is the first key too; name another'
    )
  out = {}
  for values in itertools.product(*over):
    changed = config.copy_and_resolve_references()
    changed.ablation.key, changed.ablation.over = '', ()
    changed.ablation.inner_key, changed.ablation.inner_over = '', ()
    for key, value in zip(keys, values):
      config_lib.assign(changed, key, str(value))
    out[tuple(map(str, values))] = changed
  return out


def _keys(config: Any) -> tuple[str, ...]:
  c = config.ablation
  return (c.key, c.inner_key) if c.inner_key else (c.key,)


def _plain(value: str) -> str:
  """A value as a folder's name: of a path, its last two parts."""
  return re.sub(r'[^\w.-]+', '-', '-'.join(pathlib.PurePath(value).parts[-2:]))


def _left(
  keys: Sequence[str], found: dict[Values, dict[str, Any]]
) -> dict[str, Any]:
  """ablation.json: values[value], or values[value][inner value]."""
  values: dict[str, Any] = {}
  for (first, *inner), out in found.items():
    entry = {'score': out['score'], 'tasks': _scores(out)}
    spent = {n: t['costs'] for n, t in out['tasks'].items() if 'costs' in t}
    entry |= {'costs': spent} if spent else {}
    if inner:
      values.setdefault(first, {})[inner[0]] = entry
    else:
      values[first] = entry
  return dict(zip(('key', 'inner_key'), keys)) | {'values': values}


def _scores(found: dict[str, Any]) -> dict[str, Any]:
  return {name: task['score'] for name, task in found['tasks'].items()}


def table(
  keys: Sequence[str], found: dict[Values, dict[str, Any]]
) -> list[list[str]]:
  """A row a run: each task's average ± standard deviation, and the mean.

  What it cost stands behind them where all runs say so.
  """
  names = list(next(iter(found.values()))['tasks'])
  spent = [costs.row(out) for out in found.values()]
  head = costs.HEAD if all(spent) else []
  rows = [[*keys, *names, 'score', *head]]
  for (values, out), cost in zip(found.items(), spent):
    scores = [*_scores(out).values(), out['score']]
    each = [report.average(score) for score in scores]
    rows.append([*values, *each, *(cost if head else [])])
  return rows


def draw(
  keys: Sequence[str],
  found: dict[Values, dict[str, Any]],
  path: pathlib.Path,
) -> str:
  """Draws the scores over the last key's values, a line for each of the
  first's; returns the file's name, or why not."""
  try:
    from matplotlib.figure import Figure
  except ImportError:
    return f'no {path.name}, which needs matplotlib: pip install matplotlib'
  figure = Figure(figsize=(5, 3.5), dpi=150)
  axes = figure.subplots()
  lines: dict[Values, dict[str, Any]] = {}
  for values, out in found.items():
    lines.setdefault(values[:-1], {})[values[-1]] = out
  if len(keys) == 1:
    _draw_tasks(axes, lines[()])
  for first, line in lines.items():
    mean = [out['score'] for out in line.values()]
    axes.errorbar(
      [_plain(value) for value in line],
      [score['average'] for score in mean],
      yerr=[score.get('std') or 0.0 for score in mean],
      marker='o',
      capsize=3,
      label=' '.join(_plain(value) for value in first),
    )
  if len(keys) > 1:
    axes.legend(title=keys[0], fontsize=6, title_fontsize=6)
  axes.set(xlabel=keys[-1], ylabel='score')
  axes.tick_params(labelsize=7)
  with files.replaced(path) as aside:
    figure.savefig(aside, format='png', bbox_inches='tight')
  return path.name


def _draw_tasks(axes: Any, line: dict[str, Any]) -> None:
  """Each task's own line, thin; of one task it is the mean's."""
  outs, names = list(line.values()), list(next(iter(line.values()))['tasks'])
  if len(names) == 1:
    return
  ends = {}
  for name in names:
    each = [out['tasks'][name]['score']['average'] for out in outs]
    axes.plot([_plain(value) for value in line], each, color='0.7', linewidth=1)
    ends[name] = each[-1]
  for name, height in _apart(ends, share=0.04).items():
    axes.annotate(
      name,
      (len(outs) - 1, ends[name]),
      xytext=(1.02, height),
      textcoords=('axes fraction', 'data'),
      fontsize=6,
      color='0.4',
    )


def _apart(ends: dict[str, float], *, share: float) -> dict[str, float]:
  """Heights of labels near their lines' ends, none closer than a share of all.

  From the lowest upward, each at its end or just above the one before.
  """
  least = share * max(1e-6, max(ends.values()) - min(ends.values()))
  out: dict[str, float] = {}
  last = -float('inf')
  for name, end in sorted(ends.items(), key=lambda item: item[1]):
    out[name] = last = max(end, last + least)
  return out
