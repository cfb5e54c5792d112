"""One contract for every method on every family of models.

A method that trains has a row in METHODS, and each test is a property of all
rows. What is compiled is shared: one program of logits and gradient for each
method and family. The families that compile for long, and what needs a step or
a decoder, are under `-m full`.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from goldens import causal_models

from ptjax import checkpoint, cross_entropy, optim, step, tree
from ptjax import config as config_lib
from ptjax.export import merge, prompt
from ptjax.methods import base
from ptjax.predict import rank, sample
from ptjax.tuned import base as tuned_base
from ptjax.weights import families, load

# What trains, with settings that tell its shapes apart.
METHODS = {
  'soft_prompt': {'length': 3, 'init': 'uniform'},
  'p_tuning': {'length': 3, 'hidden': 5},
  'prefix_tuning': {'length': 3, 'init': 'labels'},
  'model_tuning': {},
  'lora': {'rank': 2},
  'ia3': {},
  'bitfit': {},
  'adapters': {'bottleneck': 2},
  'input_tuning': {'length': 3, 'init': 'uniform', 'hidden': 7},
  'multitask_prompt': {'length': 3, 'init': 'uniform', 'ranks': 2},
}
# The same by another setting.
VARIANTS = {
  'soft_prompt around': {
    'name': 'soft_prompt',
    'template': '{2} {#9} {input} {#7} {1}',
  },
  'p_tuning by an mlp, behind': {
    'name': 'p_tuning',
    'encoder': 'mlp',
    'template': '{input} {3}',
  },
  'prefix_tuning by an mlp': {
    'name': 'prefix_tuning',
    'length': 3,
    'hidden': 4,
  },
}
# At step 0 these are the untuned model.
UNTUNED_FIRST = ('model_tuning', 'lora', 'ia3', 'bitfit', 'adapters')
B, L, T = 4, 9, 5
TASKS = 3

FULL = pytest.mark.full
FAMILIES = ('t5', 'gpt2', 'pythia', 'llama')
CHEAP = [(m, f) for f in ('t5', 'gpt2') for m in METHODS]
ALL = [(m, f) for f in FAMILIES for m in {**METHODS, **VARIANTS}]
CASES = [
  pytest.param(*case, marks=() if case in CHEAP else FULL) for case in ALL
]
contract = pytest.mark.parametrize('method,family', CASES)


@functools.cache
def network(family: str) -> tuple[Any, Any]:
  """(model, params)."""
  if family == 't5':
    return tiny.t5()
  found = load.load(str(causal_models.FOLDER / family))
  return found.model, found.params


def settings(method: str):
  c = config_lib.default()
  own = {**METHODS, **VARIANTS}.get(method, {})
  c.method.update({'name': method, **own})
  return config_lib.resolved(c)


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
  """A method on a model: at its start, and at random values."""

  made: tuned_base.TunedModel
  tx: Any
  first: Any
  tuned: Any
  frozen: Any


@functools.cache
def case(method: str, family: str) -> Case:
  (model, params), c = network(family), settings(method)
  made = tuned_base.make(model, base.make(c.method))
  first, frozen = made.init(jax.random.key(1), params, tasks=TASKS)
  rng = np.random.default_rng(2)
  size = 0.03 if method == 'model_tuning' else 0.3

  def moved(leaf):
    noise = size * rng.normal(size=leaf.shape)
    return leaf + jnp.asarray(noise, jnp.float32)

  def tx(rate):
    return optim.make(c.optimizer, steps=9, lr=rate)

  return Case(made, tx, first, jax.tree.map(moved, first), frozen)


def batch(seed: int = 0) -> dict[str, np.ndarray]:
  """Rows of unequal lengths, padded behind by ids that look real.

  What has something of its own for each task reads it by `task`.
  """
  rng = np.random.default_rng(seed)
  lengths, ends = rng.integers(1, L + 1, B), rng.integers(1, T + 1, B)
  lengths[0], ends[1] = L, T
  return {
    'inputs': rng.integers(6, 61, (B, L)).astype(np.int32),
    'input_mask': np.arange(L) < lengths[:, None],
    'targets': rng.integers(6, 61, (B, T)).astype(np.int32),
    'target_mask': np.arange(T) < ends[:, None],
    'task': np.array([2, 0, 1, 2], np.int32),
  }


@functools.partial(jax.jit, static_argnums=0)
def _run(made, tuned, frozen, rows):
  def loss(tuned):
    logits = made.logits(tuned, frozen, rows)
    mask = rows['target_mask']
    total = cross_entropy.of_logits(logits, rows['targets'], mask_BxT=mask)
    return total, logits

  gradient, logits = jax.grad(loss, has_aux=True)(tuned)
  return logits, gradient


def run(case_: Case, tuned: Any, rows: Any) -> tuple[np.ndarray, Any]:
  """(logits of real targets [N, V], gradient)."""
  logits, gradient = _run(case_.made, tuned, case_.frozen, rows)
  return np.asarray(logits)[rows['target_mask']], gradient


def bare(family: str) -> tuned_base.TunedModel:
  return tuned_base.make(network(family)[0], base.make(settings('none').method))


@functools.cache
def untuned(family: str) -> np.ndarray:
  params = network(family)[1]
  logits, _ = _run(bare(family), {}, {'model': params}, batch())
  return np.asarray(logits)[batch()['target_mask']]


def differ(found: Any, expected: Any) -> float:
  """The largest difference of two trees over the largest value."""
  both = jax.tree.leaves(found), jax.tree.leaves(expected)
  pairs = list(zip(*both, strict=True))
  size = max(np.abs(b).max() for _, b in pairs)
  # Of numpy, which keeps a NaN: Python's max leaves out all but a first one.
  return np.max([np.abs(np.asarray(a) - b).max() for a, b in pairs]) / size


def assert_same_bits(found: Any, expected: Any) -> None:
  jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_every_method_that_trains_has_a_row():
  assert {*METHODS, 'hard_prompt', 'none'} == set(base.NAMES)


@contract
def test_shapes_are_those_declared_and_those_that_a_map_has(method, family):
  found, params = case(method, family), network(family)[1]
  own = {
    name: leaf.shape
    for name, leaf in tree.flatten(found.first).items()
    if not name.startswith('model/')
  }
  said = found.made.own_shapes(params)
  if method == 'multitask_prompt':  # which says it of one task
    for name in ('multitask/cols', 'multitask/rows'):
      said[name] = (TASKS, *said[name][1:])
  assert own == said
  assert {x.dtype for x in jax.tree.leaves(found.first)} == {jnp.float32.dtype}
  flat = tree.flatten(params)
  joined = tree.join(found.first, found.frozen)
  joined.pop('model')
  for name, leaf in tree.flatten(found.made.method.expand(joined)).items():
    scope, _, port = name.rpartition('/')
    if scope == 'token_embedder':
      width = found.made.model.config.d_model
      assert leaf.shape == of_embedding(width)[port]
      continue
    if port.startswith('prefix_'):
      of = found.made.attentions[scope]
      places = (of.size, 3) if port == 'prefix_key' else (3, of.size)
      assert leaf.shape == (of.layers, of.heads, *places)
      continue
    bias = flat.get(f'{scope}/bias')
    kernel = flat.get(f'{scope}/kernel')
    if kernel is None:
      assert leaf.shape == bias.shape
      continue
    lead = kernel.shape[: 'layers' in scope]
    inputs, *features = kernel.shape[len(lead) :]
    shapes = {
      'lora_a': (inputs, 2),
      'lora_b': (2, *features),
      'scale': tuple(features),
      'scale_in': (inputs,),
      'delta_bias': tuple(features),
      'adapter_down': (*features, 2),
      'adapter_down_bias': (2,),
      'adapter_up': (2, *features),
      'adapter_up_bias': tuple(features),
    }
    assert leaf.shape == (*lead, *shapes[port]), name


def of_embedding(width: int) -> dict[str, tuple[int, int]]:
  return {
    'prompt': (3, width),
    'input_down': (width, 7),
    'input_up': (7, width),
  }


@contract
def test_only_what_trains_is_in_the_state(method, family):
  found = case(method, family)
  model = {f'model/{name}' for name in tree.flatten(network(family)[1])}
  norms = {name for name in model if 'norm' in name}
  moved = {'model_tuning': model, 'adapters': norms}.get(method, set())
  trained = set(tree.flatten(found.first))
  assert {name for name in trained if name.startswith('model/')} == moved
  assert set(tree.flatten(found.frozen)) == model - moved
  key = jax.random.key(0)
  state = jax.eval_shape(
    lambda t: step.init_state(t, found.tx(0.1), rng=key), found.first
  )
  assert tree.flatten(state.tuned).keys() == tree.flatten(found.first).keys()
  # Two moments at most, and counters.
  own, scalars = tree.count(found.first), len(jax.tree.leaves(state))
  assert tree.count(state.opt_state) <= 2 * own + scalars


@contract
def test_each_trained_array_has_a_gradient_in_each_layer_and_task(
  method, family
):
  found = case(method, family)
  _, gradient = run(found, found.tuned, batch())
  named = tree.flatten(gradient)
  assert named.keys() == tree.flatten(found.tuned).keys()
  largest = max(float(np.abs(leaf).max()) for leaf in named.values())
  for name, leaf in named.items():
    several = 'layers' in name or name in ('multitask/cols', 'multitask/rows')
    axes = tuple(range(1, leaf.ndim)) if several else None
    assert (np.abs(leaf).max(axis=axes) > 1e-5 * largest).all(), name


@contract
def test_step_0_is_the_untuned_model_and_later_ones_are_not(method, family):
  found = case(method, family)
  if method in UNTUNED_FIRST:
    first, _ = run(found, found.first, batch())
    assert differ(first, untuned(family)) <= 1e-6
  logits, _ = run(found, found.tuned, batch())
  assert differ(logits, untuned(family)) > 1e-2


@contract
def test_ports_say_what_merged_weights_say(method, family):
  found, (_, params) = case(method, family), network(family)
  joined = tree.join(found.tuned, found.frozen)
  joined.pop('model')
  ports = found.made.method.expand(joined)
  biases = any(n.endswith('/bias') for n in tree.flatten(params))
  new = method == 'bitfit' and not biases
  front = found.made.method.front
  if not ports or front or new or method == 'adapters':
    pytest.skip('no weights of the model say this')
  config = network(family)[0].config
  rows = families.of_config(config).tensors(config)
  frozen = {'model': merge.folded(params, ports, rows)}
  expected, _ = _run(bare(family), {}, frozen, batch())
  logits, _ = run(found, found.tuned, batch())
  mask = batch()['target_mask']
  assert differ(logits, np.asarray(expected)[mask]) <= 1e-5


@contract
def test_rows_depend_on_no_other_row_and_on_no_padding(method, family):
  found, rows = case(method, family), batch()
  logits, _ = _run(found.made, found.tuned, found.frozen, rows)
  other = {name: array[::-1].copy() for name, array in rows.items()}
  other['inputs'][~other['input_mask']] = 7
  other['targets'][~other['target_mask']] = 8
  turned, _ = _run(found.made, found.tuned, found.frozen, other)
  mask = rows['target_mask']
  assert (
    differ(np.asarray(turned)[::-1][mask], np.asarray(logits)[mask]) <= 1e-5
  )


@contract
def test_a_file_holds_the_same_bits(method, family, tmp_path):
  found = case(method, family)
  kept = found.made.method.kept(found.tuned)
  prompt.write(tmp_path / 'p.safetensors', kept, {})
  arrays, _ = prompt.read(tmp_path / 'p.safetensors')
  assert_same_bits(prompt.nested(arrays), kept)
  # What it holds says what was trained.
  ports = found.made.method.expand(found.tuned)
  assert_same_bits(found.made.method.expand(kept), ports)


# What needs a step or a decoder compiles for seconds.
EVERY = pytest.mark.parametrize('method,family', ALL)


def begin(found: Case) -> step.TrainState:
  """The state of one member: with the member axis, and copied, as it goes."""
  tuned = jax.tree.map(jnp.copy, found.tuned)
  state = step.init_state(tuned, found.tx(0.1), rng=jax.random.key(3))
  return jax.tree.map(lambda x: x[None], state)


def stepper(found: Case, *rates: float):
  return step.make_train_step(found.made, found.tx, rates=rates)


def rows_of(*seeds: int):
  return jax.tree.map(lambda *x: np.stack(x), *map(batch, seeds))


@FULL
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


@FULL
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


@FULL
@EVERY
def test_what_stands_beside_an_input_can_be_left_out_of_a_row(method, family):
  found = case(method, family)
  front = found.made.method.front
  if not front:
    pytest.skip('nothing stands beside the input')
  rows = batch() | {'front': np.asarray([0, front, 0, front], np.int32)}
  both, _ = _run(found.made, found.tuned, found.frozen, rows)
  said = np.zeros_like(both)
  said[rows['target_mask']], _ = run(found, found.tuned, batch())
  bare = np.zeros_like(both)
  bare[rows['target_mask']] = untuned(family)
  for b, expected in enumerate((bare, said, bare, said)):
    mask = rows['target_mask'][b]
    assert differ(np.asarray(both)[b][mask], expected[b][mask]) <= 1e-5


@FULL
@EVERY
def test_a_row_of_a_batch_is_the_row_alone_without_padding(method, family):
  found, rows = case(method, family), batch()
  logits, _ = _run(found.made, found.tuned, found.frozen, rows)
  task_B = rows.pop('task')
  for b in (1, 2):  # each is a program of its own
    length, end = rows['input_mask'][b].sum(), rows['target_mask'][b].sum()
    sizes = {'inputs': length, 'input_mask': length}
    row = {k: v[b : b + 1, : sizes.get(k, end)] for k, v in rows.items()}
    row['task'] = task_B[b : b + 1]
    alone, _ = _run(found.made, found.tuned, found.frozen, row)
    assert differ(alone[0], np.asarray(logits)[b, :end]) <= 1e-5


@FULL
@EVERY
def test_greedy_steps_say_what_teacher_forcing_says(method, family):
  found, rows = case(method, family), batch()
  generate = step.make_generate(found.made, sampler=sample.Greedy())
  ids = generate(found.tuned, found.frozen, rows, None, max_length=T)
  ids, end = np.asarray(ids), found.made.model.config.eos_id
  assert len(np.unique(ids)) > 1
  forced = rows | {'targets': ids, 'target_mask': np.ones_like(ids, bool)}
  logits, _ = _run(found.made, found.tuned, found.frozen, forced)
  for said, want in zip(ids, np.asarray(logits).argmax(-1)):
    ends = np.flatnonzero(said == end)
    length = ends[0] + 1 if len(ends) else T
    np.testing.assert_array_equal(said[:length], want[:length])


@FULL
@pytest.mark.parametrize('method,family', CHEAP)
def test_members_answer_together_what_each_says_alone(method, family):
  """As evaluation asks a population: greedily, and by log-probability."""
  found, rows = case(method, family), batch()
  each = found.tuned, found.first
  both = jax.tree.map(lambda *x: jnp.stack(x), *each)
  answers = step.make_answers(found.made)
  ids = answers(both, found.frozen, rows, max_length=T)
  rng = np.random.default_rng(5)
  choices = rng.integers(6, 61, (B, 2, T)).astype(np.int32)
  lengths = rng.integers(1, T + 1, (B, 2))
  asked = rows | {'choices': choices, 'choice_lengths': lengths}
  nats, pieces = step.make_choices(found.made)(both, found.frozen, asked)
  np.testing.assert_array_equal(pieces, np.stack([lengths, lengths]))
  generate = step.make_generate(found.made, sampler=sample.Greedy())
  for i, tuned in enumerate(each):
    own = generate(tuned, found.frozen, rows, None, max_length=T)
    np.testing.assert_array_equal(ids[i], own)
    for c in (0, 1):
      mask = np.arange(T) < lengths[:, c, None]
      forced = rows | {'targets': choices[:, c], 'target_mask': mask}
      logits, _ = _run(found.made, tuned, found.frozen, forced)
      said, _ = rank.log_probs(logits, forced['targets'], target_mask_BxT=mask)
      assert differ(nats[i, :, c], said) <= 1e-5
  assert differ(nats[0], nats[1]) > 1e-2


@FULL
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
