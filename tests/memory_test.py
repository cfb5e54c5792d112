"""The estimate against what the compiler says, and the refusal."""

import functools
import itertools
import os

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from ptjax import config as config_lib
from ptjax import memory, optim, side_by_side, step
from ptjax.config import UserError
from ptjax.methods import base
from ptjax.models.gpt2 import GPT2, GPT2Config
from ptjax.models.t5 import T5, T5Config
from ptjax.tuned import base as tuned_base

SIZES = T5Config(
  vocab_size=900,
  d_model=96,
  d_kv=24,
  d_ff=200,
  num_layers=4,
  num_decoder_layers=3,
  num_heads=5,
)
GPT = GPT2Config(
  vocab_size=9000,
  d_model=96,
  d_ff=384,
  num_layers=6,
  num_heads=4,
  head_size=24,
  max_positions=400,
)


def compiled_bytes(
  model, batch, length, prompt, target, *, members, full_text=False
) -> int:
  """Temporary memory of the very step, nothing of it computed."""
  ids = jnp.zeros((1, 4), jnp.int32)
  init = functools.partial(model.init, jax.random.key(0))
  read = (ids, ids >= 0, *([ids] if isinstance(model, T5) else []))
  params = jax.eval_shape(lambda: nn.unbox(init(*read))['params'])
  c = config_lib.resolved(config_lib.default())
  c.method.length, c.method.init = prompt, 'uniform'
  make = functools.partial(optimizer, c.optimizer)
  rows = jnp.zeros((members, prompt, SIZES.d_model))
  begin = functools.partial(
    step.init_state, tx=make(0.0), rng=jax.random.key(0)
  )
  state = jax.eval_shape(jax.vmap(begin), {'prompt': {'encoder': rows}})

  def array(size, dtype):
    return jax.ShapeDtypeStruct((members, batch, size), dtype)

  batch_ = {
    'inputs': array(length, jnp.int32),
    'input_mask': array(length, bool),
    'targets': array(target, jnp.int32),
    'target_mask': array(target, bool),
  }
  train_step = step.make_train_step(
    tuned_base.make(model, base.make(c.method)),
    make,
    rates=[0.3] * members,
    options=step.StepOptions(full_text=full_text),
  )
  lowered = train_step.lower(state, {'model': params}, batch_)
  return lowered.compile().memory_analysis().temp_size_in_bytes


def share(model, shape, *, members, full_text=False) -> float:
  """The estimate over what is compiled; printed for BUILD.md."""
  batch, length, prompt, target = shape
  each = memory.member_bytes(
    model.config,
    batch=batch,
    prompt=prompt,
    length=length,
    target=target,
    itemsize=4,
    remat=model.remat,
    full_text=full_text,
  )
  found = compiled_bytes(model, *shape, members=members, full_text=full_text)
  result = members * each / found
  print(
    f'\n{type(model).__name__} remat={model.remat}: {result:.2f} of {found}'
  )
  return result


def optimizer(settings, lr):
  return optim.make(settings, steps=10, lr=lr)


@pytest.mark.parametrize(
  'shape,members,remat',
  [
    ((8, 40, 20, 4), 1, 'products'),
    ((8, 40, 20, 4), 3, 'products'),
    *(((4, 200, 100, 30), 1, remat) for remat in config_lib.REMAT),
  ],
)
def test_the_estimate_is_near_what_is_compiled(
  shape, members, remat, monkeypatch
):
  monkeypatch.setattr(side_by_side, 'at_once', lambda members, _: members)
  model = T5(SIZES, remat=remat)
  assert 0.6 < share(model, shape, members=members) < 1.7


@pytest.mark.parametrize(
  'full_text,remat',
  [(False, 'full'), (False, 'linear'), (True, 'products'), (True, 'none')],
)
def test_so_it_is_for_a_decoder_only_model(full_text, remat, monkeypatch):
  """Whose inputs have logits too where they are said."""
  monkeypatch.setattr(side_by_side, 'at_once', lambda members, _: members)
  model = GPT2(GPT, remat=remat)
  found = share(model, (8, 60, 20, 4), members=2, full_text=full_text)
  assert 0.6 < found < 1.7


@pytest.mark.parametrize('model', [T5(SIZES), GPT2(GPT)])
def test_each_policy_holds_less_than_the_one_before(model):
  """By the compiler's word; deep enough that what layers keep is most of it."""
  shape = (4, 200, 100, 30)
  found = [
    compiled_bytes(model.clone(remat=remat), *shape, members=1)
    for remat in config_lib.REMAT
  ]
  for more, less in itertools.pairwise(found):
    assert less < 0.9 * more, found


def test_more_members_than_fit_are_refused_with_the_estimate():
  gib = memory.GIB
  known = {'each': gib, 'weights': gib, 'task': 'rte'}
  memory.check(4, **known, limit_gib=5, remat='full')
  with pytest.raises(UserError) as error:
    memory.check(9, **known, limit_gib=5.5, remat='products')
  said = str(error.value)
  assert 'train.accumulate, remat=full or' in said
  assert 'rte: 9 members would take about 10.00 GiB' in said
  assert 'there are 5.50; about 4 fit' in said
  # It asks the device, and does not tell to do what is done.
  with pytest.raises(UserError, match='100000 members.*train.accumulate or'):
    memory.check(100_000, **known, limit_gib=0, remat='full')


def test_a_host_gives_the_same_share_whatever_is_free():
  """Or a run that goes on would keep other things than it did."""
  host = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
  each = 0.75 * host / jax.device_count()
  assert memory.room(0) == pytest.approx(each, abs=1)
  assert memory.room(2.5) == 2.5 * memory.GIB


def test_the_first_policy_that_has_room_is_taken():
  needs = {'products': 3000, 'linear': 2000, 'full': 1000}.get
  rooms = {None: 'products', 3210: 'products', 3209: 'linear'}
  rooms |= {2140: 'linear', 2139: 'full', 1: 'full'}
  for room, found in rooms.items():
    assert memory.policy(room, needs) == found
