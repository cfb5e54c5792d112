"""A population as a search: its members by dev score, and the best one's run.

Owns the table of a sweep and the configuration file that it leaves. Knows how
no member was trained.
"""

import pathlib
import pprint
from collections.abc import Iterator
from typing import Any

from ptjax import config as config_lib
from ptjax import population, report, writer

_FILE = '''"""The member of a sweep that was best on dev ({score}): {what}.

  python -m ptjax.main --config={path}
"""

from ptjax import config as config_lib

VALUES = {values}


def get_config(arg: str | None = None):
  """That member alone."""
  c = config_lib.update(config_lib.default(), VALUES)
  return config_lib.apply_words(c, arg)
'''


def tell(
  config: Any, results: dict[str, Any], folder: pathlib.Path
) -> Iterator[str]:
  """Sentences and tables on a run whose members differ in more than seed.

  Writes FOLDER/best/TASK.py, a configuration of the best member alone.
  """
  members = population.members(config)
  varying = population.varying(members)
  if not set(varying) - {'seed'}:
    return
  for name, task in results['tasks'].items():
    yield f'{name}: members by their score on dev'
    yield writer.table(report.member_rows(task['members'], varying))
    best = task['best_member']
    path = folder / 'best' / f'{name}.py'
    _write(path, config, members[best], name=name, task=task)
    yield f'{path}: the configuration of member {best} alone'


def _write(
  path: pathlib.Path,
  config: Any,
  member: population.Member,
  *,
  name: str,
  task: dict[str, Any],
) -> None:
  values = config_lib.flatten(config)
  default = config_lib.flatten(config_lib.default())
  values |= {
    'seed': member.seed,
    'optimizer.lr': member.lr,
    'method.init': member.init,
  }
  if config.task != 'custom':
    values['task'] = name
  for key in ('seeds', 'lr', 'init'):
    values[f'population.{key}'] = default[f'population.{key}']
  changed = {k: v for k, v in values.items() if v != default.get(k)}
  path.parent.mkdir(parents=True, exist_ok=True)
  what = f'seed {member.seed}, lr {member.lr}, init {member.init}'
  path.write_text(
    _FILE.format(
      score=task['members'][task['best_member']]['dev_score'],
      what=what,
      path=path,
      values=pprint.pformat(changed, sort_dicts=False),
    )
  )
