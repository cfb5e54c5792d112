"""Low rank beside frozen maps: which, of what sizes, from where."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ptjax.config import UserError
from ptjax.methods import lora
from ptjax.methods.base import Linear, Start

LINEARS = {
  'encoder/layers/attention/query': Linear((3,), 8, (6,)),
  'encoder/layers/attention/out': Linear((3,), 6, (8,)),
  'decoder/layers/cross_attention/value': Linear((2,), 8, (6,)),
  'layers/attention/query_key_value': Linear((2,), 8, (3, 2, 4)),
  'head': Linear((), 8, (61,)),
}
START = Start(jnp.ones((61, 8)), linears=LINEARS)


def method(**changes):
  return lora.Method(**{'rank': 2, 'alpha': 6.0, 'targets': (), **changes})


def made(**changes):
  return method(**changes).create(jax.random.key(0), START)['lora']


def test_queries_and_values_are_chosen_also_where_they_lie_in_one_map():
  found = made()
  assert set(found) == {'encoder', 'decoder', 'layers'}
  assert set(found['encoder']['layers']['attention']) == {'query'}
  query = found['encoder']['layers']['attention']['query']
  assert query['lora_a'].shape == (3, 8, 2)
  assert query['lora_b'].shape == (3, 2, 6)
  fused = found['layers']['attention']['query_key_value']
  assert fused['lora_b'].shape == (2, 2, 3, 2, 4)


def test_b_is_zero_and_a_differs_between_layers_maps_and_keys():
  found = made()
  leaves = jax.tree_util.tree_leaves_with_path(found)
  a = [x for path, x in leaves if path[-1].key == 'lora_a']
  assert not any(x.any() for p, x in leaves if p[-1].key == 'lora_b')
  rows = np.concatenate([x.reshape(len(x), -1) for x in a])
  assert len(np.unique(rows[:, 0])) == len(rows)
  assert np.abs(rows).max() <= 8**-0.5
  other = method().create(jax.random.key(1), START)['lora']
  assert np.abs(jax.tree.leaves(other)[0] - a[0]).max() > 0.01


def test_the_second_map_is_multiplied_by_alpha_over_rank():
  ones = jax.tree.map(jnp.ones_like, made())
  ports = method().expand({'lora': ones})['layers']['attention']
  assert (ports['query_key_value']['lora_b'] == 3.0).all()
  assert (ports['query_key_value']['lora_a'] == 1.0).all()


def test_a_target_is_the_end_of_a_name_and_names_the_head_too():
  assert set(made(targets=('head',))) == {'head'}
  found = made(targets=('cross_attention/value', 'out'))
  assert set(found) == {'encoder', 'decoder'}


@pytest.mark.parametrize(
  'changes, sentence',
  [
    ({'rank': 0}, 'method.rank=0 must be at least 1'),
    ({'alpha': 0.0}, 'method.alpha=0.0 must be above 0'),
    ({'targets': ('qery',)}, "'qery' is no linear map.* mean 'query'.* head, "),
    ({'targets': ('ention/out',)}, "'ention/out' is no linear map"),
  ],
)
def test_what_cannot_be_is_told(changes, sentence):
  with pytest.raises(UserError, match=sentence):
    made(**changes)
