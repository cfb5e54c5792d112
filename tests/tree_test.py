"""The cut of a tree in two, and its checksum."""

import jax.numpy as jnp
import pytest

from ptjax import tree
from ptjax.config import UserError


@pytest.fixture
def params():
  return {
    'prompt': {'encoder': jnp.zeros((3, 2))},
    'model': {
      'encoder': {'kernel': jnp.ones((2, 2)), 'bias': jnp.ones(2)},
      'prompt_like': jnp.ones(1),
    },
  }


def names(part):
  return set(tree.flatten(part))


def test_a_pattern_must_match_the_whole_name(params):
  # 'prompt/.*' is a substring of no other name only by luck; 'encoder' is not
  # allowed to catch 'model/encoder/kernel'.
  tuned, frozen = tree.split(params, ['prompt/.*'])
  assert names(tuned) == {'prompt/encoder'}
  assert 'model/prompt_like' in names(frozen)
  with pytest.raises(UserError, match="'encoder' matches none"):
    tree.split(params, ['encoder'])


def test_the_first_match_wins_and_minus_holds_frozen(params):
  tuned, _ = tree.split(params, ['-.*/bias', 'model/encoder/.*'])
  assert names(tuned) == {'model/encoder/kernel'}
  # The other order: the broad one wins, and says nothing against the narrow.
  tuned, _ = tree.split(params, ['model/encoder/.*', '-.*/bias'])
  assert names(tuned) == {'model/encoder/kernel', 'model/encoder/bias'}


def test_split_and_join_are_inverse(params):
  tuned, frozen = tree.split(params, ['model/encoder/.*'])
  assert not names(tuned) & names(frozen)
  assert tree.flatten(tree.join(tuned, frozen)).keys() == names(params)
  assert tree.count(tuned) + tree.count(frozen) == tree.count(params) == 13


def test_no_regular_expression_is_the_users_mistake(params):
  with pytest.raises(UserError, match='no regular expression'):
    tree.split(params, ['prompt/(.*'])


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16', 'int8'])
def test_the_checksum_sees_a_bit_a_place_a_name_and_a_shape(dtype):
  a = jnp.arange(6).reshape(2, 3).astype(dtype)
  base = tree.checksum({'a': a})
  assert base == tree.checksum({'a': jnp.array(a)})
  swapped = a.at[0, 1].set(a[1, 0]).at[1, 0].set(a[0, 1])
  others = [
    {'a': a.at[1, 2].add(1)},
    {'a': swapped},
    {'a': a.reshape(3, 2)},
    {'b': a},
  ]
  assert base not in [tree.checksum(other) for other in others]


def test_the_checksum_tells_minus_zero_from_zero():
  # Equal as numbers, not as bits: "unchanged" means the bits.
  plus, minus = jnp.zeros(1), -jnp.zeros(1)
  assert tree.checksum({'a': plus}) != tree.checksum({'a': minus})
