"""The prompts of many tasks in one file: a shared one, and a factor each.

Owns how such a file is read, as one soft prompt a task by the task's name; and
what PEFT's adapter of that kind holds. Its folder is `export.peft`'s.

  prompt_embeddings [P, D]
  prefix_task_cols  [M, P, R], prefix_task_rows [M, R, D]
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ptjax import tree
from ptjax.config import UserError
from ptjax.export.prompt import Prompt
from ptjax.weights import table

METHOD, KIND = 'multitask_prompt', 'MULTITASK_PROMPT_TUNING'
OWN = 'multitask'
_WHOLE = 'whole'  # where a task's prompt stands together with the others'
# Ours -> PEFT's.
TENSORS = {
  'prompt': 'prompt_embeddings',
  'cols': 'prefix_task_cols',
  'rows': 'prefix_task_rows',
}


def each(found: Prompt) -> list[Prompt]:
  """A soft prompt for each task of a file that holds several; else itself.

  Raises:
    UserError: its arrays do not belong together.
  """
  if OWN not in found.own:
    return [found]
  held = _checked(found)
  product_MxPxD = held['cols'].astype(np.float32) @ held['rows']
  prompts_MxPxD = held['prompt'] * product_MxPxD
  method = found.record.get('method', {}) | {'name': 'soft_prompt'}
  tasks = found.record.get('tasks') or [
    str(i) for i in range(len(held['cols']))
  ]
  if len(tasks) != len(prompts_MxPxD):
    raise UserError(
      f'{found.path} holds {len(prompts_MxPxD)} prompts, but says that its '
      f'tasks are {", ".join(tasks)}'
    )
  return [
    Prompt(
      task.rpartition('/')[-1],
      {'prompt': {'encoder': rows_PxD}},
      found.record | {'method': method, 'task': task, _WHOLE: found.path},
      f'{found.path} ({task})',
    )
    for task, rows_PxD in zip(tasks, prompts_MxPxD)
  ]


def whole(prompts: Sequence[Prompt]) -> str:
  """The file or folder whose prompts these are, all of them; '' if several."""
  places = {found.record.get(_WHOLE, '') for found in prompts}
  place = places.pop() if len(places) == 1 else ''
  tasks = prompts[0].record.get('tasks') if place else None
  return place if not tasks or len(tasks) == len(prompts) else ''


def adapter(found: Prompt) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  """(tensors, settings of its kind) of an adapter, of a file's arrays."""
  held = _checked(found)
  (length, width), (tasks, _, ranks) = held['prompt'].shape, held['cols'].shape
  tensors = {
    name: np.ascontiguousarray(held[own], np.float32)
    for own, name in TENSORS.items()
  }
  return tensors, {
    'num_ranks': ranks,
    'num_tasks': tasks,
    'num_virtual_tokens': length,
    'peft_type': KIND,
    'prompt_tuning_init': 'RANDOM',
    'token_dim': width,
  }


def _checked(found: Prompt) -> dict[str, np.ndarray]:
  held = tree.flatten(found.own[OWN])
  shapes = {name: np.shape(array) for name, array in held.items()}
  fits = set(shapes) == set(TENSORS) and [len(shapes[n]) for n in TENSORS] == [
    *(2, 3, 3)
  ]
  if fits:
    (length, width), (tasks, _, ranks) = shapes['prompt'], shapes['cols']
    fits = shapes['cols'] == (tasks, length, ranks)
    fits &= shapes['rows'] == (tasks, ranks, width)
  if not fits:
    raise UserError(
      f'{found.path}: {shapes} are not a shared prompt [P, D] and '
      "its tasks' cols [M, P, R] and rows [M, R, D]"
    )
  return held


def read(source: table.Source, *, folder: str) -> dict[str, Any]:
  """What is tuned, of PEFT's tensors; float32."""
  missing = set(TENSORS.values()) ^ set(source.shapes)
  if missing:
    raise UserError(
      f'{folder}: {KIND} has the tensors {", ".join(TENSORS.values())}, and '
      f'this file differs in {", ".join(sorted(missing))}'
    )
  return {
    OWN: {
      own: np.asarray(source.read(name, 0, source.shapes[name][0]), np.float32)
      for own, name in TENSORS.items()
    }
  }
