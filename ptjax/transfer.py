"""From which prompt another task's training starts (SPoT, Vu et al. 2022).

Owns what `method.init=file` means: the one prompt of `method.file` or, with
`method.like`, the one of several that is most like a prompt of the new task,
trained on it for a while. How alike two are is `interpret.alike`'s.
"""

import functools
from typing import Any

import numpy as np

from ptjax import progress
from ptjax.config import UserError
from ptjax.export import bank, names
from ptjax.interpret import alike


def rows(method: Any) -> np.ndarray:
  """The virtual tokens [P, D] that a prompt starts from.

  Args:
    method: `config.method`.

  Raises:
    UserError: a file that is not there, or prompts of different models.
  """
  if not method.like:
    return names.rows(method.file)
  target, sources = names.one(method.like), names.find(method.file)
  bank.same_model([target, *sources])
  others = {
    p.path: p.rows for p in sources if not np.array_equal(p.rows, target.rows)
  }
  if not others:
    raise UserError(
      f'method.file={method.file} holds no prompt but that of '
      f'method.like={method.like}; name those of other tasks'
    )
  best = alike.ranked(target.rows, others)[0]
  _tell(best['prompt'], best['of_pairs'], len(others))
  return others[best['prompt']]


@functools.cache  # a population begins many times
def _tell(name: str, value: float, count: int) -> None:
  progress.say(
    f'method.init=file: of {count} prompts {name} is most like that of '
    f'method.like (cosine over all pairs of tokens {value:.3f}); it is the '
    'start'
  )
