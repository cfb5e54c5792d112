"""Adafactor against its formula, its presets, schedules, and the mask."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ptjax import config as config_lib
from ptjax import optim, tree
from ptjax.config import UserError


def settings(**changes):
  c = config_lib.resolved(config_lib.default()).optimizer
  for key, value in changes.items():
    c[key] = value
  return c


def adafactor(p, grads, *, lr, decay_offset=0, weight_decay=1e-5):
  """Shazeer and Stern (2018), algorithm 4 without relative steps, in float64:
  an implementation of its own, with T5X's constants. Only beta is rounded to
  float32 as T5X's is: near 1 that is worth 0.3 % of an update."""
  row = column = v = 0.0
  factored = p.ndim == 2 and min(p.shape) >= 128
  for t, g in enumerate(grads):
    power = np.float32(t - decay_offset + 1.0) ** np.float32(-0.8)
    beta = float(np.float32(1) - power)
    square = g**2 + 1e-30
    if factored:
      row = beta * row + (1 - beta) * square.mean(1)
      column = beta * column + (1 - beta) * square.mean(0)
      v_now = np.outer(row, column) / row.mean()
    else:
      v_now = v = beta * v + (1 - beta) * square
    u = g / np.sqrt(v_now)
    u = u / max(1.0, np.sqrt((u**2).mean()))
    p = p - lr * u - weight_decay * p
  return p


@pytest.mark.parametrize('shape', [(100, 24), (150, 130)])
@pytest.mark.parametrize('offset', [0, -1_100_000])
def test_adafactor_is_the_formula(shape, offset):
  """150 tokens and more are factored, 100 are not, whatever the width."""
  rng = np.random.default_rng(0)
  start = rng.normal(size=shape)
  grads = [rng.normal(size=shape) * s for s in (1, 1, 0.1, 3, 0.01)]
  tx = optim.make(settings(decay_offset=offset), steps=9)
  params = jnp.asarray(start, jnp.float32)
  state = tx.init(params)
  for g in grads:
    update, state = tx.update(jnp.asarray(g, jnp.float32), state, params)
    params = optax.apply_updates(params, update)
  want = adafactor(start, grads, lr=0.3, decay_offset=offset)
  np.testing.assert_allclose(params, want, rtol=2e-5, atol=2e-5)


def test_t5x_moves_the_prompt_by_the_rate_at_every_step():
  """Restored at step 1,100,000 with empty moments, T5X clips every update to
  a root mean square of 1, also after the gradients have shrunk; started at 0
  the update shrinks with them."""

  def last_update(offset):
    c = settings(decay_offset=offset, weight_decay=0.0)
    tx = optim.make(c, steps=600)
    params = jnp.zeros((20, 64))
    state = tx.init(params)
    key = jax.random.key(0)
    for t in range(300):
      g = jax.random.normal(jax.random.fold_in(key, t), params.shape)
      g = g * (1.0 if t < 250 else 0.1)
      update, state = tx.update(g, state, params)
    return float(jnp.sqrt(jnp.mean(update**2)))

  assert last_update(-1_100_000) == pytest.approx(0.3, rel=1e-4)
  assert last_update(0) < 0.1


def test_the_t5x_preset_is_the_references():
  c = config_lib.preset(config_lib.default(), 't5x')
  assert c.optimizer.decay_offset == -1_100_000
  assert (c.method.init, c.method.low, c.method.high) == ('uniform', 0, 0.5)
  assert (c.train.batch_size, c.train.dropout) == (128, 0.1)
  assert c.train.z_loss == 1e-4


def test_the_default_is_the_papers():
  c = config_lib.preset(config_lib.default(), 'paper')
  c = config_lib.resolved(c)
  assert (c.method.length, c.method.init) == (100, 'labels')
  assert (c.method.low, c.method.high) == (-0.5, 0.5)
  o = c.optimizer
  assert (o.lr, o.weight_decay, o.clip, o.decay_rate) == (0.3, 1e-5, 1.0, 0.8)
  assert (o.decay_offset, o.schedule) == (0, 'constant')
  assert (c.train.steps, c.train.batch_size) == (30_000, 32)


@pytest.mark.parametrize(
  'name,at,want',
  [
    ('constant', 90, 0.3),
    ('linear', 55, 0.15),
    ('linear', 100, 0.0),
    ('cosine', 55, 0.15),
    ('rsqrt', 30, 0.3 * (10 / 30) ** 0.5),
  ],
)
def test_schedules_warm_up_and_decay(name, at, want):
  rate = optim.schedule(settings(schedule=name, warmup=10), steps=100)
  assert float(rate(0)) == 0
  assert float(rate(5)) == pytest.approx(0.15)
  assert float(rate(10)) == pytest.approx(0.3)
  assert float(rate(at)) == pytest.approx(want, abs=1e-6)


def test_a_warmup_longer_than_the_run_is_refused():
  with pytest.raises(UserError, match='warmup=100 .* 100 steps'):
    optim.schedule(settings(warmup=100), steps=100)


def test_a_misspelled_optimizer_names_the_nearest():
  with pytest.raises(UserError, match="did you mean 'adafactor'"):
    optim.make(settings(name='adafacter'), steps=10)


@pytest.mark.parametrize('name', ['adafactor', 'adamw'])
def test_the_mask_over_the_joined_tree_gives_the_split_trees_updates(name):
  """Two ways to limit what trains, one result: the optimizer sees the tuned
  tree alone, or optax masks the whole. (`optax.masked` would let the frozen
  gradients through as updates.)"""
  joined = {
    'prompt': {'encoder': jnp.full((4, 3), 0.5)},
    'model': {'a': jnp.ones((3, 3)), 'b': jnp.ones(3)},
  }
  grads = jax.tree.map(
    lambda x: jnp.cos(jnp.arange(x.size)).reshape(x.shape), joined
  )
  patterns = ['prompt/.*', 'model/b']
  tx = optim.make(settings(name=name), steps=10)
  tuned, _ = tree.split(joined, patterns)
  tuned_grads, _ = tree.split(grads, patterns)
  alone, _ = tx.update(tuned_grads, tx.init(tuned), tuned)

  mask = optim.mask(joined, patterns)
  freeze = jax.tree.map(lambda trains: not trains, mask)
  whole_tx = optax.selective_transform(tx, freeze_mask=freeze)
  whole, _ = whole_tx.update(grads, whole_tx.init(joined), joined)
  held = tree.flatten(whole)
  for key, value in tree.flatten(alone).items():
    np.testing.assert_array_equal(held.pop(key), value)
  assert held.keys() == {'model/a'}
  assert not np.any(held['model/a'])
