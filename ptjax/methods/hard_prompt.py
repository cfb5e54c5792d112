"""Hard prompt: words in front of the input, and nothing that trains.

The network's side of the baseline (Brown et al. 2020, §2): the model as it is.
The words are text, and put in front where text is: `data/hard_prompt.py`.
"""

import dataclasses
from typing import Any

import jax

from ptjax.config import UserError, check_text
from ptjax.methods import base


@dataclasses.dataclass(frozen=True)
class Method(base.Method):
  """An instruction, `demonstrations` solved examples, and what is between."""

  instruction: str
  demonstrations: int
  separator: str

  def __post_init__(self):
    if self.demonstrations < 0:
      raise UserError(
        f'method.demonstrations={self.demonstrations} must be at least 0'
      )
    if not self.separator:
      # Words behind --config=FILE: lose the spaces around them.
      raise UserError(
        'method.separator is empty, so that words would run together; set it '
        "by a flag, such as --config.method.separator=' '"
      )
    for key in ('instruction', 'separator'):
      check_text([getattr(self, key)], f'method.{key}=')

  def create(self, rng: jax.Array, start: base.Start) -> dict[str, Any]:
    return {}

  def expand(self, own: dict[str, Any]) -> dict[str, Any]:
    return {}
