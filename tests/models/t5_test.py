"""T5 against transformers' torch T5: as recorded, and live where torch is."""

import dataclasses
import functools
import json
import os
import pathlib

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from goldens import t5_models

from ptjax.config import REMAT
from ptjax.models import ports, t5, t5_attention
from ptjax.weights import load

CASES = sorted(t5_models.CASES)
KEY = jax.random.key(0)


@functools.cache
def loaded(case: str) -> load.Loaded:
  return load.load(str(t5_models.FOLDER / case))


@functools.cache
def golden(case: str) -> dict[str, np.ndarray]:
  return dict(np.load(t5_models.FOLDER / case / 'golden.npz'))


def given(case: str) -> dict[str, np.ndarray]:
  return t5_models.inputs(loaded(case).config.vocab_size)


def difference(found, expected, *, name: str) -> float:
  """Largest difference over largest value; printed for BUILD.md."""
  found = np.asarray(found, np.float64)
  assert found.shape == expected.shape
  result = np.abs(found - expected).max() / np.abs(expected).max()
  print(f'\nrelative difference {name}: {result:.1e}')
  return result


def logits(case: str, ids, mask, decoder_ids, *, prompt=None, **changes):
  model = loaded(case).model.clone(**changes)
  variables = {'params': loaded(case).params}
  if prompt is not None:
    scope, name = ports.PROMPT
    variables[ports.COLLECTION] = {scope: {name: prompt}}
  return jax.jit(model.apply)(variables, ids, mask, decoder_ids)


@pytest.mark.parametrize(
  'case,scan,remat',
  [
    *((case, True, 'products') for case in CASES),
    ('t5_1_1', True, 'full'),
    ('t5_1_1', False, 'none'),
    ('t5_1_1', False, 'full'),
  ],
)
def test_logits_are_transformers(case, scan, remat):
  found = logits(case, **given(case), scan=scan, remat=remat)
  name = f'{case} scan={scan} remat={remat}'
  assert found.dtype == jnp.float32
  assert difference(found, golden(case)['logits'], name=name) <= 1e-5


@pytest.mark.parametrize(
  'case,where',
  [
    ('t5_1_0', 'front'),
    ('lm_adapt_bin', 'each_front'),
    ('mt5', 'each_front'),
    ('t5_1_1', 'middle'),
  ],
)
def test_virtual_tokens_are_rows_of_the_port(case, where):
  """[P, D] for all, [B, P, D] for each, and in the middle of the input."""
  arrays, vocab_size = given(case), loaded(case).config.vocab_size
  prompt = t5_models.prompt(loaded(case).config.d_model)
  rows = np.broadcast_to(np.arange(5) + vocab_size, (3, 5))
  at = 60 if where == 'middle' else 0
  found = logits(
    case,
    np.insert(arrays['ids'], [at] * 5, rows, axis=1),
    np.insert(arrays['mask'], [at] * 5, True, axis=1),
    arrays['decoder_ids'],
    prompt=prompt if where == 'each_front' else prompt[0],
  )
  expected = golden(case)[f'logits_{where}']
  assert difference(found, expected, name=f'{case} {where}') <= 1e-5


def stepper(case: str, *, max_length: int, **changes):
  """(cache after the encoder, step(ids, cache)) of a recorded case."""
  arrays, model = given(case), loaded(case).model.clone(**changes)
  return start(model, loaded(case).params, arrays, max_length=max_length)


def start(model, params, arrays, *, max_length: int):
  run = functools.partial(model.apply, {'params': params})

  @jax.jit
  def prefill(ids, mask):
    encoded = run(ids, mask, method='encode')
    return run(encoded, mask, max_length=max_length, method='init_cache')

  cache = prefill(arrays['ids'], arrays['mask'])
  return cache, jax.jit(functools.partial(run, method='decode_step'))


def greedy(config, cache, step, *, rows: int, steps: int) -> np.ndarray:
  """Ids from our own cache, one step at a time, as generate returns them."""
  found = [np.full(rows, config.decoder_start_id, np.int32)]
  ended = np.zeros(rows, bool)
  for _ in range(steps):
    row_logits, cache = step(found[-1], cache)
    best = np.asarray(row_logits).argmax(-1)
    found.append(np.where(ended, config.pad_id, best).astype(np.int32))
    ended |= best == config.eos_id
  return np.stack(found, axis=1)


@pytest.mark.parametrize(
  'case,scan', [*((case, True) for case in CASES), ('t5_1_1', False)]
)
def test_greedy_decoding_is_generate(case, scan):
  expected = golden(case)['greedy']
  rows, steps = expected.shape[0], expected.shape[1] - 1
  cache, step = stepper(case, max_length=steps, scan=scan)
  config = loaded(case).config
  found = greedy(config, cache, step, rows=rows, steps=steps)
  np.testing.assert_array_equal(found, expected)


def test_some_recorded_answers_end_early():
  """Else the test above says nothing about the end."""
  ended = [(golden(case)['greedy'] == 1).any() for case in CASES]
  assert sum(ended) >= 3


@pytest.mark.parametrize('case', ('t5_1_0', 't5_1_1'))
def test_cached_steps_are_teacher_forcing(case):
  cache, step = stepper(case, max_length=12)
  for i, ids_B in enumerate(given(case)['decoder_ids'].T):
    found, cache = step(ids_B, cache)
    expected = golden(case)['logits'][:, i]
    assert difference(found, expected, name=f'{case} step {i}') <= 1e-5


def test_cache_says_its_batch_axes():
  cache, _ = stepper('t5_1_1', max_length=12)
  assert cache.keys() == t5.CACHE_BATCH_AXES.keys()
  for name, axis in t5.CACHE_BATCH_AXES.items():
    assert axis is None or cache[name].shape[axis] == 3
    assert axis is not None or cache[name].ndim == 0


def loss_of(model, prompt, params) -> jax.Array:
  """Some number that depends on the prompt in the middle of the input."""
  arrays = given('t5_1_1')
  ids = arrays['ids'].copy()
  ids[:, 50:55] = np.arange(5) + model.config.vocab_size
  found = model.apply(
    {'params': params, 'ports': {'token_embedder': {'prompt': prompt}}},
    ids,
    arrays['mask'],
    arrays['decoder_ids'],
  )
  return jax.nn.logsumexp(found, axis=-1).sum()


def test_gradients_of_the_prompt_are_the_same_however_layers_are_run():
  prompt, gradients = t5_models.prompt(10)[0], []
  ways = [*((True, remat) for remat in REMAT), (False, 'none'), (False, 'full')]
  for scan, remat in ways:
    model = loaded('t5_1_1').model.clone(scan=scan, remat=remat)
    gradient = jax.jit(jax.grad(functools.partial(loss_of, model)))
    gradients.append(np.asarray(gradient(prompt, loaded('t5_1_1').params)))
  assert (np.abs(gradients[0]).max(axis=-1) > 0).all()
  for other in gradients[1:]:
    assert difference(other, gradients[0], name='gradient') <= 1e-5


def test_every_parameter_gets_a_gradient():
  loss = functools.partial(loss_of, loaded('t5_1_1').model)
  prompt = t5_models.prompt(10)[0]
  gradients = jax.jit(jax.grad(loss, 1))(prompt, loaded('t5_1_1').params)
  for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
    axes = tuple(range(1, leaf.ndim)) if 'layers' in str(path) else None
    assert (np.abs(leaf).max(axis=axes) > 0).all(), f'none for {path}'


def test_a_new_network_begins_as_t5_does():
  """Layers differ from each other; sizes keep the scores near one."""
  config = dataclasses.replace(
    loaded('t5_1_1').config, d_model=64, d_ff=96, num_heads=4, d_kv=16
  )
  ids = jnp.zeros((1, 2), jnp.int32)
  init = jax.jit(t5.T5(config).init)
  boxed = init(jax.random.key(0, impl='rbg'), ids, ids == 0, ids)
  params = nn.meta.unbox(boxed)['params']
  layer = params['decoder']['layers']
  query = np.asarray(layer['cross_attention']['query']['kernel'])
  assert np.abs(query[0] - query[1]).mean() > 0.5 * np.abs(query).mean()
  for value, expected in (
    (query, (64 * 16) ** -0.5),
    (layer['cross_attention']['key']['kernel'], 64**-0.5),
    (layer['mlp']['wo']['kernel'], 96**-0.5),
    (params['token_embedder']['embedding'], 1.0),
    (params['head']['kernel'], 64**-0.5),
  ):
    np.testing.assert_allclose(np.std(value), expected, rtol=0.05)
  assert (np.asarray(layer['pre_mlp_norm']['scale']) == 1).all()


def test_padding_on_the_right_changes_nothing():
  arrays = given('t5_1_1')
  ids, mask = arrays['ids'][:1, :40], arrays['mask'][:1, :40]
  padded_ids = np.pad(ids, ((0, 0), (0, 24)), constant_values=33)
  padded_mask = np.pad(mask, ((0, 0), (0, 24)))
  one = logits('t5_1_1', ids, mask, arrays['decoder_ids'][:1])
  two = logits('t5_1_1', padded_ids, padded_mask, arrays['decoder_ids'][:1])
  assert difference(one, np.asarray(two), name='right padding') <= 1e-5


@pytest.mark.parametrize('case', ('t5_1_0', 't5_1_1'))
def test_a_row_of_padding_alone_is_finite_and_leaves_the_others(case):
  arrays = given(case)
  expected = np.asarray(logits(case, **arrays))
  arrays['mask'] = arrays['mask'] & (np.arange(3) != 1)[:, None]
  found = np.asarray(logits(case, **arrays))
  assert np.isfinite(found).all()
  np.testing.assert_allclose(found[[0, 2]], expected[[0, 2]], rtol=1e-5)


def test_an_id_that_nobody_has_is_not_silently_another():
  arrays = given('t5_1_1')
  vocab_size = loaded('t5_1_1').config.vocab_size
  arrays['ids'][0, 3] = vocab_size
  assert np.isnan(logits('t5_1_1', **arrays)[0]).all()
  arrays['ids'][0, 3] = vocab_size + 5
  prompt = t5_models.prompt(10)[0]
  assert np.isnan(logits('t5_1_1', **arrays, prompt=prompt)[0]).all()


def test_bfloat16_computes_in_bfloat16_and_answers_in_float32():
  found = logits('t5_1_0', **given('t5_1_0'), dtype=jnp.bfloat16)
  assert found.dtype == jnp.float32
  expected = golden('t5_1_0')['logits']
  error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
  assert 1e-4 < error < 0.02


def test_dropout_is_off_unless_asked_for():
  arrays, model = given('t5_1_1'), loaded('t5_1_1').model
  config = dataclasses.replace(model.config, dropout_rate=0.3)
  model = model.clone(config=config)
  arguments = arrays['ids'], arrays['mask'], arrays['decoder_ids']
  params = {'params': loaded('t5_1_1').params}

  @jax.jit
  def dropped(seed):
    rngs = {'dropout': jax.random.key(seed, impl='rbg')}
    return model.apply(params, *arguments, deterministic=False, rngs=rngs)

  still = jax.jit(model.apply)(params, *arguments)
  assert difference(still, golden('t5_1_1')['logits'], name='still') <= 1e-5
  np.testing.assert_array_equal(dropped(1), dropped(1))
  assert np.abs(dropped(1) - still).max() > 1e-3
  assert np.abs(dropped(1) - dropped(2)).max() > 1e-3


@pytest.mark.parametrize(
  'name', dict(np.load(t5_models.FOLDER / 'buckets.npz'))
)
def test_buckets_are_transformers(name):
  expected = np.load(t5_models.FOLDER / 'buckets.npz')[name]
  num_buckets, max_distance, bidirectional = map(int, name.split('-'))
  found = t5_attention.relative_buckets(
    np.arange(-700, 701),
    num_buckets=num_buckets,
    max_distance=max_distance,
    bidirectional=bool(bidirectional),
  )
  np.testing.assert_array_equal(found, expected)


def test_every_parameter_names_its_axes():
  config = loaded('t5_1_1').config
  ids = jax.ShapeDtypeStruct((1, 4), jnp.int32)
  mask = jax.ShapeDtypeStruct((1, 4), jnp.bool_)
  boxed = jax.eval_shape(t5.T5(config).init, KEY, ids, mask, ids)['params']
  found = flax.traverse_util.flatten_dict(boxed, sep='/')
  expected = flax.traverse_util.flatten_dict(loaded('t5_1_1').params, sep='/')
  assert found.keys() == expected.keys()
  for name, box in found.items():
    assert isinstance(box, nn.LogicallyPartitioned), name
    assert len(box.names) == box.value.ndim and None not in box.names, name
    assert ('layers' in box.names) == ('/layers/' in name), name
    assert box.value.shape == expected[name].shape, name


def test_a_deeper_network_is_not_a_longer_program():
  def program(layers: int, scan: bool) -> str:
    config = dataclasses.replace(
      loaded('t5_1_1').config, num_layers=layers, num_decoder_layers=layers
    )
    model = t5.T5(config, scan=scan)
    ids = jax.ShapeDtypeStruct((1, 4), jnp.int32)
    mask = jax.ShapeDtypeStruct((1, 4), jnp.bool_)
    boxed = jax.eval_shape(model.init, KEY, ids, mask, ids)
    lowered = jax.jit(model.apply).lower(nn.meta.unbox(boxed), ids, mask, ids)
    return lowered.as_text()

  few, many = program(2, True), program(5, True)
  assert few.count('dot_general') == many.count('dot_general')
  assert many.count('stablehlo.while') == 2  # the encoder and the decoder
  assert 'stablehlo.while' not in program(5, False)


@pytest.mark.parametrize('case', CASES)
def test_logits_are_those_of_torch_today(case, tmp_path, seed=11):
  """Live: other weights, saved and computed by the torch of this machine."""
  os.environ.setdefault('OMP_NUM_THREADS', '1')
  pytest.importorskip('torch', reason='torch is not installed')
  pytest.importorskip('transformers')
  described = t5_models.CASES[case]
  network = t5_models.build(described, seed)
  t5_models.save(network, described, tmp_path)
  arrays = t5_models.inputs(network.config.vocab_size, seed)
  expected = t5_models.computed(network, arrays)
  ours = load.load(str(tmp_path))
  run = jax.jit(ours.model.apply)
  found = run({'params': ours.params}, **_named(arrays))
  name = f'live {case} {seed}'
  assert difference(found, expected['logits'], name=name) <= 1e-5
  rows, steps = expected['greedy'].shape[0], expected['greedy'].shape[1] - 1
  cache, step = start(ours.model, ours.params, arrays, max_length=steps)
  answers = greedy(ours.config, cache, step, rows=rows, steps=steps)
  np.testing.assert_array_equal(answers, expected['greedy'])


def _named(arrays):
  return {
    'inputs_BxJ': arrays['ids'],
    'input_mask_BxS': arrays['mask'],
    'decoder_ids_BxT': arrays['decoder_ids'],
  }


def test_t5x_goldens(shared: pathlib.Path):
  """T5X's own network, with and without a prompt: logits and scores."""
  folder = shared / 'acceptance' / 't5x_tiny'
  golden = np.load(folder / 'golden.npz')
  ours = load.load(
    str(folder / 'checkpoint_3'), relative_attention_max_distance=8
  )
  prompt = np.load(folder / 'prompt_5x256.npy')[:, :4].astype(np.float32)
  np.testing.assert_array_equal(prompt, golden['prompt'])
  ids = golden['ei']
  virtual = np.arange(5, dtype=np.int32) + ours.config.vocab_size
  rows = np.broadcast_to(virtual, (len(ids), 5))
  prompted = np.concatenate([rows, ids], axis=1)
  apply = jax.jit(ours.model.apply)
  for suffix, inputs, mask in (
    ('', ids, ids != 0),
    ('_prompt', prompted, prompted != 0),
  ):
    found = apply(
      {'params': ours.params, 'ports': {'token_embedder': {'prompt': prompt}}},
      inputs,
      mask,
      golden['di'],
    )
    name = f't5x logits{suffix}'
    # Behind the end T5X masks the target's own padding, and nobody looks.
    real = golden['ti'] != 0
    expected = golden[f'logits{suffix}'][real]
    assert difference(found[real], expected, name=name) <= 1e-5
    log_probs = np.asarray(jax.nn.log_softmax(found, axis=-1))
    picked = np.take_along_axis(log_probs, golden['ti'][..., None], axis=-1)
    scores = (picked[..., 0] * real).sum(axis=-1)
    name = f't5x scores{suffix}'
    assert difference(scores, golden[f'scores{suffix}'], name=name) <= 1e-6
  np.testing.assert_allclose(scores, [-19.545769, -62.202065], rtol=1e-6)


def test_the_recorded_configs_hold_the_tie_flag_trap():
  """Untied by its tensors, tied by its flag: what transformers 5 writes."""
  folder = t5_models.FOLDER / 't5_1_1'
  assert json.loads((folder / 'config.json').read_text())['tie_word_embeddings']
  assert not loaded('t5_1_1').config.tied
  assert not loaded('t5_1_1').config.scale_logits
  assert loaded('t5_1_0').config.tied and loaded('t5_1_0').config.scale_logits
