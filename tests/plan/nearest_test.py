"""Which changes are tried, and in which order."""

import itertools

from ptjax import config as config_lib
from ptjax.plan import nearest

PARTS = {'train.accumulate': 2}


def tried(devices=8, **changes):
  changes = {'remat': 'products', **changes}
  config = config_lib.update(config_lib.default(), changes)
  return list(nearest.changes(config, devices))


def test_one_change_comes_before_two():
  found = tried()
  for words in ({'mesh.data': 4, 'mesh.fsdp': 2, 'mesh.tensor': 1}, PARTS):
    assert found.index(words) < found.index({'remat': 'full', **words})
  assert {'mesh.data': 1, 'mesh.fsdp': 1, 'mesh.tensor': 8} in found


def test_what_loses_least_speed_comes_first():
  """Scores again, another read of the weights, sending them, a layer again."""
  found = tried()
  assert found[0] == {'remat': 'linear'}
  cut = {'mesh.data': 4, 'mesh.fsdp': 2, 'mesh.tensor': 1}
  places = [found.index(w) for w in (PARTS, cut, {'remat': 'full'})]
  assert places == sorted(places)
  # Many reads of all weights cost more than one layer's products again.
  many = found.index({'train.accumulate': 16})
  assert found.index({'remat': 'full', **PARTS}) < many
  one = tried(remat='none')
  places = [one.index({**cut, 'remat': r}) for r in ('products', 'linear')]
  assert places == sorted(places)


def test_nothing_that_is_set_is_undone():
  found = tried(**{'remat': 'full', 'mesh.tensor': 2, 'train.accumulate': 4})
  assert found
  for words in found:
    assert 'remat' not in words
    assert words.get('mesh.fsdp', 1) * words.get('mesh.tensor', 2) >= 2
    assert words.get('train.accumulate', 8) in (8, 16, 32)


def test_less_is_computed_again_before_more():
  found = tried()
  linear, full = ({'remat': policy} for policy in ('linear', 'full'))
  assert found.index(linear) < found.index(full)
  assert {'remat': 'products'} not in found
  assert tried(remat='none')[0] == {'remat': 'products'}


def test_what_an_estimate_would_choose_is_named():
  """It may be too careful, so that all are tried, each by its name."""
  found = tried(remat='auto')
  assert found[:2] == [{'remat': 'products'}, {'remat': 'linear'}]
  assert all('remat' in words for words in found)


def test_another_model_comes_last():
  """Eight bits, behind all that leaves the result as it is, but extremes."""
  found = tried(devices=1)
  eight = found.index({'weights': 'int8'})
  assert found.index({'remat': 'full', 'train.accumulate': 4}) < eight
  assert found.index({'train.accumulate': 32}) < eight
  assert not [w for w in tried(weights='int8') if 'weights' in w]


def test_nothing_is_tried_twice():
  found = tried()
  for one, other in itertools.combinations(found, 2):
    assert one != other


def test_rows_may_be_cut_instead_of_layers():
  """As many parts of the weights, and fewer activations on a device."""
  fsdp = {'mesh.data': 1, 'mesh.fsdp': 8, 'mesh.tensor': 1}
  assert tried(**{'mesh.tensor': 8})[0] == fsdp


def test_on_one_device_there_is_no_mesh_to_change():
  for words in tried(devices=1):
    assert set(words) <= {'remat', 'train.accumulate', 'weights'}
