"""Virtual tokens around an input stand where the template says."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from goldens import causal_models

from ptjax import answer
from ptjax import config as config_lib
from ptjax.methods import base
from ptjax.predict import sample
from ptjax.tuned import base as tuned_base
from ptjax.weights import load

EOS, X, Y = 1, 90, 91


def behind(ids, mask, counts, **options):
  found = tuned_base.with_behind(
    (jnp.asarray(ids), jnp.asarray(mask, bool)),
    jnp.asarray([X, Y]),
    counts_B=jnp.asarray(counts),
    **options,
  )
  return [
    [int(i) for i, real in zip(*row) if real] for row in zip(*found)
  ], np.asarray(found[1])


def test_what_is_behind_follows_the_last_piece_or_precedes_its_eos():
  ids = [[5, 6, EOS, 0], [0, 5, 6, 7], [EOS, 5, 0, 0], [5, EOS, 0, 0]]
  mask = [[1, 1, 1, 0], [0, 1, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]]
  found, real = behind(ids, mask, [True, True, True, False], eos_id=EOS)
  assert found == [[5, 6, X, Y, EOS], [5, 6, 7, X, Y], [EOS, 5, X, Y], [5, EOS]]
  # Padding is behind all.
  assert (np.sort(real, axis=1)[:, ::-1] == real).all()
  found, _ = behind(ids, mask, [True] * 4)
  assert found[0] == [5, 6, EOS, X, Y]


@functools.cache
def network(family: str):
  if family == 't5':
    return tiny.t5()
  found = load.load(str(causal_models.FOLDER / family))
  return found.model, found.params


def made(family: str, **settings):
  c = config_lib.default()
  c.method.update({'init': 'uniform', **settings})
  return tuned_base.make(network(family)[0], base.make(c.method))


B, L, T = 3, 6, 4
TEMPLATE = '{2} {#9} {input} {#7} {1}'


def batch(**changes):
  rng = np.random.default_rng(3)
  ids = rng.integers(6, 60, (B, L)).astype(np.int32)
  mask = np.arange(L) < np.asarray([L, 2, 4])[:, None]
  ids[np.arange(B), mask.sum(1) - 1] = EOS
  return {
    'inputs': ids,
    'input_mask': mask,
    'targets': rng.integers(6, 60, (B, T)).astype(np.int32),
    'target_mask': np.ones((B, T), bool),
    **changes,
  }


def by_hand(family: str, row: int) -> np.ndarray:
  """The ids of a row's input as the template has them."""
  given = batch()
  ids = given['inputs'][row][given['input_mask'][row]].tolist()
  first = network(family)[0].config.vocab_size
  before, after = [first, first + 1, 9], [7, first + 2]
  end = ids[-1:] if family == 't5' else []
  return np.asarray([*before, *ids[: len(ids) - len(end)], *after, *end])


@pytest.mark.parametrize(
  'family', ['t5', 'pythia', pytest.param('llama', marks=pytest.mark.full)]
)
def test_an_input_in_a_template_is_these_ids_in_a_row(family):
  model, params = network(family)
  tuned_model = made(family, template=TEMPLATE)
  tuned, frozen = tuned_model.init(jax.random.key(0), params)
  logits = np.asarray(jax.jit(tuned_model.logits)(tuned, frozen, batch()))
  ports = {'token_embedder': {'prompt': tuned['prompt']['encoder']}}
  variables = {'params': params, 'ports': ports}
  for row in range(B):
    ids, targets = by_hand(family, row), batch()['targets'][row]
    if family == 't5':
      shifted = np.asarray([[0, *targets[:-1]]])
      ones = np.ones((1, len(ids)), bool)
      expected = model.apply(variables, ids[None], ones, shifted)[0]
    else:
      whole = np.concatenate([ids, targets])[None]
      ones = np.ones(whole.shape, bool)
      expected = model.apply(variables, whole, ones)[0][len(ids) - 1 : -1]
    difference = np.abs(logits[row] - expected).max()
    assert difference <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(
  'family', ['t5', pytest.param('pythia', marks=pytest.mark.full)]
)
def test_rows_of_different_prompts_and_of_none_are_as_alone(family):
  tuned_model, (_, params) = made(family, template=TEMPLATE), network(family)
  each = [tuned_model.init(jax.random.key(i), params)[0] for i in range(2)]
  frozen = {'model': params}
  both = jax.tree.map(lambda *x: jnp.stack(x), *each)
  rows = batch(
    member=np.asarray([1, 0, 1]), front=np.asarray([5, 5, 0], np.int32)
  )
  logits = np.asarray(jax.jit(tuned_model.logits)(both, frozen, rows))
  for row, (own, front) in enumerate(((1, 5), (0, 5), (1, 0))):
    alone = {k: v[row : row + 1] for k, v in batch().items()}
    alone['front'] = np.asarray([front], np.int32)
    expected = tuned_model.logits(each[own], frozen, alone)[0]
    difference = np.abs(logits[row] - expected).max()
    assert difference <= 1e-5 * np.abs(expected).max()
  bare = made(family, name='none').logits({}, frozen, batch())
  assert np.abs(logits[2] - bare[2]).max() <= 1e-5 * np.abs(bare[2]).max()
  generate = answer.make_generate(tuned_model, sampler=sample.Greedy())
  ids = generate(both, frozen, rows, None, max_length=T)
  assert np.asarray(ids).shape == (B, T)


def test_every_row_may_have_all_of_the_template_in_front_of_it_instead():
  """A decoder-only model's plain concatenation says the same."""
  tuned_model = made('pythia', template=TEMPLATE)
  tuned, frozen = tuned_model.init(jax.random.key(0), network('pythia')[1])
  plain = dataclasses.replace(tuned_model, once=False)
  found, expected = (
    np.asarray(jax.jit(m.logits)(tuned, frozen, batch()))
    for m in (tuned_model, plain)
  )
  assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
