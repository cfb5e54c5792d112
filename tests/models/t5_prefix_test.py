"""A prefix of T5's attentions against transformers: recorded, and live."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from goldens import t5_models, t5_prefix

from ptjax.weights import load

SCOPES = {
  'encoder': ('encoder', 'attention'),
  'self': ('decoder', 'self_attention'),
  'cross': ('decoder', 'cross_attention'),
}


@functools.cache
def loaded(case: str) -> load.Loaded:
  return load.load(str(t5_models.FOLDER / case))


def ports(config, sides) -> dict:
  values, out = t5_prefix.values(config), {}
  for side in sides:
    stack, attention = SCOPES[side]
    key, value = (values[side][:, i] for i in (0, 1))
    layers = out.setdefault(stack, {}).setdefault('layers', {})
    layers[attention] = {
      'prefix_key': key.transpose(0, 2, 3, 1),
      'prefix_value': value.transpose(0, 2, 1, 3),
    }
  return out


def rows(config) -> tuple[dict, np.ndarray]:
  """(inputs, their mask with that of a prefix in front)."""
  given = t5_models.inputs(config.vocab_size)
  front = np.ones((len(given['ids']), t5_prefix.LENGTH), bool)
  return given, np.concatenate([front, given['mask']], axis=1)


def said(found: load.Loaded, sides, **changes) -> np.ndarray:
  model, config = found.model.clone(**changes), found.config
  given, mask = rows(config)
  variables = {'params': found.params, 'ports': ports(config, sides)}
  run = jax.jit(model.apply)
  return np.asarray(run(variables, given['ids'], mask, given['decoder_ids']))


def difference(found, expected, name: str) -> float:
  result = np.abs(found - expected).max() / np.abs(expected).max()
  print(f'\nrelative difference {name}: {result:.1e}')
  return result


@pytest.mark.parametrize('side', [*SCOPES, 'all'])
@pytest.mark.parametrize('case', t5_prefix.CASES)
def test_logits_behind_a_prefix_are_transformers(case, side):
  expected = np.load(t5_models.FOLDER / case / t5_prefix.FILE)
  sides = tuple(SCOPES) if side == 'all' else (side,)
  found = said(loaded(case), sides)
  alone = np.load(t5_models.FOLDER / case / 'golden.npz')['logits']
  assert difference(alone[..., ::3], expected[side], f'no {side}') > 1e-2
  assert difference(found[..., ::3], expected[side], f'{case} {side}') <= 1e-5


@pytest.mark.full
@pytest.mark.parametrize('changes', [{}, {'remat': 'full'}, {'scan': False}])
def test_live_logits_of_other_weights_are_transformers(changes, tmp_path):
  pytest.importorskip('torch', reason='torch is not installed')
  pytest.importorskip('transformers', reason='transformers is not installed')
  case = dataclasses.replace(t5_models.CASES['t5_1_0'], seed=91)
  model = t5_models.build(case, case.seed)
  t5_models.save(model, case, tmp_path)
  found = load.load(str(tmp_path))
  for name, expected in t5_prefix.computed(model).items():
    sides = tuple(SCOPES) if name == 'all' else (name,)
    ours = said(found, sides, **changes)[..., ::3]
    assert difference(ours, expected, name) <= 1e-5


@pytest.mark.parametrize('sides', [('self',), tuple(SCOPES)])
def test_cached_steps_say_what_teacher_forcing_says(sides):
  found = loaded('t5_1_1')
  given, mask = rows(found.config)
  expected = said(found, sides)
  variables = {'params': found.params, 'ports': ports(found.config, sides)}
  run = functools.partial(found.model.apply, variables)

  @jax.jit
  def prefill(ids, mask):
    encoded = run(ids, mask, method='encode')
    return run(encoded, mask, max_length=6, method='init_cache')

  cache = prefill(given['ids'], mask)
  step = jax.jit(functools.partial(run, method='decode_step'))
  for t, ids_B in enumerate(given['decoder_ids'].T):
    logits, cache = step(ids_B, cache)
    assert difference(logits, expected[:, t], f'step {t}') <= 1e-5


def test_a_prefix_that_counts_for_no_row_says_nothing():
  """And one that counts for some rows says nothing to the others."""
  found = loaded('t5_1_1')
  given, mask = rows(found.config)
  mask[1, : t5_prefix.LENGTH] = False
  variables = {'params': found.params, 'ports': ports(found.config, SCOPES)}
  logits = jax.jit(found.model.apply)(
    variables, given['ids'], mask, given['decoder_ids']
  )
  golden = np.load(t5_models.FOLDER / 't5_1_1' / 'golden.npz')['logits']
  assert difference(np.asarray(logits)[1], golden[1], 'row without') <= 1e-5
  assert difference(np.asarray(logits)[0], golden[0], 'row with') > 1e-2
