"""A prefix that starts from a text says what the text says in its place."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from goldens import causal_models

from ptjax import config as config_lib
from ptjax.methods import base
from ptjax.tuned import base as tuned_base
from ptjax.weights import load

TEXT, B, L, T = [7, 9, 11, 8], 3, 6, 4


@functools.cache
def loaded(case: str) -> load.Loaded:
  return load.load(str(causal_models.FOLDER / case))


def made(model, name: str, **settings):
  c = config_lib.default()
  c.method.update({'name': name, 'length': len(TEXT), 'init': 'text'})
  c.method.update(settings)
  return tuned_base.make(model, base.make(c.method))


def batch(**changes):
  rng = np.random.default_rng(3)
  mask = np.arange(L) < np.asarray([L, 2, 4])[:, None]
  return {
    'inputs': rng.integers(6, 60, (B, L)).astype(np.int32),
    'input_mask': mask,
    'targets': rng.integers(6, 60, (B, T)).astype(np.int32),
    'target_mask': np.ones((B, T), bool),
    **changes,
  }


def said(tuned_model, params, rows):
  tuned, frozen = tuned_model.init(jax.random.key(0), params, text_ids=TEXT)
  return np.asarray(jax.jit(tuned_model.logits)(tuned, frozen, rows))


def differ(found, expected) -> float:
  return np.abs(found - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize(
  'case',
  [
    'pythia',
    *(pytest.param(c, marks=pytest.mark.full) for c in ('gpt2', 'llama')),
  ],
)
@pytest.mark.parametrize('remat', ['products', 'full'])
def test_a_decoder_only_models_prefix_is_the_text(case, remat):
  """Keys after rotary, at its positions, which those behind it follow."""
  model, params = loaded(case).model.clone(remat=remat), loaded(case).params
  rows = batch(front=np.asarray([4, 4, 0], np.int32))
  prefix = said(made(model, 'prefix_tuning'), params, rows)
  prompt = said(made(model, 'soft_prompt'), params, rows)
  assert differ(prefix, prompt) <= 1e-5
  without = batch(front=np.zeros(B, np.int32))
  bare = said(made(model, 'prefix_tuning'), params, without)
  assert differ(bare[2], prefix[2]) <= 1e-5 < 1e-2 < differ(bare, prefix)


def test_the_first_piece_of_a_whole_text_is_not_said():
  """No state stands in front of it, only keys and values."""
  tuned_model = made(loaded('pythia').model, 'prefix_tuning')
  rows = tuned_model.full_text(batch())
  assert rows['inputs'].shape[1] == 1
  assert rows['target_mask'].sum() == batch()['input_mask'].sum() + B * (T - 1)
  logits = said(tuned_model, loaded('pythia').params, rows)
  # What is behind it is said as with the text in the prefix's place.
  prompt = made(loaded('pythia').model, 'soft_prompt')
  whole = said(prompt, loaded('pythia').params, prompt.full_text(batch()))
  mask = rows['target_mask']
  assert differ(logits[mask], whole[:, 1:][mask]) <= 1e-5


def test_an_encoder_decoders_prefix_is_what_its_layers_make_of_the_text():
  model, params = tiny.t5()
  tuned_model = made(model, 'prefix_tuning')
  own, _ = tuned_model.init(jax.random.key(0), params, text_ids=TEXT)
  ports = tuned_model.method.expand(own)
  rows_PxD = params['token_embedder']['embedding'][jnp.asarray(TEXT)]

  def heads(x, kernel, layer):
    y = (np.asarray(x) @ kernel[layer]).reshape(len(TEXT), 3, 5)
    return y.transpose(1, 2, 0)

  def normed(x, scale):
    root = np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + 1e-6)
    return x / root * scale

  ids = jnp.asarray(TEXT)[None]
  encoded = model.apply({'params': params}, ids, ids > 0, method='encode')[0]
  for side, name, norm, layer, x in (
    ('encoder', 'attention', 'pre_attention_norm', 0, rows_PxD),
    ('decoder', 'self_attention', 'pre_self_attention_norm', 0, rows_PxD),
    ('decoder', 'cross_attention', None, 2, encoded),
  ):
    weights = params[side]['layers']
    if norm:
      x = normed(np.asarray(x), weights[norm]['scale'][layer])
    filled = ports[side]['layers'][name]
    key = heads(x, weights[name]['key']['kernel'], layer)
    assert differ(filled['prefix_key'][layer], key) <= 1e-5
    value = heads(x, weights[name]['value']['kernel'], layer).swapaxes(1, 2)
    assert differ(filled['prefix_value'][layer], value) <= 1e-5


@pytest.mark.parametrize('changes', [{'remat': 'full'}, {'scan': False}])
def test_an_encoder_decoders_prefix_starts_alike_however_layers_run(changes):
  model, params = tiny.t5()
  start = {'text_ids': TEXT}
  key = jax.random.key(0)
  one, _ = made(model, 'prefix_tuning').init(key, params, **start)
  other = made(model.clone(**changes), 'prefix_tuning')
  other, _ = other.init(key, params, **start)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
    one,
    other,
  )
