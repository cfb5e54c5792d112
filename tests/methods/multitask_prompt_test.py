"""Multi-task prompts: their product, and that a row reads its own task's."""

import jax
import numpy as np
import pytest
import tiny
from goldens import causal_models

from ptjax import config as config_lib
from ptjax import tree
from ptjax.config import UserError
from ptjax.methods import base, multitask_prompt
from ptjax.tuned import base as tuned_base
from ptjax.weights import load

P, R, M = 3, 2, 3


def make(model, params, name: str, **start):
  """(tuned model, tuned, frozen)"""
  c = config_lib.default()
  c.method.update({'name': name, 'length': P, 'init': 'uniform', 'ranks': R})
  made = tuned_base.make(model, base.make(c.method))
  return made, *made.init(jax.random.key(0), params, **start)


def moved(tuned):
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda x: x + rng.normal(size=x.shape).astype(np.float32), tuned
  )


def test_all_tasks_start_from_the_prompt_of_the_same_seed():
  model, params = tiny.t5()
  made, tuned, _ = make(model, params, 'multitask_prompt', tasks=M)
  _, prompt, _ = make(model, params, 'soft_prompt')
  shapes = {k: v.shape for k, v in tree.flatten(tuned).items()}
  D = tiny.CONFIG.d_model
  assert shapes == {
    'multitask/prompt': (P, D),
    'multitask/cols': (M, P, R),
    'multitask/rows': (M, R, D),
  }
  rows_MxPxD = made.method.each(tuned)['prompt']['encoder']
  for rows_PxD in rows_MxPxD:
    np.testing.assert_array_equal(rows_PxD, prompt['prompt']['encoder'])
  # The other rank adds nothing yet, but is noise on one side: it can grow.
  cols_MxP = tuned['multitask']['cols'][:, :, 1]
  assert not tuned['multitask']['rows'][:, 1].any()
  assert len(np.unique(cols_MxP)) == M * P
  assert np.abs(cols_MxP).max() < 5 * multitask_prompt.STDDEV


def test_a_tasks_prompt_is_the_shared_one_times_its_own():
  model, params = tiny.t5()
  made, tuned, _ = make(model, params, 'multitask_prompt', tasks=M)
  own = moved(tuned)
  held = jax.tree.map(np.asarray, own['multitask'])
  found = made.method.each(own)['prompt']['encoder']
  for k in range(M):
    expected = held['prompt'] * (held['cols'][k] @ held['rows'][k])
    np.testing.assert_allclose(found[k], expected, rtol=1e-5, atol=1e-6)


def test_where_no_task_is_said_it_is_the_first():
  model, params = tiny.t5()
  made, tuned, _ = make(model, params, 'multitask_prompt', tasks=M)
  own = moved(tuned)
  first, *others = made.method.each(own)['prompt']['encoder']
  found = made.method.expand(own)['token_embedder']['prompt']
  np.testing.assert_array_equal(found, first)
  assert all((found != other).any() for other in others)


def gpt():
  loaded = load.load(str(causal_models.FOLDER / 'gpt2'))
  return loaded.model, loaded.params


@pytest.mark.parametrize('family', [tiny.t5, gpt])
def test_each_row_reads_the_prompt_of_its_task(family):
  model, params = family()
  made, tuned, frozen = make(model, params, 'multitask_prompt', tasks=M)
  soft, _, _ = make(model, params, 'soft_prompt')
  own, rows = moved(tuned), tiny.batch(rows=5)
  task_B = np.array([2, 0, 1, 2, 0], np.int32)

  def logits(model, *given):
    return np.asarray(jax.jit(model.logits)(*given))

  found = logits(made, own, frozen, rows | {'task': task_B})
  prompts = made.method.each(own)['prompt']['encoder']
  mask = rows['target_mask']
  for k in range(M):
    one = {'prompt': {'encoder': prompts[k]}}
    expected = logits(soft, one, frozen, rows)
    real = mask & (task_B == k)[:, None]
    difference = np.abs(found - expected)[real].max()
    assert difference <= 1e-5 * np.abs(expected).max()
    others = mask & (task_B != k)[:, None]
    assert np.abs(found - expected)[others].max() > 1e-3


def test_what_cannot_be_is_refused():
  model, params = tiny.t5()
  made, tuned, frozen = make(model, params, 'multitask_prompt', tasks=M)
  rows = tiny.batch() | {'task': np.zeros(4, np.int32)}
  with pytest.raises(UserError, match='of which there is none a task'):
    made.logits({**tuned, 'model': frozen['model']}, {}, rows)
  c = config_lib.default()
  c.method.update({'name': 'multitask_prompt', 'ranks': 0})
  with pytest.raises(UserError, match='method.ranks=0 must be at least 1'):
    base.make(c.method)
