"""A checkpoint is whole or is not there."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from orbax.checkpoint import checkpoint_manager

from ptjax.checkpoint import Checkpoints


def state(value: float):
  return {
    'tuned': {'prompt': jnp.full((3, 2), value, jnp.float32)},
    'step': jnp.int32(value),
    'rng': jax.random.key_data(jax.random.key(int(value))),
    'ok': jnp.bool_(True),
  }


@pytest.fixture
def folder(tmp_path):
  made = Checkpoints(tmp_path / 'cb')
  for step in (2, 4):
    made.save(step, state(step), {'step': step, 'seconds': 1.5, 'data': 'ab'})
  made.wait()
  made.close()
  return tmp_path / 'cb'


def test_what_is_restored_has_the_same_bits_and_place(folder):
  made = Checkpoints(folder)
  found, position = made.restore(state(0))
  want = state(4)
  assert jax.tree.structure(found) == jax.tree.structure(want)
  for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(want)):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)
  assert position == {'step': 4, 'seconds': 1.5, 'data': 'ab'}


def test_a_new_folder_has_none(tmp_path):
  assert Checkpoints(tmp_path / 'new').latest() is None


def test_two_are_kept_and_a_step_is_not_written_twice(folder):
  made = Checkpoints(folder)
  made.save(4, state(9), {'step': 4})
  made.save(6, state(6), {'step': 6})
  made.wait()
  assert sorted(p.name for p in folder.iterdir()) == ['4', '6']
  shutil.rmtree(folder / '6')
  again, _ = Checkpoints(folder).restore(state(0))
  assert int(again['step']) == 4


@pytest.mark.parametrize('emptied', [False, True])
def test_a_half_written_newest_one_is_ignored(folder, emptied):
  """A killed process leaves the folder under the name it was written in."""
  half = folder / '6.orbax-checkpoint-tmp'
  shutil.copytree(folder / '4', half)
  for file in half.rglob('*'):
    if file.is_file() and emptied:
      file.write_bytes(b'')
  made = Checkpoints(folder)
  assert made.latest() == 4
  assert int(made.restore(state(0))[0]['step']) == 4
  made.save(6, state(6), {'step': 6})
  made.wait()
  assert int(made.restore(state(0))[0]['step']) == 6


@pytest.mark.parametrize('at', ['save', 'wait_until_finished'])
def test_a_full_disk_is_one_sentence_and_the_last_one_stays(
  folder, at, monkeypatch
):
  """Told where it is begun, or where it is waited for."""
  made = Checkpoints(folder)
  if at == 'wait_until_finished':
    made.save(6, state(6), {'step': 6})
    made.wait()

  def full(*_, **__):
    raise ValueError('RESOURCE_EXHAUSTED: No space left on device\nand more')

  with monkeypatch.context() as patch:
    patch.setattr(checkpoint_manager.CheckpointManager, at, full)
    with pytest.raises(OSError, match='could not be written .*No space') as e:
      if at == 'save':
        made.save(6, state(6), {'step': 6})
      else:
        made.wait()
  assert '\n' not in str(e.value)
  left, _ = Checkpoints(folder).restore(state(0))
  assert int(left['step']) == (4 if at == 'save' else 6)
