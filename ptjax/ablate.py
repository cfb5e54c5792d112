"""One setting at several values: a run each, one table and one picture.

Owns the order of the runs and what is told of them together (Lester et al.
2021, Figure 3). Each value's run is an ordinary one in a folder of its own, so
it is resumed, evaluated and looked at like any other.
"""

import pathlib
import re
from typing import Any

from ptjax import config as config_lib
from ptjax import files, progress, report, train, workdir, writer
from ptjax.config import UserError


def run(config: Any, folder: pathlib.Path) -> dict[str, Any]:
  """Runs `config.ablation.key` at each of its values.

  Writes ablation.json, ablation.txt and, with matplotlib, ablation.png.

  Raises:
    UserError: what a run with one of the values would be refused for, before
      the first begins.
  """
  key, runs = config.ablation.key, settings(config)
  for changed in runs.values():
    train.check(changed)
  found = {}
  for value, changed in runs.items():
    progress.say(f'{key}={value}')
    found[value] = train.run(changed, folder / _plain(value))
  rows = table(key, found)
  text = writer.table(rows)
  progress.say(text)
  (folder / 'ablation.txt').write_text(text + '\n', encoding='utf-8')
  scores = {
    value: {'score': out['score'], 'tasks': _scores(out)}
    for value, out in found.items()
  }
  left = {'key': key, 'values': scores}
  workdir.write_json(folder / 'ablation.json', left)
  said = draw(left, folder / 'ablation.png')
  progress.say(f'{folder}: ablation.json, ablation.txt, {said}')
  return left


def settings(config: Any) -> dict[str, Any]:
  """{value: the configuration of its run}."""
  key, values = config.ablation.key, config.ablation.over
  if not values:
    raise UserError('ablation.over is empty; name the values of the setting')
  out = {}
  for value in values:
    changed = config.copy_and_resolve_references()
    changed.ablation.key, changed.ablation.over = '', ()
    config_lib.assign(changed, key, str(value))
    out[str(value)] = changed
  if len({_plain(value) for value in out}) < len(values):
    raise UserError(
      f'ablation.over={tuple(values)} would share a folder; name each once'
    )
  return out


def _plain(value: str) -> str:
  """A value as a folder's name: of a path, its last two parts."""
  return re.sub(r'[^\w.-]+', '-', '-'.join(pathlib.PurePath(value).parts[-2:]))


def _scores(found: dict[str, Any]) -> dict[str, Any]:
  return {name: task['score'] for name, task in found['tasks'].items()}


def table(key: str, found: dict[str, dict[str, Any]]) -> list[list[str]]:
  """A row a value: each task's average ± standard deviation, and the mean."""
  names = list(next(iter(found.values()))['tasks'])
  rows = [[key, *names, 'score']]
  for value, out in found.items():
    each = [*_scores(out).values(), out['score']]
    rows.append([value, *(report.average(score) for score in each)])
  return rows


def draw(found: dict[str, Any], path: pathlib.Path) -> str:
  """Draws the scores over the values; returns the file's name, or why not."""
  try:
    from matplotlib.figure import Figure
  except ImportError:
    return f'no {path.name}, which needs matplotlib: pip install matplotlib'
  values = list(found['values'])
  figure = Figure(figsize=(5, 3.5), dpi=150)
  axes = figure.subplots()
  names = list(next(iter(found['values'].values()))['tasks'])
  for name in names if len(names) > 1 else ():
    each = [found['values'][v]['tasks'][name]['average'] for v in values]
    axes.plot(values, each, color='0.7', linewidth=1)
    axes.annotate(name, (len(values) - 1, each[-1]), fontsize=6, color='0.4')
  mean = [found['values'][v]['score'] for v in values]
  axes.errorbar(
    values,
    [score['average'] for score in mean],
    yerr=[score.get('std') or 0.0 for score in mean],
    marker='o',
    capsize=3,
  )
  axes.set(xlabel=found['key'], ylabel='score')
  axes.tick_params(labelsize=7)
  with files.replaced(path) as aside:
    figure.savefig(aside, format='png', bbox_inches='tight')
  return path.name
