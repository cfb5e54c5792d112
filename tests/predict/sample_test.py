"""The decoding loop, and what may be drawn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ptjax.predict.sample import Greedy, Sample, generate
from tests.goldens import sampling

# Each id's likeliest successor; 1 is EOS, 0 padding and the first.
NEXT = {0: 4, 4: 7, 7: 1, 5: 6, 6: 5, 1: 9, 9: 9}
LOGITS_VxV = np.zeros((10, 10), np.float32)
for before, after in NEXT.items():
  LOGITS_VxV[before, after] = 5.0

run = functools.partial(
  generate, start_id=0, eos_id=1, pad_id=0, max_length=6, batch_size=3
)


def chain(ids_B, cache):
  """A model of one token's memory; the cache holds what a row is fed next."""
  first_B, t = cache
  fed_B = jnp.where((t == 0) & (first_B > 0), first_B, ids_B)
  return jnp.asarray(LOGITS_VxV)[fed_B], (first_B, t + 1)


def start(*first):
  return jnp.array(first), jnp.int32(0)


def test_rows_end_at_eos_and_are_padded():
  ids_BxT = jax.jit(lambda cache: run(chain, cache))(start(0, 7, 5))
  assert ids_BxT.tolist() == [
    [4, 7, 1, 0, 0, 0],
    [1, 0, 0, 0, 0, 0],
    [6, 5, 6, 5, 6, 5],
  ]
  assert ids_BxT.dtype == jnp.int32


def test_it_stops_when_all_rows_have_ended():
  steps = []

  def counted(ids_B, cache):
    jax.debug.callback(lambda: steps.append(1))
    return chain(ids_B, cache)

  run(counted, start(0, 7, 7), max_length=50).block_until_ready()
  jax.effects_barrier()
  assert len(steps) == 3


def test_the_first_fed_id_is_the_start_id():
  ids_BxT = run(chain, start(0, 0, 0), start_id=4)
  assert ids_BxT[:, :2].tolist() == [[7, 1]] * 3


def test_equal_logits_give_the_first():
  assert Greedy()(None, jnp.ones((2, 5))).tolist() == [0, 0]


@pytest.mark.parametrize('setting', sampling.SETTINGS, ids=str)
def test_what_is_left_is_what_transformers_leaves(setting):
  temperature, top_k, top_p = setting
  sampler = Sample(temperature=temperature, top_k=top_k, top_p=top_p)
  ours = jax.nn.softmax(sampler.filter(jnp.asarray(sampling.logits())))
  theirs = np.load(sampling.FILE)['probs'][sampling.SETTINGS.index(setting)]
  ours = np.array(ours)
  if top_p < 1:  # which of equal logits stay is chance in theirs
    ours[-1], theirs[-1] = np.sort(ours[-1]), np.sort(theirs[-1])
  np.testing.assert_allclose(ours, theirs, atol=1e-6)
  np.testing.assert_array_equal(ours == 0, theirs == 0)


def test_of_equal_logits_the_first_stay():
  left = Sample(top_p=0.5).filter(jnp.array([[0.0, 1.0, 1.0, 1.0, 0.0]]))
  assert np.isfinite(left).tolist() == [[False, True, True, False, False]]
  # top_k keeps all that equal the last: transformers does.
  left = Sample(top_k=2).filter(jnp.array([[0.0, 1.0, 1.0, 1.0, 0.0]]))
  assert np.isfinite(left).tolist() == [[False, True, True, True, False]]


@pytest.mark.parametrize('setting', sampling.SETTINGS, ids=str)
def test_goldens_are_what_transformers_says_today(setting):
  pytest.importorskip('torch')
  pytest.importorskip('transformers')
  golden = np.load(sampling.FILE)['probs'][sampling.SETTINGS.index(setting)]
  today = sampling.filtered(*setting)
  np.testing.assert_allclose(today[:-1], golden[:-1], atol=1e-6)


def test_draws_follow_the_filtered_distribution():
  sampler = Sample(temperature=1.3, top_k=4, top_p=0.9)
  logits_BxV = jnp.asarray(sampling.logits())[1:2]
  draws = sampler(jax.random.key(0), jnp.repeat(logits_BxV, 20_000, axis=0))
  found = np.bincount(draws, minlength=50) / 20_000
  expected = jax.nn.softmax(sampler.filter(logits_BxV))[0]
  # Four standard deviations of a frequency of 20 000 draws.
  np.testing.assert_allclose(found, expected, atol=4 * 0.5 / 20_000**0.5)
  assert not found[np.asarray(expected) == 0].any()


@pytest.mark.parametrize(
  'sampler', [Sample(top_k=1), Sample(top_p=1e-9), Sample(temperature=1e-3)]
)
def test_one_left_is_greedy(sampler):
  drawn = run(chain, start(0, 7, 5), sampler=sampler, rng=jax.random.key(3))
  assert drawn.tolist() == run(chain, start(0, 7, 5)).tolist()


def test_a_draw_depends_on_key_and_position():
  def flat(ids_B, cache):
    return jnp.zeros((3, 1000)), cache

  def draw(seed):
    key = jax.random.key(seed)
    return np.asarray(run(flat, (), sampler=Sample(), rng=key, max_length=8))

  assert np.array_equal(draw(0), draw(0))
  assert not np.array_equal(draw(0), draw(1))
  assert len(set(draw(0).ravel().tolist())) > 16


def test_drawing_needs_a_key_and_sensible_settings():
  with pytest.raises(ValueError, match='rng'):
    run(chain, start(0, 7, 5), sampler=Sample())
  for wrong in ({'temperature': 0}, {'top_k': -1}, {'top_p': 0}):
    with pytest.raises(ValueError, match='temperature > 0'):
      Sample(**wrong)
