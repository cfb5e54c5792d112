"""What a device holds, by hand."""

import math

import pytest
import tiny

from ptjax import assemble, memory, mesh, tree
from ptjax import config as config_lib
from ptjax.plan import sizes

# Heads, widths and a vocabulary that divide by eight.
T5 = tiny.changed(num_heads=8, d_ff=40, vocab_size=64)


@pytest.fixture(scope='module')
def model(tmp_path_factory):
  return tiny.model_folder(tmp_path_factory.mktemp('sizes') / 't5', T5)


def outlined(model, devices=8, **changes):
  c = config_lib.update(
    config_lib.default(), {'model': str(model), 'task': 'cb', **changes}
  )
  return assemble.outlined(c, mesh.abstract(c, devices, platform='gpu'))


def test_a_device_has_its_part_of_the_weights(model):
  whole = sizes.weights(outlined(model))
  assert whole == 2 * tree.count(outlined(model).loaded.params)
  cut = sizes.weights(outlined(model, **{'mesh.data': 1, 'mesh.fsdp': 8}))
  # Two norms a layer of the encoder, three of the decoder, one behind each.
  norms = (2 * T5.num_layers + 3 * T5.num_decoder_layers + 2) * T5.d_model
  biases = 2 * T5.relative_attention_num_buckets * T5.num_heads
  assert cut == (whole - 2 * (norms + biases)) / 8 + 2 * (norms + biases)


def test_a_part_of_a_layer_makes_a_part_of_what_is_in_it():
  shape = {'batch': 4, 'prompt': 0, 'length': 64, 'target': 4, 'itemsize': 2}
  one = memory.member_bytes(T5, **shape, remat='products')
  eight = memory.member_bytes(T5, **shape, remat='products', tensor=8)
  # Scores, heads and mlp are a part; what goes from layer to layer is whole.
  between = 5 * T5.d_model * 2 * 4 * (2 * 64 + 3 * 4)
  assert eight - between == pytest.approx((one - between) / 8, rel=0.01)


def test_eight_bits_are_held_as_such_and_multiplied_a_layer_at_a_time(model):
  wide = outlined(model)
  eight = outlined(model, weights='int8')
  held = tree.flatten(wide.loaded.params)
  kernels = [a for n, a in held.items() if n.endswith('/layers/mlp/wo/kernel')]
  assert len(kernels) == 2 and {a.dtype.itemsize for a in kernels} == {2}
  maps = [
    a.shape
    for n, a in held.items()
    if '/layers/' in n and n.endswith('/kernel')
  ]
  values = sum(map(math.prod, maps))
  scales = sum(math.prod(shape) // shape[1] for shape in maps)
  less = sizes.weights(wide) - sizes.weights(eight)
  assert less == values - 4 * scales
  more = sizes.temporary(eight) - sizes.temporary(wide)
  assert more == 2 * (sizes.weights(eight) // T5.num_layers)


def test_members_hold_theirs_each(model):
  one, three = (
    sizes.temporary(outlined(model, **{'population.seeds': n})) for n in (1, 3)
  )
  assert three == 3 * one
