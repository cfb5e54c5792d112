"""Multi-task prompts: a shared one times each task's own (Wang et al. 2023).

Owns P*, and a matrix of low rank for each task by which it is multiplied,
value by value: P_k = P* ∘ (cols_k rows_k), as PEFT names them. Knows that the
embedding reads a port `prompt`; knows nothing of networks.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from ptjax.config import UserError
from ptjax.methods import soft_prompt
from ptjax.methods.base import Start

STDDEV = 0.02  # of cols that start as noise; PEFT's


@dataclasses.dataclass(frozen=True)
class Method(soft_prompt.Method):
  """All tasks start from P*: the first rank is of ones.

  Attributes:
    ranks: R of the tasks' own.
  """

  ranks: int

  tune = ('multitask/.*',)

  def __post_init__(self):
    super().__post_init__()
    if self.ranks < 1:
      raise UserError(f'method.ranks={self.ranks} must be at least 1')

  def create(self, rng: jax.Array, start: Start) -> dict[str, Any]:
    shared_PxD = super().create(rng, start)['prompt']['encoder']
    (length, width), tasks = shared_PxD.shape, start.tasks
    # Products of the other ranks are zero, and can grow.
    shape = tasks, length, self.ranks
    noise = STDDEV * jax.random.normal(jax.random.fold_in(rng, 1), shape)
    rows = jnp.zeros((tasks, self.ranks, width), jnp.float32)
    own = {
      'prompt': shared_PxD,
      'cols': noise.astype(jnp.float32).at[:, :, 0].set(1.0),
      'rows': rows.at[:, 0].set(1.0),
    }
    return {'multitask': own}

  def each(self, own: dict[str, Any]) -> dict[str, Any]:
    """The soft prompts of all tasks, along a first axis."""
    held = own['multitask']
    product_MxPxD = jnp.matmul(
      held['cols'], held['rows'], precision=jax.lax.Precision.HIGHEST
    )
    return {'prompt': {'encoder': held['prompt'] * product_MxPxD}}

  def expand(self, own: dict[str, Any]) -> dict[str, Any]:
    if 'prompt' not in own:  # none was chosen: of the first task
      own = jax.tree.map(lambda x: x[0], self.each(own))
    return super().expand(own)
