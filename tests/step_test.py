"""One update: what it changes, what it never touches, when it is refused."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from ptjax import answer, cross_entropy, optim, side_by_side, step, tree
from ptjax import config as config_lib
from ptjax.methods import base
from ptjax.tuned import base as tuned_base


@pytest.fixture(scope='module')
def parts():
  model, params = tiny.t5()
  c = config_lib.default()
  c.method.length, c.method.init = 6, 'uniform'
  tuned_model = tuned_base.make(model, base.make(c.method))
  tuned, frozen = tuned_model.init(jax.random.key(1), params)
  return tuned_model, tuned, frozen, make_tx(config_lib.resolved(c).optimizer)


def make_tx(settings):
  return functools.partial(optimizer, settings)


def optimizer(settings, lr):
  return optim.make(settings, steps=10, lr=lr)


def step_of(tuned_model, make_tx, *, rate=0.3, **options):
  """A step of one member, without the member axis."""
  train_step = step.make_train_step(
    tuned_model, make_tx, rates=[rate], options=step.StepOptions(**options)
  )
  return tiny.alone(train_step)


def start(parts):
  _, tuned, _, make_tx = parts
  # The step donates its state, and the fixture's arrays are everybody's.
  copy = jax.tree.map(jnp.copy, tuned)
  return step.init_state(copy, make_tx(0.3), rng=jax.random.key(2))


def test_only_the_prompt_and_its_optimizer_state_are_in_the_state(parts):
  tuned_model, tuned, frozen, tx = parts
  state = start(parts)
  held = {leaf.shape for leaf in jax.tree.leaves(state.opt_state)}
  assert held <= {(), (1,), (6, 24)}
  assert set(tree.flatten(state.tuned)) == {'prompt/encoder'}
  before = tree.checksum(frozen)
  new, metrics = step_of(tuned_model, tx)(state, frozen, tiny.batch())
  assert tree.checksum(frozen) == before
  moved = np.abs(new.tuned['prompt']['encoder'] - tuned['prompt']['encoder'])
  assert (moved > 0).all() and metrics['grad_norm'] > 0
  assert int(new.step) == 1


def test_the_loss_is_the_formula(parts):
  """Cross-entropy of target tokens alone, in float64, with T5X's z-loss."""
  tuned_model, tuned, frozen, _ = parts
  batch = tiny.batch()
  logits = np.asarray(tuned_model.logits(tuned, frozen, batch), np.float64)
  log_z = np.log(np.exp(logits).sum(-1))
  want = 0.0
  for b, t in zip(*np.nonzero(batch['target_mask'])):
    hit = logits[b, t, batch['targets'][b, t]]
    want += log_z[b, t] - hit + 0.1 * log_z[b, t] ** 2
  got = cross_entropy.of_logits(
    jnp.asarray(logits, jnp.float32),
    batch['targets'],
    mask_BxT=batch['target_mask'],
    z_loss=0.1,
  )
  assert float(got) == pytest.approx(want, rel=1e-5)


def test_filler_rows_and_padding_do_not_count(parts):
  tuned_model, _, frozen, tx = parts
  train_step = step_of(tuned_model, tx)
  batch = tiny.batch()
  filled = {
    k: np.concatenate([v, np.zeros_like(v[:2])]) for k, v in batch.items()
  }
  filled['inputs'][-1] = 7
  longer = dict(batch)
  longer['inputs'] = np.pad(batch['inputs'], [(0, 0), (0, 7)])
  longer['input_mask'] = np.pad(batch['input_mask'], [(0, 0), (0, 7)])
  want, m = train_step(start(parts), frozen, batch)
  for other in (filled, longer):
    got, n = train_step(start(parts), frozen, other)
    assert float(n['loss']) == pytest.approx(float(m['loss']), rel=1e-5)
    np.testing.assert_allclose(
      got.tuned['prompt']['encoder'],
      want.tuned['prompt']['encoder'],
      rtol=1e-4,
      atol=1e-4,
    )


@pytest.mark.parametrize('micro', [2, 4])
def test_micro_batches_of_unequal_targets_sum_to_the_whole(parts, micro):
  """An average of averages would weigh short targets too much."""
  tuned_model, _, frozen, tx = parts
  batch = tiny.batch(rows=8)
  whole, m = step_of(tuned_model, tx)(start(parts), frozen, batch)
  split, n = step_of(tuned_model, tx, accumulate=micro)(
    start(parts), frozen, batch
  )
  assert float(m['grad_norm']) == pytest.approx(float(n['grad_norm']), rel=1e-5)
  assert float(m['loss']) == pytest.approx(float(n['loss']), rel=1e-5)
  np.testing.assert_allclose(
    whole.tuned['prompt']['encoder'],
    split.tuned['prompt']['encoder'],
    rtol=1e-4,
    atol=1e-4,
  )


def test_a_non_finite_loss_keeps_the_last_good_state_for_good(parts):
  """Also when the next batches are fine: the host reads metrics late."""
  tuned_model, _, frozen, tx = parts
  train_step = step_of(tuned_model, tx)
  state, _ = train_step(start(parts), frozen, tiny.batch())
  want = np.asarray(state.tuned['prompt']['encoder'])
  broken = jax.tree.map(lambda x: x * jnp.nan, frozen)
  state, metrics = train_step(state, broken, tiny.batch(1))
  assert not np.isfinite(metrics['loss']) and not state.ok
  state, _ = train_step(state, frozen, tiny.batch(2))
  np.testing.assert_array_equal(state.tuned['prompt']['encoder'], want)
  assert int(state.step) == 1 and not state.ok


class Linear:
  """The least that a step can train: logits that are its parameters."""

  def states(self, tuned, frozen, batch, *, rng=None):
    del frozen, rng
    return jnp.zeros((*batch['targets'].shape, 8)) + tuned['w']

  def head_reads(self, tuned, frozen):
    return {}, False

  def head(self, variables, x):
    return x


def test_an_update_that_is_not_finite_is_not_made():
  """Loss and gradient are; what the next step would start from is not."""
  batch = {
    'inputs': np.ones((2, 4), np.int32),
    'targets': np.ones((2, 3), np.int32),
    'target_mask': np.ones((2, 3), bool),
  }
  start_at = {'w': jnp.arange(8.0)}
  for rate, made in ((3e38, False), (0.1, True)):
    tx = make_tx(config_lib.resolved(config_lib.default()).optimizer)
    state = step.init_state(
      jax.tree.map(jnp.copy, start_at), tx(rate), rng=jax.random.key(2)
    )
    new, metrics = step_of(Linear(), tx, rate=rate)(state, {}, batch)
    assert np.isfinite([metrics['loss'], metrics['grad_norm']]).all()
    assert (bool(new.ok), int(new.step)) == (made, int(made))
    assert (np.abs(new.tuned['w'] - start_at['w']).max() > 0) == made


def population(parts, size):
  """The state of so many members that differ, and their batch."""
  tuned_model, tuned, frozen, make_tx = parts
  scales = jnp.linspace(0.5, 1.5, size)

  def begin(scale):
    own = jax.tree.map(lambda x: x * scale, tuned)
    return step.init_state(own, make_tx(0.3), rng=jax.random.key(2))

  batches = [tiny.batch(seed) for seed in range(size)]
  batch = jax.tree.map(lambda *leaves: np.stack(leaves), *batches)
  return jax.vmap(begin)(scales), frozen, batch


def test_members_are_the_same_in_turn_and_side_by_side(parts, monkeypatch):
  """Side by side is what an accelerator does, in turn what a CPU does."""
  tuned_model, _, _, make_tx = parts
  state, frozen, batch = population(parts, 4)
  tuned = state.tuned
  rows = tiny.batch(9)
  rows['choices'] = np.stack([rows['targets'], rows['targets'][::-1]], 1)
  rows['choice_lengths'] = (rows['choices'] != 0).sum(-1)
  found = {}
  for size in (1, 2, 4):
    monkeypatch.setattr(side_by_side, 'at_once', lambda *_, size=size: size)
    rates = [0.03, 0.1, 0.3, 1.0]
    train_step = step.make_train_step(tuned_model, make_tx, rates=rates)
    copy = jax.tree.map(jnp.copy, state)
    after, metrics = train_step(copy, frozen, batch)
    answers = answer.make_answers(tuned_model)
    found[size] = (
      {'prompt': after.tuned['prompt']['encoder'], **metrics},
      step.make_choices(tuned_model)(tuned, frozen, rows),
      answers(tuned, frozen, rows, max_length=6),
    )
  for size in (2, 4):
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
      *(found[1], found[size]),
    )
  stepped, (nats_ExBxC, _), ids_ExBxT = found[1]
  assert len(set(stepped['update_norm'].tolist())) == 4
  assert nats_ExBxC.shape == (4, 4, 2) and ids_ExBxT.shape == (4, 4, 6)
  assert np.abs(np.diff(nats_ExBxC, axis=0)).min() > 0


def test_long_batches_of_members_take_turns_in_the_memory_of_one(
  parts, monkeypatch
):
  """On a CPU; what is long is set down to one piece."""
  monkeypatch.setattr(side_by_side, 'CPU_PIECES', 1)
  tuned_model, _, _, make_tx = parts

  def temporary(size):
    train_step = step.make_train_step(tuned_model, make_tx, rates=[0.3] * size)
    compiled = train_step.lower(*population(parts, size)).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  assert temporary(4) < 1.5 * temporary(1)


def test_dropout_repeats_by_step_and_differs_between_steps(parts):
  _, _, frozen, tx = parts
  config = dataclasses.replace(tiny.CONFIG, dropout_rate=0.5)
  tuned_model = dataclasses.replace(
    parts[0], model=parts[0].model.clone(config=config)
  )
  train_step = step_of(tuned_model, tx, dropout=True)

  def at(n):
    state = start(parts).replace(step=jnp.int32(n))
    return float(train_step(state, frozen, tiny.batch())[1]['loss'])

  first, again, other = at(0), at(0), at(1)
  assert first == again and first != other


def test_a_tie_on_dev_keeps_the_earlier_prompt(parts):
  """Of each member by itself."""
  one = start(parts).replace(step=jnp.int32(10))
  state = jax.tree.map(lambda x: jnp.stack([x, x]), one)
  state = step.note_score(state, jnp.array([70.0, 50.0]))
  first = np.asarray(state.best['prompt']['encoder'])
  moved = jax.tree.map(lambda x: x + 1, state.tuned)
  state = state.replace(step=state.step + 10, tuned=moved)
  state = step.note_score(state, jnp.array([70.0, 50.1]))
  assert state.best_step.tolist() == [10, 20]
  assert state.stale.tolist() == [1, 0]
  best = state.best['prompt']['encoder']
  np.testing.assert_array_equal(best[0], first[0])
  np.testing.assert_array_equal(best[1], first[1] + 1)
  state = step.note_score(
    state.replace(step=state.step + 10), jnp.array([70.1, 0.0])
  )
  assert state.best_step.tolist() == [30, 20]
  assert state.stale.tolist() == [0, 1]
  best = state.best['prompt']['encoder']
  np.testing.assert_array_equal(best, first + 1)


def test_two_steps_compile_once(parts):
  tuned_model, _, frozen, tx = parts
  train_step = step.make_train_step(tuned_model, tx, rates=[0.3])
  alone, state = tiny.alone(train_step), start(parts)
  for seed in range(3):
    state, _ = alone(state, frozen, tiny.batch(seed))
  assert train_step._cache_size() == 1


def test_a_row_without_its_prompt_is_the_untuned_models(parts):
  """Masked, not absent: rows with and without share a compiled function."""
  tuned_model, tuned, frozen, _ = parts
  batch = tiny.batch()
  bare = tuned_model.model.apply(
    {'params': frozen['model']},
    batch['inputs'],
    batch['input_mask'],
    tuned_model._shift(jnp.asarray(batch['targets'])),
  )
  with_prompt = tuned_model.logits(tuned, frozen, batch)
  batch['front'] = np.array([6, 0, 6, 0])
  mixed = tuned_model.logits(tuned, frozen, batch)
  np.testing.assert_allclose(mixed[1::2], bare[1::2], rtol=1e-5, atol=1e-5)
  np.testing.assert_allclose(mixed[::2], with_prompt[::2], rtol=1e-5, atol=1e-5)
  assert np.abs(with_prompt[1::2] - bare[1::2]).max() > 0.1


@dataclasses.dataclass(frozen=True)
class Misspelled(base.Method):
  """A method whose port has a name that the embedding does not read."""

  inner: base.Method
  tune = ('prompt/.*',)

  def create(self, rng, start):
    return self.inner.create(rng, start)

  def expand(self, own):
    return {'token_embedder': {'promtp': own['prompt']['encoder']}}


def test_a_port_that_no_module_reads_raises(parts):
  tuned_model, tuned, frozen, _ = parts
  tuned_base.check_ports(tuned_model, tuned, frozen, tiny.batch())
  broken = dataclasses.replace(
    tuned_model, method=Misspelled(tuned_model.method)
  )
  with pytest.raises(RuntimeError, match='reads no port for prompt/encoder'):
    tuned_base.check_ports(broken, tuned, frozen, tiny.batch())
