"""GPTs against transformers' torch models: as recorded, and live."""

import dataclasses
import functools
import os

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from goldens import causal_models

from ptjax.config import REMAT, UserError
from ptjax.models import causal, ports
from ptjax.predict import sample
from ptjax.weights import load

CASES = sorted(causal_models.CASES)
FAMILIES = ('gpt2', 'llama', 'pythia')
LENGTH = 5  # of the recorded prompts


@functools.cache
def loaded(case: str) -> load.Loaded:
  return load.load(str(causal_models.FOLDER / case))


@functools.cache
def golden(case: str) -> dict[str, np.ndarray]:
  return dict(np.load(causal_models.FOLDER / case / 'golden.npz'))


def difference(found, expected, *, name: str) -> float:
  """Largest difference over largest value; printed for BUILD.md."""
  found = np.asarray(found, np.float64)
  assert found.shape == expected.shape and np.isfinite(expected).all()
  result = np.abs(found - expected).max() / np.abs(expected).max()
  print(f'\nrelative difference {name}: {result:.1e}')
  return result


def variables(case: str, prompt=None, dtype=np.float32):
  params = jax.tree.map(lambda x: x.astype(dtype), loaded(case).params)
  if prompt is None:
    return {'params': params}
  scope, name = ports.PROMPT
  return {'params': params, ports.COLLECTION: {scope: {name: prompt}}}


def virtual(case: str, rows: int = 1) -> np.ndarray:
  first = loaded(case).config.vocab_size
  return np.broadcast_to(np.arange(LENGTH) + first, (rows, LENGTH))


def rows_of(case: str) -> np.ndarray:
  return causal_models.prompt(loaded(case).config.d_model)


@functools.partial(jax.jit, static_argnums=0)
def plain(model, held, ids, mask):
  return model.apply(held, ids, mask)


@functools.partial(jax.jit, static_argnums=0)
def behind(model, held, front, ids, mask):
  """Logits of ids that read `front` as a prefix, computed once."""
  real = jnp.ones(front.shape, bool)
  prefix = model.apply(held, front, real, method='key_values')
  return model.apply(held, ids, mask, prefix=prefix)


def concatenated(model, held, front, ids, mask):
  front = np.broadcast_to(front, (len(ids), front.shape[1]))
  return plain(
    model,
    held,
    np.concatenate([front, ids], axis=1),
    np.concatenate([np.ones_like(front, bool), mask], axis=1),
  )[:, front.shape[1] :]


def recorded(logits, mask):
  """Those that torch's were kept of: some positions, and real tokens only."""
  step = causal_models.EVERY
  return np.asarray(logits)[:, ::step][mask[:, ::step]]


def long(*cases):
  """Cases that compile for long, and say little more than the others."""
  return [pytest.param(*case, marks=pytest.mark.full) for case in cases]


@pytest.mark.parametrize(
  'case,scan,remat',
  [
    *((case, True, 'products') for case in CASES),
    *long(
      ('pythia', True, 'full'),
      ('pythia', False, 'none'),
      ('pythia', False, 'full'),
    ),
  ],
)
def test_logits_are_transformers(case, scan, remat):
  given = causal_models.inputs()
  model = loaded(case).model.clone(scan=scan, remat=remat)
  found = plain(model, variables(case), given['ids'], given['mask'])
  assert found.dtype == jnp.float32
  found, expected = (
    recorded(found, given['mask']),
    golden(case)['logits'][given['mask'][:, :: causal_models.EVERY]],
  )
  name = f'{case} scan={scan} remat={remat}'
  assert difference(found, expected, name=name) <= 1e-5


@pytest.mark.parametrize(
  'case,where',
  [
    *((case, 'front') for case in CASES),
    *long(*((case, 'each_front') for case in FAMILIES)),
  ],
)
def test_a_prefix_is_the_prompt_in_front(case, where):
  """Both are transformers' with the rows put in front, once and for each."""
  given, rows = causal_models.inputs(), rows_of(case)
  each = where == 'each_front'
  held = variables(case, rows if each else rows[0])
  front = virtual(case, 3 if each else 1)
  arguments = loaded(case).model, held, front, given['ids'], given['mask']
  kept = given['mask'][:, :: causal_models.EVERY]
  expected = golden(case)[f'logits_{where}'][kept]
  for run in (behind, concatenated):
    found = recorded(run(*arguments), given['mask'])
    name = f'{case} {where} {run.__name__}'
    assert difference(found, expected, name=name) <= 1e-5


@pytest.mark.parametrize('case', FAMILIES)
def test_padding_on_either_side_is_the_single_example(case):
  given, held = causal_models.questions(), variables(case, rows_of(case)[0])
  model, front = loaded(case).model, virtual(case)
  ids, mask = given['ids'], given['mask']
  left = behind(model, held, front, ids, mask)
  lengths = mask.sum(axis=1)
  turned = [np.roll(row, n) for row, n in zip(ids, lengths)]
  turned_mask = [np.roll(row, n) for row, n in zip(mask, lengths)]
  right = behind(model, held, front, np.stack(turned), np.stack(turned_mask))
  for row, n in list(enumerate(lengths))[1::2]:
    alone = ids[row : row + 1, -n:]
    expected = np.asarray(
      concatenated(model, held, front, alone, np.ones_like(alone, bool))
    )[0]
    found = np.asarray(left)[row, -n:], np.asarray(right)[row, :n]
    for side, logits in zip(('left', 'right'), found):
      name = f'{case} padded {side} by {20 - n}'
      assert difference(logits, expected, name=name) <= 1e-5


@functools.partial(jax.jit, static_argnums=(0, 1))
def greedy(model, steps, held, ids, mask, prefix=None):
  run = functools.partial(model.apply, held)
  logits, cache = run(
    ids, mask, prefix=prefix, max_length=steps, method='prefill'
  )
  return sample.generate(
    functools.partial(run, method='decode_step'),
    cache,
    batch_size=len(ids),
    first_BxV=logits,
    eos_id=model.config.eos_id,
    pad_id=model.config.pad_id,
    max_length=steps,
  )


@pytest.mark.parametrize(
  'case,scan',
  [
    *((case, True) for case in FAMILIES),
    *long(*((case, True) for case in CASES if case not in FAMILIES)),
    *long(('llama', False)),
  ],
)
def test_greedy_decoding_is_generate(case, scan):
  model, held = loaded(case).model.clone(scan=scan), variables(case)
  given, expected = causal_models.questions(), golden(case)['greedy']
  left = greedy(model, expected.shape[1], held, **given)
  np.testing.assert_array_equal(left, expected)
  lengths = given['mask'].sum(axis=1)
  right = {
    name: np.stack([np.roll(row, n) for row, n in zip(array, lengths)])
    for name, array in given.items()
  }
  found = greedy(model, expected.shape[1], held, **right)
  np.testing.assert_array_equal(found, expected)


def test_some_recorded_answers_end_early():
  """Else the test above says nothing about the end."""
  ends = [golden(c)['greedy'] == loaded(c).config.eos_id for c in CASES]
  early = [(end[:, :-1].any(axis=1)).sum() for end in ends]
  assert min(early) >= 1 and sum(early) >= 10


def cached(case, *, each: bool = False):
  """Logits of every position by steps behind a prefix, and all at once."""
  given, rows = causal_models.questions(), rows_of(case)
  rows = np.concatenate([rows, rows[:1] + 1])
  model = loaded(case).model
  held = variables(case, rows if each else rows[0])
  front = virtual(case, 4 if each else 1)
  ids, mask = given['ids'], given['mask']
  more = np.random.default_rng(3).integers(6, 61, (4, 6)).astype(np.int32)
  every = np.concatenate([ids, more], axis=1)
  every_mask = np.concatenate([mask, np.ones_like(more, bool)], axis=1)
  expected = behind(model, held, front, every, every_mask)[:, 19:]

  @jax.jit
  def prefill():
    real = np.ones(front.shape, bool)
    prefix = model.apply(held, front, real, method='key_values')
    return model.apply(
      held, ids, mask, prefix=prefix, max_length=6, method='prefill'
    )

  step = jax.jit(functools.partial(model.apply, held, method='decode_step'))
  logits, cache = prefill()
  found = [logits]
  for ids_B in more.T:
    logits, cache = step(ids_B, cache)
    found.append(logits)
  return np.stack(found, axis=1), np.asarray(expected), cache


@pytest.mark.parametrize(
  'case,each',
  [
    (FAMILIES[0], False),
    *long(*((case, False) for case in FAMILIES[1:]), ('llama', True)),
  ],
)
def test_cached_steps_behind_a_prefix_are_teacher_forcing(case, each):
  found, expected, cache = cached(case, each=each)
  name = f'{case} steps, {"each its own" if each else "one"} prefix'
  assert difference(found, expected, name=name) <= 1e-5
  assert ('prefix_key' in cache) != each
  for leaf, array in cache.items():
    axis = causal.CACHE_BATCH_AXES[leaf]
    assert axis is None or array.shape[axis] == 4, leaf


def losses(case, dtype):
  """{how: (loss, gradient of the prompt)} of targets at ragged ends."""
  given, params = causal_models.questions(), variables(case, dtype=dtype)
  model = loaded(case).model.clone(dtype=dtype)
  ids, mask = given['ids'], given['mask']
  targets = np.roll(ids, -1, axis=1)
  counted = mask & (np.arange(20) < 19)
  scope, port = ports.PROMPT
  front = virtual(case)

  def loss(prompt, params, run):
    held = {'params': params, ports.COLLECTION: {scope: {port: prompt}}}
    log_probs = jax.nn.log_softmax(run(model, held, front, ids, mask))
    hit = jnp.take_along_axis(log_probs, targets[..., None], axis=-1)
    return -jnp.sum(jnp.where(counted, hit[..., 0], 0.0))

  prompt = jnp.asarray(rows_of(case)[0], dtype)
  loss = jax.jit(jax.value_and_grad(loss), static_argnums=2)
  return {
    run.__name__: loss(prompt, params['params'], run)
    for run in (behind, concatenated)
  }


@pytest.mark.parametrize(
  'case',
  [FAMILIES[0], *long(*((c,) for c in (*FAMILIES[1:], 'neox_sequential')))],
)
def test_once_is_concatenation_in_loss_and_gradient(case):
  for dtype, bound in ((jnp.float32, 1e-5), (jnp.float64, 1e-12)):
    with jax.enable_x64(dtype == jnp.float64):
      found = losses(case, dtype)
      for what, one, other in zip(('loss', 'gradient'), *found.values()):
        assert one.dtype == other.dtype == dtype
        name = f'{case} {what} {jnp.dtype(dtype).name}'
        assert difference(one, np.asarray(other), name=name) <= bound
      assert (np.abs(found['behind'][1]).max(axis=-1) > 1e-3).all()


@pytest.mark.parametrize('case', ('gpt2', 'pythia'))
def test_rows_that_leave_the_prefix_out_are_the_untuned_model(case):
  given, held = causal_models.questions(), variables(case, rows_of(case)[0])
  model, front = loaded(case).model, virtual(case)
  prompted = np.array([True, False, True, False])
  ids, mask = given['ids'], given['mask']

  @jax.jit
  def run(prompted):
    real = np.ones(front.shape, bool)
    prefix = model.apply(held, front, real, method='key_values')
    prefix = causal.leave_out(prefix, prompted)
    logits, _ = model.apply(
      held, ids, mask, prefix=prefix, max_length=1, method='prefill'
    )
    return model.apply(held, ids, mask, prefix=prefix), logits

  found, last = run(prompted)
  without = plain(model, variables(case), ids, mask)
  within = behind(model, held, front, ids, mask)
  expected = np.where(prompted[:, None, None], within, without)
  assert difference(found[mask], expected[mask], name='prompted') <= 1e-5
  assert difference(last, expected[:, -1], name='prompted, last') <= 1e-5
  assert np.abs(within - without).max() > 0.1


def test_inputs_are_a_prefix_of_answers():
  """Rank classification: the input once, and each answer behind it."""
  given, held = (
    causal_models.questions(),
    variables('llama', rows_of('llama')[0]),
  )
  model, ids, mask = loaded('llama').model, given['ids'], given['mask']
  answers = np.random.default_rng(4).integers(6, 61, (4, 3)).astype(np.int32)
  real = np.ones_like(answers, bool)

  @jax.jit
  def run():
    front = virtual('llama')
    key_values = functools.partial(model.apply, held, method='key_values')
    prompt = key_values(front, np.ones(front.shape, bool))
    read = key_values(ids, mask, prefix=prompt)
    hidden = model.apply(
      held, answers, real, prefix=(prompt, read), method='hidden'
    )
    hidden = jnp.concatenate([read['last'][:, None], hidden], axis=1)
    return model.apply(held, hidden, method='head')

  expected = behind(
    model,
    held,
    virtual('llama'),
    np.concatenate([ids, answers], axis=1),
    np.concatenate([mask, real], axis=1),
  )[:, 19:]
  assert difference(run(), np.asarray(expected), name='answers') <= 1e-5


def test_an_empty_row_ends_where_its_prefix_does():
  case = 'pythia'
  given, held = causal_models.questions(), variables(case, rows_of(case)[0])
  model, ids = loaded(case).model, given['ids']
  mask = given['mask'] & (np.arange(4) != 2)[:, None]
  front = virtual(case)
  real = np.ones(front.shape, bool)
  prefix = model.apply(held, front, real, method='key_values')
  logits, _ = model.apply(
    held, ids, mask, prefix=prefix, max_length=1, method='prefill'
  )
  expected = np.asarray(plain(model, held, front, real))[0, -1]
  assert difference(logits[2], expected, name='empty row') <= 1e-5
  assert np.isfinite(logits).all()


def test_a_shared_prefix_is_not_copied_for_each_row():
  """Nowhere in the program stands an array of its keys for all rows."""
  model, held = loaded('llama').model, variables('llama', np.ones((7, 18)))
  ids = jax.ShapeDtypeStruct((9, 11), jnp.int32)
  mask = jax.ShapeDtypeStruct((9, 11), jnp.bool_)
  text = behind.lower(model, held, virtual('llama') * 0 + 61, ids, mask)
  text = text.compile().as_text()
  heads, size = model.config.num_kv_heads, model.config.head_size
  assert f'f32[{heads},1,{size},{LENGTH}]' in text
  for shape in ((heads, 9, size, LENGTH), (heads, 9, LENGTH, size)):
    assert f'f32[{",".join(map(str, shape))}]' not in text


@pytest.mark.full
def test_gradients_are_the_same_however_layers_are_run():
  case, given = 'pythia', causal_models.questions()
  prompt, gradients = rows_of('pythia')[0], []
  scope, port = ports.PROMPT
  ways = [*((True, remat) for remat in REMAT), (False, 'none'), (False, 'full')]
  for scan, remat in ways:
    model = loaded(case).model.clone(scan=scan, remat=remat)

    def loss(prompt, model=model):
      held = variables(case) | {ports.COLLECTION: {scope: {port: prompt}}}
      found = behind(model, held, virtual(case), given['ids'], given['mask'])
      return jax.nn.logsumexp(found, axis=-1).sum()

    gradients.append(np.asarray(jax.jit(jax.grad(loss))(prompt)))
  assert (np.abs(gradients[0]).max(axis=-1) > 0).all()
  for other in gradients[1:]:
    assert difference(other, gradients[0], name='gradient') <= 1e-5


@pytest.mark.full
@pytest.mark.parametrize('case', ('gpt2_untied', 'neox_sequential', 'llama3'))
def test_every_parameter_gets_a_gradient(case):
  given, model = causal_models.inputs(), loaded(case).model

  def loss(params):
    logits = model.apply({'params': params}, given['ids'], given['mask'])
    return jnp.where(given['mask'], jax.nn.logsumexp(logits, axis=-1), 0).sum()

  gradients = jax.jit(jax.grad(loss))(loaded(case).params)
  for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
    axes = tuple(range(1, leaf.ndim)) if 'layers' in str(path) else None
    assert (np.abs(leaf).max(axis=axes) > 0).all(), f'none for {path}'


def test_a_model_that_does_not_hold_the_text_is_refused():
  config = loaded('gpt2').config
  causal.check_context(config, prompt=100, inputs=90, targets=10)
  with pytest.raises(UserError, match='need 201 positions.* model has 200'):
    causal.check_context(config, prompt=100, inputs=90, targets=11)


def test_positions_and_ids_that_nobody_has_are_not_silently_others():
  """They are NaN, in that row alone."""
  model, held = loaded('gpt2').model, variables('gpt2')
  ids, mask = np.full((2, 201), 7), np.ones((2, 201), bool)
  mask[1, 200] = False
  found = np.asarray(plain(model, held, ids, mask))
  assert np.isnan(found[0]).all() and np.isfinite(found[1]).all()
  ids[0, 3] = 61
  found = np.asarray(plain(model, held, ids[:, :9], mask[:, :9]))
  assert np.isnan(found[0]).all() and np.isfinite(found[1]).all()


def test_positions_may_be_given():
  given, held = causal_models.questions(), variables('llama')
  model = loaded('llama').model
  ids, mask = given['ids'][:1], given['mask'][:1]
  run = functools.partial(model.apply, held, ids, mask)
  # Rotary positions are relative: all further on is the same, a gap is not.
  far = run(positions=np.arange(20)[None] + 90)
  gap = run(positions=np.arange(20)[None] * 3)
  expected = np.asarray(run())
  assert difference(far, expected, name='further on') <= 1e-4
  assert np.abs(gap - expected).max() > 0.1


def test_bfloat16_computes_in_bfloat16_and_answers_in_float32():
  given, held = causal_models.inputs(), variables('pythia')
  model = loaded('pythia').model.clone(dtype=jnp.bfloat16)
  found = plain(model, held, given['ids'], given['mask'])
  assert found.dtype == jnp.float32
  kept = given['mask'][:, :: causal_models.EVERY]
  expected = golden('pythia')['logits'][kept]
  found = recorded(found, given['mask'])
  error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
  assert 1e-4 < error < 0.03


def test_dropout_is_off_unless_asked_for():
  given, model = causal_models.inputs(), loaded('gpt2').model
  config = dataclasses.replace(model.config, dropout_rate=0.3)
  model, held = model.clone(config=config), variables('gpt2')

  @jax.jit
  def dropped(seed):
    rngs = {'dropout': jax.random.key(seed, impl='rbg')}
    return model.apply(held, **_named(given), deterministic=False, rngs=rngs)

  still = plain(model, held, given['ids'], given['mask'])
  expected = plain(loaded('gpt2').model, held, given['ids'], given['mask'])
  np.testing.assert_array_equal(still, expected)
  np.testing.assert_array_equal(dropped(1), dropped(1))
  assert np.abs(dropped(1) - still).max() > 1e-3
  assert np.abs(dropped(1) - dropped(2)).max() > 1e-3


def _named(given):
  return {'ids_BxL': given['ids'], 'mask_BxL': given['mask']}


def abstract(model):
  ids = jax.ShapeDtypeStruct((1, 4), jnp.int32)
  mask = jax.ShapeDtypeStruct((1, 4), jnp.bool_)
  return jax.eval_shape(model.init, jax.random.key(0), ids, mask)['params']


@pytest.mark.parametrize('case', CASES)
def test_every_parameter_names_its_axes(case):
  found = flax.traverse_util.flatten_dict(abstract(loaded(case).model), sep='/')
  expected = flax.traverse_util.flatten_dict(loaded(case).params, sep='/')
  assert found.keys() == expected.keys()
  for name, box in found.items():
    assert isinstance(box, nn.LogicallyPartitioned), name
    assert len(box.names) == box.value.ndim and None not in box.names, name
    assert ('layers' in box.names) == name.startswith('layers/'), name
    assert box.value.shape == expected[name].shape, name


def test_a_new_network_begins_as_gpt2_does():
  config = dataclasses.replace(
    loaded('gpt2').config, d_model=64, d_ff=96, num_heads=4, head_size=16
  )
  ids = jnp.zeros((1, 2), jnp.int32)
  init = jax.jit(type(loaded('gpt2').model)(config).init)
  boxed = init(jax.random.key(0, impl='rbg'), ids, ids == 0)
  params = nn.meta.unbox(boxed)['params']
  layers = params['layers']
  kernel = np.asarray(layers['attention']['query_key_value']['kernel'])
  assert np.abs(kernel[0] - kernel[1]).mean() > 0.01
  for value, expected in (
    (kernel, 0.02),
    (layers['mlp']['wo']['kernel'], 0.02 / 6**0.5),
    (layers['attention']['out']['kernel'], 0.02 / 6**0.5),
    (params['token_embedder']['embedding'], 0.02),
  ):
    np.testing.assert_allclose(np.std(value), expected, rtol=0.05)
  assert (np.asarray(layers['mlp']['wo']['bias']) == 0).all()


def test_a_deeper_network_is_not_a_longer_program():
  def program(layers: int, scan: bool) -> str:
    config = dataclasses.replace(loaded('llama').config, num_layers=layers)
    model = loaded('llama').model.clone(config=config, scan=scan)
    ids = jax.ShapeDtypeStruct((1, 4), jnp.int32)
    mask = jax.ShapeDtypeStruct((1, 4), jnp.bool_)
    params = nn.meta.unbox(abstract(model))
    return plain.lower(model, {'params': params}, ids, mask).as_text()

  few, many = program(2, True), program(5, True)
  assert few.count('dot_general') == many.count('dot_general')
  assert many.count('stablehlo.while') == 1
  assert 'stablehlo.while' not in program(5, False)


@pytest.mark.parametrize('case', CASES)
def test_logits_are_those_of_torch_today(case, tmp_path, seed=11):
  """Live: other weights, saved and computed by the torch of this machine."""
  os.environ.setdefault('OMP_NUM_THREADS', '1')
  pytest.importorskip('torch', reason='torch is not installed')
  pytest.importorskip('transformers')
  described = causal_models.CASES[case]
  network = causal_models.build(described, seed)
  causal_models.save(network, described, tmp_path)
  given = causal_models.inputs(seed)
  expected = causal_models.computed(network, seed)
  ours = load.load(str(tmp_path))
  held = {'params': ours.params}
  found = plain(ours.model, held, given['ids'], given['mask'])
  kept = given['mask'][:, :: causal_models.EVERY]
  found = recorded(found, given['mask'])
  name = f'live {case} {seed}'
  assert difference(found, expected['logits'][kept], name=name) <= 1e-5
  asked = causal_models.questions(seed)
  steps = causal_models.STEPS
  answers = greedy(ours.model, steps, held, **asked)
  np.testing.assert_array_equal(answers, expected['greedy'])
