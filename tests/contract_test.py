"""One contract for every method on every family of models.

A method that trains has a row in `contract.METHODS`, and each test is a
property of all rows that one program of logits and gradient shows. The families
that compile for long are under `-m full`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract import (
  EACH,
  METHODS,
  TASKS,
  assert_same_bits,
  bare,
  batch,
  case,
  differ,
  network,
  program,
  run,
  untuned,
)

from ptjax import step, tree
from ptjax.export import merge, prompt
from ptjax.methods import base
from ptjax.weights import families

# At step 0 these are the untuned model.
UNTUNED_FIRST = ('model_tuning', 'lora', 'ia3', 'bitfit', 'adapters')


def test_every_method_that_trains_has_a_row():
  assert {*METHODS, 'hard_prompt', 'none'} == set(base.NAMES)


@EACH
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


@EACH
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


@EACH
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


@EACH
def test_step_0_is_the_untuned_model_and_later_ones_are_not(method, family):
  found = case(method, family)
  if method in UNTUNED_FIRST:
    first, _ = run(found, found.first, batch())
    assert differ(first, untuned(family)) <= 1e-6
  logits, _ = run(found, found.tuned, batch())
  assert differ(logits, untuned(family)) > 1e-2


@EACH
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
  expected, _ = program(bare(family), {}, frozen, batch())
  logits, _ = run(found, found.tuned, batch())
  mask = batch()['target_mask']
  assert differ(logits, np.asarray(expected)[mask]) <= 1e-5


@EACH
def test_rows_depend_on_no_other_row_and_on_no_padding(method, family):
  found, rows = case(method, family), batch()
  logits, _ = program(found.made, found.tuned, found.frozen, rows)
  other = {name: array[::-1].copy() for name, array in rows.items()}
  other['inputs'][~other['input_mask']] = 7
  other['targets'][~other['target_mask']] = 8
  turned, _ = program(found.made, found.tuned, found.frozen, other)
  mask = rows['target_mask']
  assert (
    differ(np.asarray(turned)[::-1][mask], np.asarray(logits)[mask]) <= 1e-5
  )


@EACH
def test_a_file_holds_the_same_bits(method, family, tmp_path):
  found = case(method, family)
  kept = found.made.method.kept(found.tuned)
  prompt.write(tmp_path / 'p.safetensors', kept, {})
  arrays, _ = prompt.read(tmp_path / 'p.safetensors')
  assert_same_bits(prompt.nested(arrays), kept)
  # What it holds says what was trained.
  ports = found.made.method.expand(found.tuned)
  assert_same_bits(found.made.method.expand(kept), ports)
