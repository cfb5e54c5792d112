"""The best prompt of each member so far: what is known of it, and its file.

Owns the record that a prompt carries. How a prompt lies in a file is said in
`export.prompt`, and which step's is the best in `step`.
"""

import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np

from ptjax import population, processes, step, tree
from ptjax.export import prompt
from ptjax.parts import Parts
from ptjax.tasks.base import Task, short
from ptjax.tasks.mixture import Mixture


def members(
  parts: Parts, state: step.TrainState, failed: dict[int, str]
) -> list[dict[str, Any]]:
  """What is known of each member: what it is, its best step and score.

  Args:
    failed: why a member goes no further, by its number.
  """
  out = []
  scores = np.asarray(state.best_score)
  steps = np.asarray(state.best_step)
  for i, member in enumerate(parts.members):
    score = float(scores[i])
    out.append(
      {
        **dataclasses.asdict(member),
        'step': int(steps[i]),
        'dev_score': score if np.isfinite(score) else None,
        **({'failed': failed[i]} if i in failed else {}),
      }
    )
  return out


def described(parts: Parts, i: int) -> str:
  """A member by that in which it differs from the others."""
  member = dataclasses.asdict(parts.members[i])
  names = population.varying(parts.members) or ('seed',)
  return ', '.join(f'{name} {member[name]}' for name in names)


def write(
  parts: Parts,
  task: Task,
  state: step.TrainState,
  *,
  frozen: Any,
  known: list[dict[str, Any]],
  folder: pathlib.Path,
  at: int | None = None,
) -> None:
  """A file of each member in the folder; several are in one of the task's name.

  Args:
    known: of each member, see `members`.
    at: leaves out those whose best is of another step.
  """
  loaded, name = parts.loaded, short(task)
  # The method's own parameters belong to it even where `tune` froze them.
  own = {k: v for k, v in frozen.items() if k != 'model'}
  best, method = jax.device_get(state.best), parts.tuned_model.method
  if not processes.first():
    return
  for i, record in enumerate(known):
    if at not in (None, record['step']):
      continue
    several = len(known) > 1
    file = f'{name}/{i}.safetensors' if several else f'{name}.safetensors'
    prompt.write(
      folder / file,
      method.kept(tree.join(tree.at(best, i), own)),
      {
        'model': {'name': loaded.name, 'fingerprint': loaded.fingerprint},
        'method': parts.config.method.to_dict() | {'init': record['init']},
        'task': task.name,
        **_parts(task),
        'labels': list(task.init_words),
        **record,
      },
    )


def _parts(task: Task) -> dict[str, Any]:
  """Of a mixture the names of its tasks, in their order."""
  if not isinstance(task, Mixture):
    return {}
  return {'tasks': [part.name for part in task.parts]}
