"""Optimizers: a name and its numbers -> an optax transformation.

Owns the optimizer's settings and the boolean mask of what trains. Knows no
model: it sees a tree of arrays, and per array only its shape.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import optax

from ptjax import tree
from ptjax.config import UserError, one_of

SCHEDULES = ('constant', 'linear', 'cosine', 'rsqrt')


def make(
  settings: Any, *, steps: int, lr: Any = None
) -> optax.GradientTransformation:
  """The optimizer of `config.optimizer` for a run of `steps` steps.

  Args:
    lr: instead of `optimizer.lr`; may be traced, as it is where each member
      of a population has its own. The state is the same for any.
  """
  rate = schedule(settings, steps=steps, lr=lr)
  if one_of('optimizer.name', settings.name, NAMES) == 'adafactor':
    return _adafactor(settings, rate)
  return optax.chain(
    optax.clip_by_global_norm(settings.clip or jnp.inf),
    optax.adamw(
      rate,
      b1=settings.beta1,
      b2=settings.beta2,
      eps=settings.epsilon,
      weight_decay=settings.weight_decay,
    ),
  )


NAMES = ('adafactor', 'adamw')


def _adafactor(settings: Any, rate) -> optax.GradientTransformation:
  """Adafactor (Shazeer and Stern 2018) without parameter scaling.

  The weight decay is not multiplied by the learning rate: p <- (1-wd) p - u,
  as in T5X. `decay_offset=-1_100_000` counts the decay of the second moment
  from the frozen model's last step, as T5X did by restoring the step with the
  weights: then every update has a root mean square of the learning rate.
  """
  return optax.adafactor(
    rate,
    min_dim_size_to_factor=128,
    decay_rate=settings.decay_rate,
    decay_offset=settings.decay_offset,
    multiply_by_parameter_scale=False,
    clipping_threshold=settings.clip or None,
    weight_decay_rate=settings.weight_decay or None,
    eps=1e-30,
  )


def schedule(settings: Any, *, steps: int, lr: Any = None) -> optax.Schedule:
  """Learning rate by step: warm-up from 0, then the named decay to the end."""
  name = one_of('optimizer.schedule', settings.schedule, SCHEDULES)
  warmup, rate = settings.warmup, settings.lr if lr is None else lr
  if not 0 <= warmup < max(steps, 1):
    raise UserError(
      f'optimizer.warmup={warmup} must be at least 0 and below the '
      f'{steps} steps of train.steps'
    )
  rest = steps - warmup
  after = {
    'constant': lambda: optax.constant_schedule(rate),
    'linear': lambda: optax.linear_schedule(rate, 0.0, rest),
    'cosine': lambda: optax.cosine_decay_schedule(rate, rest),
    'rsqrt': lambda: _rsqrt(rate, max(warmup, 1)),
  }[name]()
  if not warmup:
    return after
  ramp = optax.linear_schedule(0.0, rate, warmup)
  return optax.join_schedules([ramp, after], [warmup])


def _rsqrt(rate: float, warmup: int) -> optax.Schedule:
  """Continuous with the warm-up's end."""
  return lambda t: rate * jnp.sqrt(warmup / (jnp.maximum(t, 0) + warmup))


def mask(params: Any, patterns: Sequence[str]) -> Any:
  """Booleans in the shape of `params`: True where it trains."""
  return tree.unflatten(tree.select(list(tree.flatten(params)), patterns))
