"""Input-tuning: its start, and its formula on what is read alone."""

import functools

import jax
import numpy as np
import pytest
import tiny
from goldens import causal_models

from ptjax import config as config_lib
from ptjax import tree
from ptjax.config import UserError
from ptjax.methods import base
from ptjax.tuned import base as tuned_base
from ptjax.weights import load

P, F = 3, 7


def make(model, params, name: str, **settings):
  """(tuned model, tuned, frozen)"""
  c = config_lib.default()
  c.method.update({'name': name, 'length': P, 'init': 'uniform', **settings})
  made = tuned_base.make(model, base.make(c.method))
  return made, *made.init(jax.random.key(0), params)


def test_its_hidden_layer_is_twice_as_wide_unless_said():
  model, params = tiny.t5()
  _, tuned, _ = make(model, params, 'input_tuning')
  width = tiny.CONFIG.d_model
  shapes = {k: v.shape for k, v in tree.flatten(tuned).items()}
  assert shapes == {
    'prompt/encoder': (P, width),
    'input/down': (width, 2 * width),
    'input/up': (2 * width, width),
  }
  _, tuned, _ = make(model, params, 'input_tuning', hidden=F)
  assert tuned['input']['down'].shape == (width, F)
  with pytest.raises(UserError, match='method.hidden=-1 must be at least 0'):
    make(model, params, 'input_tuning', hidden=-1)


def test_step_0_is_that_of_the_prompt_alone():
  model, params = tiny.t5()
  made, tuned, frozen = make(model, params, 'input_tuning')
  soft, prompt, _ = make(model, params, 'soft_prompt')
  np.testing.assert_array_equal(
    tuned['prompt']['encoder'], prompt['prompt']['encoder']
  )
  rows = tiny.batch()
  np.testing.assert_array_equal(
    logits(made, tuned, frozen, rows), logits(soft, prompt, frozen, rows)
  )


def logits(made, *given) -> np.ndarray:
  return np.asarray(jax.jit(made.logits)(*given))


def gelu(x: np.ndarray) -> np.ndarray:
  inner = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
  return 0.5 * x * (1 + np.tanh(inner))


def drawn(width: int) -> dict[str, np.ndarray]:
  rng = np.random.default_rng(0)
  return {
    'down': rng.normal(size=(width, F)).astype(np.float32),
    'up': rng.normal(size=(F, width)).astype(np.float32),
  }


def changed(table_VxD, own) -> np.ndarray:
  """The embedding in which every row is what the network makes of it."""
  table_VxD = np.asarray(table_VxD)
  return table_VxD + gelu(table_VxD @ own['down']) @ own['up']


def test_a_t5_reads_a_changed_table_and_says_by_its_own():
  """An encoder with another embedding, the decoder with the frozen one."""
  model, params = tiny.t5()
  own = drawn(tiny.CONFIG.d_model)
  made, tuned, frozen = make(model, params, 'input_tuning', hidden=F)
  soft, prompt, _ = make(model, params, 'soft_prompt')
  rows = tiny.batch()
  found = logits(made, {**tuned, 'input': own}, frozen, rows)
  flat = tree.flatten(params)
  name = 'token_embedder/embedding'
  other = flat | {name: changed(flat[name], own)}
  variables = soft._variables(prompt, {'model': tree.unflatten(other)})
  inputs, mask = soft._place(rows)
  encode = functools.partial(model.apply, method='encode')
  encoded = jax.jit(encode)(variables, inputs, mask)
  variables = soft._variables(prompt, frozen)
  decode = functools.partial(model.apply, method='decode')
  expected = jax.jit(decode)(
    variables, soft._shift(rows['targets']), encoded, mask
  )
  difference = np.abs(found - expected).max() / np.abs(expected).max()
  assert difference <= 1e-5
  plain = logits(soft, prompt, frozen, rows)
  assert np.abs(plain - expected).max() > 0.05 * np.abs(expected).max()


def test_a_gpt_reads_a_changed_table_and_speaks_by_its_own():
  """The table is read for ids alone where the head is another matrix."""
  loaded = load.load(str(causal_models.FOLDER / 'gpt2_untied'))
  own = drawn(loaded.config.d_model)
  made, tuned, frozen = make(
    loaded.model, loaded.params, 'input_tuning', hidden=F
  )
  soft, prompt, _ = make(loaded.model, loaded.params, 'soft_prompt')
  rng = np.random.default_rng(1)
  rows = {
    'inputs': rng.integers(6, 40, (2, 9)).astype(np.int32),
    'input_mask': np.arange(9) < np.array([[9], [5]]),
    'targets': rng.integers(6, 40, (2, 4)).astype(np.int32),
    'target_mask': np.ones((2, 4), bool),
  }
  found = logits(made, {**tuned, 'input': own}, frozen, rows)
  flat = tree.flatten(frozen)
  name = 'model/token_embedder/embedding'
  other = tree.unflatten(flat | {name: changed(flat[name], own)})
  expected = logits(soft, prompt, other, rows)
  difference = np.abs(found - expected).max() / np.abs(expected).max()
  assert difference <= 1e-5
