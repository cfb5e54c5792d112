"""Keys and values in front: of which attentions, of what sizes, from where."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ptjax.config import UserError
from ptjax.methods import prefix_tuning
from ptjax.methods.base import Attention, Start

ATTENTIONS = {
  'encoder/layers/attention': Attention(2, 3, 5),
  'decoder/layers/self_attention': Attention(4, 3, 5),
  'decoder/layers/cross_attention': Attention(4, 3, 5),
}
KEY = jax.random.key(0)


def of_rows(rows_PxD):
  """Keys and values that tell the rows that they were made of."""
  told_P = rows_PxD.sum(axis=1)
  return {
    scope: (
      jnp.broadcast_to(told_P, (a.layers, a.heads, a.size, len(told_P))),
      jnp.broadcast_to(told_P[:, None], (a.layers, a.heads, len(told_P), 5)),
    )
    for scope, a in ATTENTIONS.items()
  }


TABLE = jnp.asarray(np.random.default_rng(0).normal(size=(61, 8)), jnp.float32)
START = Start(
  TABLE,
  label_ids=[[3, 4], [5]],
  text_ids=[7, 8],
  prompt_PxD=np.ones((6, 8)),
  attentions=ATTENTIONS,
  key_values=of_rows,
)


def method(**changes):
  fields = {'length': 6, 'init': 'uniform', 'low': -0.5, 'high': 0.5}
  fields |= {'population': 60, 'targets': (), 'hidden': 0}
  return prefix_tuning.Method(**{**fields, **changes})


def ports(**changes):
  made = method(**changes)
  return made.expand(made.create(KEY, START))


@pytest.mark.parametrize('hidden', [0, 7])
@pytest.mark.parametrize('init', prefix_tuning.INITS)
def test_every_start_fills_the_ports_of_every_attention(init, hidden):
  found = ports(init=init, hidden=hidden)
  for scope, sizes in ATTENTIONS.items():
    node = found
    for part in scope.split('/'):
      node = node[part]
    lead = sizes.layers, sizes.heads
    assert node['prefix_key'].shape == (*lead, sizes.size, 6)
    assert node['prefix_value'].shape == (*lead, 6, sizes.size)
  assert {x.dtype for x in jax.tree.leaves(found)} == {jnp.float32.dtype}
  each = np.concatenate([np.ravel(x) for x in jax.tree.leaves(found)])
  assert np.all(each == 0) == (init == 'zeros')


def test_a_text_is_the_keys_and_values_of_its_pieces_at_the_first_places():
  found = ports(init='text')['encoder']['layers']['attention']
  expected = TABLE[jnp.asarray([7, 8])].sum(axis=1)
  np.testing.assert_array_equal(found['prefix_key'][1, 2, 4, :2], expected)
  np.testing.assert_array_equal(found['prefix_value'][1, 2, :2, 4], expected)
  labels = ports(init='labels')['decoder']['layers']['self_attention']
  first = TABLE[jnp.asarray([3, 4])].mean(axis=0).sum()
  np.testing.assert_allclose(labels['prefix_key'][0, 0, 0, 0], first, rtol=1e-6)


def test_random_values_differ_between_sides_layers_and_both():
  made = method().create(KEY, START)
  leaves = [np.asarray(x) for x in jax.tree.leaves(made)]
  rows = np.concatenate([x.reshape(len(x), -1)[:, :6] for x in leaves])
  assert len(np.unique(rows[:, 0])) == len(rows)
  assert np.abs(rows).max() <= 0.5


def test_the_mlp_is_pefts():
  """Rows, a tanh of a map, and a map to keys and values by layer."""
  made = method(hidden=7, init='text')
  own = made.create(KEY, START)
  node = own['prefix_tuning']['encoder']['layers']['attention']
  inner = np.tanh(node['rows'] @ node['inner_kernel'] + node['inner_bias'])
  outer = node['outer_kernel'].reshape(7, -1)
  flat = inner @ outer + node['outer_bias'].reshape(-1)
  flat_PxNx2xHxK = flat.reshape(6, 2, 2, 3, 5)
  found = made.expand(own)['encoder']['layers']['attention']
  for part, name, axes in (
    (0, 'prefix_key', (1, 2, 3, 0)),
    (1, 'prefix_value', (1, 2, 0, 3)),
  ):
    expected = flat_PxNx2xHxK[:, :, part].transpose(axes)
    np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('hidden', [0, 7])
def test_a_file_holds_keys_and_values_alone(hidden):
  made = method(hidden=hidden)
  own = made.create(KEY, START)
  kept = made.kept(own | {'model': {'x': 1}})
  assert set(kept) == {'prefix_tuning', 'model'}
  found = kept['prefix_tuning']['decoder']['layers']['cross_attention']
  assert set(found) == {'prefix_key', 'prefix_value'}
  same = jax.tree.map(np.array_equal, made.expand(kept), made.expand(own))
  assert all(jax.tree.leaves(same))


def test_a_target_is_the_end_of_an_attentions_name():
  assert set(ports(targets=('attention',))) == {'encoder'}
  found = ports(targets=('cross_attention',))
  assert set(found['decoder']['layers']) == {'cross_attention'}
  both = ports(targets=('self_attention', 'cross_attention'))
  assert set(both) == {'decoder'} and len(both['decoder']['layers']) == 2


@pytest.mark.parametrize(
  'changes, sentence',
  [
    ({'length': 0}, 'method.length=0 must be at least 1'),
    ({'hidden': -1}, 'method.hidden=-1 must be at least 0'),
    ({'init': 'zero'}, "method.init='zero' is not known, did you mean 'zeros'"),
    ({'targets': ('self_atention',)}, "is no attention of .* 'self_attention'"),
  ],
)
def test_what_cannot_be_is_told(changes, sentence):
  with pytest.raises(UserError, match=sentence):
    ports(**changes)
