"""One contract for every method: what needs a step or a decoder.

Those compile for seconds each; see `contract_test.py` for the other properties.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract import (
  CHEAP,
  EVERY,
  TASKS,
  B,
  Case,
  T,
  assert_same_bits,
  batch,
  case,
  differ,
  network,
  program,
  run,
  settings,
  untuned,
)
from goldens import causal_models

from ptjax import answer, assemble, checkpoint, prompted, step, tree
from ptjax import config as config_lib
from ptjax.export import names, prompt
from ptjax.predict import rank, sample
from ptjax.weights import save

pytestmark = pytest.mark.full


def begin(found: Case) -> step.TrainState:
  """The state of one member: with the member axis, and copied, as it goes."""
  tuned = jax.tree.map(jnp.copy, found.tuned)
  state = step.init_state(tuned, found.tx(0.1), rng=jax.random.key(3))
  return jax.tree.map(lambda x: x[None], state)


def stepper(found: Case, *rates: float):
  return step.make_train_step(found.made, found.tx, rates=rates)


def rows_of(*seeds: int):
  return jax.tree.map(lambda *x: np.stack(x), *map(batch, seeds))


@EVERY
def test_steps_compile_once_leave_the_frozen_and_go_on_from_disk(
  method, family, tmp_path
):
  found = case(method, family)
  train_step, before = stepper(found, 0.01), tree.checksum(found.frozen)
  state, _ = train_step(begin(found), found.frozen, rows_of(0))
  kept = checkpoint.Checkpoints(tmp_path / 'c')
  kept.save(1, state, {'step': 1})
  kept.wait()
  restored, _ = kept.restore(jax.tree.map(jnp.zeros_like, state))
  kept.close()
  assert_same_bits(restored, state)
  straight, _ = train_step(state, found.frozen, rows_of(1))
  assert train_step._cache_size() == 1
  resumed, metrics = train_step(restored, found.frozen, rows_of(1))
  assert_same_bits(resumed, straight)
  assert straight.ok.all() and metrics['update_norm'] > 0
  assert tree.checksum(found.frozen) == before


@EVERY
def test_members_of_a_population_are_their_own_runs(method, family):
  """By what they say: of a bias that no score notices (GPT-2's of keys) Adam
  makes steps of the gradient's last bits."""
  found, rates = case(method, family), (0.01, 0.03)
  both = jax.tree.map(lambda x: jnp.concatenate([x, x]), begin(found))
  together, _ = stepper(found, *rates)(both, found.frozen, rows_of(0, 1))
  for i, rate in enumerate(rates):
    alone, _ = stepper(found, rate)(begin(found), found.frozen, rows_of(i))
    mine = jax.tree.map(lambda x, i=i: x[i], together.tuned)
    own = jax.tree.map(lambda x: x[0], alone.tuned)
    said, _ = run(found, mine, batch(3))
    expected, _ = run(found, own, batch(3))
    assert differ(said, expected) <= 1e-4
    before, _ = run(found, found.tuned, batch(3))
    assert differ(expected, before) > 1e-3


@pytest.fixture(scope='module')
def parts(tmp_path_factory):
  """family -> the parts that a file's prompts are put on."""

  @functools.cache
  def of(family: str):
    c = config_lib.default()
    c.method.name, folder = 'none', tmp_path_factory.mktemp(family)
    c.model = str(causal_models.FOLDER / family)
    if family == 't5':
      c.model, (model, params) = str(folder), network(family)
      save.save(folder, params, model.config)
    return assemble.parts(c)

  return of


@EVERY
def test_a_file_says_the_same_to_the_model_that_reads_it(
  method, family, parts, tmp_path
):
  """Of several tasks each prompt has its name, and is a row's by its place."""
  found, on, rows = case(method, family), parts(family), batch()
  path, tasks = tmp_path / 'p.safetensors', [str(k) for k in range(TASKS)]
  record = {'method': settings(method).method.to_dict(), 'tasks': tasks}
  prompt.write(path, found.made.method.kept(found.tuned), record)
  prompts = names.find(str(path))
  made, tuned, frozen = prompted.with_prompts(on.config, prompts, made=on)
  task_B = rows.pop('task')
  if len(prompts) > 1:
    rows['member'] = task_B
  else:
    tuned = tree.at(tuned, 0)
  logits = jax.jit(made.tuned_model.logits)(tuned, frozen, rows)
  said, _ = run(found, found.tuned, batch())
  assert differ(np.asarray(logits)[rows['target_mask']], said) <= 1e-5


@EVERY
def test_what_stands_beside_an_input_can_be_left_out_of_a_row(method, family):
  found = case(method, family)
  front = found.made.method.front
  if not front:
    pytest.skip('nothing stands beside the input')
  if 'input' in found.tuned:
    pytest.skip(
      'it changes every piece that is read; serving refuses such rows'
    )
  rows = batch() | {'front': np.asarray([0, front, 0, front], np.int32)}
  both, _ = program(found.made, found.tuned, found.frozen, rows)
  said = np.zeros_like(both)
  said[rows['target_mask']], _ = run(found, found.tuned, batch())
  bare = np.zeros_like(both)
  bare[rows['target_mask']] = untuned(family)
  for b, expected in enumerate((bare, said, bare, said)):
    mask = rows['target_mask'][b]
    assert differ(np.asarray(both)[b][mask], expected[b][mask]) <= 1e-5


@EVERY
def test_a_row_of_a_batch_is_the_row_alone_without_padding(method, family):
  found, rows = case(method, family), batch()
  logits, _ = program(found.made, found.tuned, found.frozen, rows)
  task_B = rows.pop('task')
  for b in (1, 2):  # each is a program of its own
    length, end = rows['input_mask'][b].sum(), rows['target_mask'][b].sum()
    sizes = {'inputs': length, 'input_mask': length}
    row = {k: v[b : b + 1, : sizes.get(k, end)] for k, v in rows.items()}
    row['task'] = task_B[b : b + 1]
    alone, _ = program(found.made, found.tuned, found.frozen, row)
    assert differ(alone[0], np.asarray(logits)[b, :end]) <= 1e-5


@EVERY
def test_greedy_steps_say_what_teacher_forcing_says(method, family):
  found, rows = case(method, family), batch()
  generate = answer.make_generate(found.made, sampler=sample.Greedy())
  ids = generate(found.tuned, found.frozen, rows, None, max_length=T)
  ids, end = np.asarray(ids), found.made.model.config.eos_id
  assert len(np.unique(ids)) > 1
  forced = rows | {'targets': ids, 'target_mask': np.ones_like(ids, bool)}
  logits, _ = program(found.made, found.tuned, found.frozen, forced)
  for said, want in zip(ids, np.asarray(logits).argmax(-1)):
    ends = np.flatnonzero(said == end)
    length = ends[0] + 1 if len(ends) else T
    np.testing.assert_array_equal(said[:length], want[:length])


@pytest.mark.parametrize('method,family', CHEAP)
def test_members_answer_together_what_each_says_alone(method, family):
  """As evaluation asks a population: greedily, and by log-probability."""
  found, rows = case(method, family), batch()
  each = found.tuned, found.first
  both = jax.tree.map(lambda *x: jnp.stack(x), *each)
  answers = answer.make_answers(found.made)
  ids = answers(both, found.frozen, rows, max_length=T)
  rng = np.random.default_rng(5)
  choices = rng.integers(6, 61, (B, 2, T)).astype(np.int32)
  lengths = rng.integers(1, T + 1, (B, 2))
  asked = rows | {'choices': choices, 'choice_lengths': lengths}
  nats, pieces = step.make_choices(found.made)(both, found.frozen, asked)
  np.testing.assert_array_equal(pieces, np.stack([lengths, lengths]))
  generate = answer.make_generate(found.made, sampler=sample.Greedy())
  for i, tuned in enumerate(each):
    own = generate(tuned, found.frozen, rows, None, max_length=T)
    np.testing.assert_array_equal(ids[i], own)
    for c in (0, 1):
      mask = np.arange(T) < lengths[:, c, None]
      forced = rows | {'targets': choices[:, c], 'target_mask': mask}
      logits, _ = program(found.made, tuned, found.frozen, forced)
      said, _ = rank.log_probs(logits, forced['targets'], target_mask_BxT=mask)
      assert differ(nats[i, :, c], said) <= 1e-5
  assert differ(nats[0], nats[1]) > 1e-2


@EVERY
@pytest.mark.parametrize(
  'changes',
  [{'remat': r} for r in config_lib.REMAT if r != 'products']
  + [{'scan': False}],
  ids=str,
)
def test_however_layers_are_run_the_numbers_are_the_same(
  method, family, changes
):
  found = case(method, family)
  assert found.made.model.remat == 'products' and found.made.model.scan
  model = found.made.model.clone(**changes)
  other = dataclasses.replace(
    found, made=dataclasses.replace(found.made, model=model)
  )
  expected = run(found, found.tuned, batch())
  assert differ(run(other, found.tuned, batch()), expected) <= 1e-5
