"""What a configuration says of answers, and of what a member takes."""

import math

import jax
import pytest
import tiny

from ptjax import assemble, cpu, memory, mesh, parts
from ptjax import config as config_lib
from ptjax.config import UserError
from ptjax.plan import steps
from ptjax.predict import beam, sample


def config(**changes):
  return config_lib.update(config_lib.default(), changes)


def test_beams_search_and_draw_nothing():
  found = parts.sampler(config(beams=3, length_penalty=0.5))
  assert found == beam.Beams(3, length_penalty=0.5)
  assert parts.sampler(config()) == sample.Greedy()
  with pytest.raises(UserError, match='beams=3 and temperature=0.5'):
    parts.sampler(config(beams=3, temperature=0.5))
  with pytest.raises(UserError, match='beams=0 must be at least 1'):
    parts.sampler(config(beams=0))


@pytest.mark.parametrize('cut, rows', [('tensor', 16), ('fsdp', 2)])
def test_a_member_takes_its_part_of_rows_or_layers(cut, rows, tmp_path):
  t5 = tiny.changed(num_heads=8, d_ff=40, vocab_size=64)
  tiny.model_folder(tmp_path / 't5', t5)
  c = config(
    **{
      'model': str(tmp_path / 't5'),
      'method.length': 5,
      'train.batch_size': 32,
      'train.accumulate': 2,
      'mesh.data': 1,
      f'mesh.{cut}': 8,
    }
  )
  made = assemble.outlined(c, mesh.abstract(c, 8, platform='gpu'))
  found = made.member_bytes(length=24, target=4, remat='products')
  assert found == memory.member_bytes(
    t5,
    batch=rows,
    prompt=5,
    length=24,
    target=4,
    itemsize=2,
    remat='products',
    tensor=8 if cut == 'tensor' else 1,
  )


def outlined(folder, *, room, **changes):
  tiny.model_folder(folder, tiny.changed(num_heads=8, d_ff=40, vocab_size=64))
  c = config(model=str(folder), **{'method.length': 5, **changes})
  return assemble.outlined(c, mesh.abstract(c, 1, platform='gpu'), room=room)


@pytest.mark.skipif(not cpu.options(), reason='this jaxlib has no oneDNN')
def test_a_fast_step_is_unrolled_where_there_is_room(tmp_path, monkeypatch):
  tiny.model_folder(tmp_path)

  def loops(room=None, **changes):
    c = config(**{'model': str(tmp_path), 'method.length': 5, **changes})
    made = assemble.outlined(c, mesh.make(c, jax.devices()[:1]), room=room)
    state, batch = steps.trained(made)
    _, frozen = steps.begin(made)
    text = made.placed_step.lower(state, frozen, batch).as_text()
    return text.count('stablehlo.while')

  plain = loops(cpu='plain', remat='products')
  assert loops(cpu='fast', remat='products') < plain
  assert loops(remat='products') == plain  # it is narrow
  assert loops(cpu='fast', remat='products', weights='int8') == plain
  for remat in ('linear', 'full'):
    assert loops(cpu='fast', remat=remat) == loops(cpu='plain', remat=remat)
  # Of what a step needs once there is just enough, or it is there twice.
  c = config(**{'model': str(tmp_path), 'method.length': 5})
  made = assemble.outlined(c, mesh.make(c, jax.devices()[:1]))
  needed = [
    made._needs(*steps.trained(made), 'products', times=n) for n in (1, 2)
  ]
  once, twice = (math.ceil(memory.MARGIN * size) for size in needed)
  assert loops(once, cpu='fast') == loops(twice - 1, cpu='fast') == plain
  assert loops(twice, cpu='fast') < plain
  monkeypatch.setattr(cpu, 'SHALLOW', 1)
  assert loops(cpu='fast', remat='products') == plain


def room_for(made, remat, **shape):
  """Bytes with which a step has this policy, just so."""
  state, batch = steps.trained(made)
  held = mesh.bytes_on_one(made.loaded.params) + mesh.bytes_of(state)
  moving = 3 * mesh.bytes_of(state.tuned)
  each = made.member_bytes(**shape, remat=remat)
  needs = held + moving + made.at_work + len(made.members) * each
  return math.ceil(memory.MARGIN * needs)


@pytest.mark.parametrize('members, weights', [(1, 'dtype'), (3, 'int8')])
def test_layers_keep_what_there_is_room_for(tmp_path, members, weights):
  """Beside what trains, its state, the weights and a layer's made wider."""
  shape = {'length': 24, 'target': 4}
  told = {'population.seeds': members, 'buckets': (24,), 'target_length': 4}
  told |= {'weights': weights}

  def chosen(room, **more):
    made = outlined(tmp_path / 't5', room=room, **told, **more)
    return made.remat(*steps.trained(made))

  made = outlined(tmp_path / 't5', room=None, **told)
  needs = {
    r: room_for(made, r, **shape) for r in ('products', 'linear', 'full')
  }
  assert needs['products'] > needs['linear'] > needs['full']
  assert (made.at_work > 0) == (weights == 'int8')
  assert chosen(None) == chosen(needs['products']) == 'products'
  assert chosen(needs['products'] - 1) == chosen(needs['linear']) == 'linear'
  assert chosen(needs['linear'] - 1) == chosen(0) == 'full'
  assert chosen(0, remat='none') == 'none'


def test_a_step_computes_again_what_it_did_not_keep(tmp_path):
  """The very program: each policy has its own number of operations."""
  told = {'buckets': (24,), 'target_length': 4}

  def operations(room, **more):
    made = outlined(tmp_path / 't5', room=room, **told, **more)
    return steps.trace(made, 'train').work.operations

  each = {r: operations(None, remat=r) for r in ('products', 'linear', 'full')}
  assert each['products'] < each['linear'] < each['full']
  assert operations(None) == each['products']
  assert operations(0) == each['full']
