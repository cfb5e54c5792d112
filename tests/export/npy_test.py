"""Bare arrays in and out; what is refused."""

import os
import pickle

import numpy as np
import pytest

from ptjax.config import UserError
from ptjax.export import npy

PROMPT_PxD = np.arange(12, dtype=np.float32).reshape(3, 4) / 7
OWN_NAME = 'encoder.prompt.prompt.prompt'


def test_written_and_read(tmp_path):
  path = npy.write(tmp_path / 'new' / 'prompt.npy', PROMPT_PxD)
  assert path == tmp_path / 'new' / 'prompt.npy'
  for found in (np.load(path), npy.read(path), npy.read(str(path), width=4)):
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, PROMPT_PxD)
  assert os.listdir(path.parent) == ['prompt.npy']


def test_prompt_tunings_own_layout(tmp_path):
  path = npy.write_step(tmp_path, PROMPT_PxD, step=42)
  place = ('numpy_checkpoints', 'checkpoint_42', OWN_NAME)
  assert path == tmp_path.joinpath(*place)
  assert path.read_bytes()[:6] == b'\x93NUMPY'
  npy.write_step(tmp_path, PROMPT_PxD + 1, step=9)
  # The file, its step, the steps (the last is 42, not 9), the model's folder.
  for name in (path, path.parent, path.parents[1], tmp_path):
    np.testing.assert_array_equal(npy.read(name), PROMPT_PxD)


def test_a_torn_write_leaves_the_old_file(tmp_path, monkeypatch):
  path = npy.write(tmp_path / 'p.npy', PROMPT_PxD)
  with open(path, 'rb') as reader:  # whoever reads it has a whole file
    npy.write(path, PROMPT_PxD + 1)
    np.testing.assert_array_equal(np.load(reader), PROMPT_PxD)
  npy.write(path, PROMPT_PxD)

  def full(file, *_, **__):
    file.write(b'half')
    raise OSError('no space left')

  monkeypatch.setattr(np, 'save', full)
  with pytest.raises(OSError, match='no space'):
    npy.write(path, PROMPT_PxD + 1)
  np.testing.assert_array_equal(npy.read(path), PROMPT_PxD)
  assert os.listdir(tmp_path) == ['p.npy']


@pytest.mark.parametrize('dtype', [np.float16, np.float64])
def test_other_precisions_become_float32(tmp_path, dtype):
  np.save(tmp_path / 'p.npy', PROMPT_PxD.astype(dtype))
  found = npy.read(tmp_path / 'p.npy')
  assert found.dtype == np.float32
  np.testing.assert_allclose(found, PROMPT_PxD, rtol=1e-3)


class Bomb:
  def __reduce__(self):
    return os.mkdir, ('exploded',)


def test_pickles_are_refused_and_not_run(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  np.save('p.npy', np.array([[Bomb()]], object), allow_pickle=True)
  with pytest.raises(UserError, match='p.npy.*pickled objects'):
    npy.read('p.npy')
  (tmp_path / 'q.npy').write_bytes(pickle.dumps(Bomb()))
  with pytest.raises(UserError, match='q.npy.*no array file'):
    npy.read('q.npy')
  assert not (tmp_path / 'exploded').exists()


@pytest.mark.parametrize(
  'array, message',
  [
    (PROMPT_PxD[0], r'shape \(4,\).*\(length, 4\)'),
    (PROMPT_PxD[None], r'shape \(1, 3, 4\)'),
    (PROMPT_PxD[:, :3], r'shape \(3, 3\).*\(length, 4\)'),
    (PROMPT_PxD[:0], r'shape \(0, 4\)'),
    (PROMPT_PxD.astype(int), 'int64.*floating-point'),
    (np.full((3, 4), np.nan, np.float32), 'not finite'),
    (PROMPT_PxD.astype(np.float64) * 1e300, 'not finite'),
  ],
)
@pytest.mark.filterwarnings('ignore::RuntimeWarning')
def test_what_is_no_prompt_is_refused(tmp_path, array, message):
  np.save(tmp_path / 'p.npy', array)
  with pytest.raises(UserError, match=message):
    npy.read(tmp_path / 'p.npy', width=4)


def test_torn_and_foreign_files_are_refused(tmp_path):
  whole = npy.write(tmp_path / 'p.npy', PROMPT_PxD).read_bytes()
  np.savez(tmp_path / 'several.npz', a=PROMPT_PxD)
  with pytest.raises(UserError, match='several arrays'):
    npy.read(tmp_path / 'several.npz')
  huge = whole.replace(b'(3, 4)', b'(3000000000000, 4)')
  for data in (b'', whole[:3], whole[:40], whole[:-1], b'PK\3\4', b'#', huge):
    (tmp_path / 'p.npy').write_bytes(data)
    with pytest.raises(UserError, match='no array file'):
      npy.read(tmp_path / 'p.npy')


def test_nothing_there(tmp_path):
  with pytest.raises(UserError, match='no such file'):
    npy.read(tmp_path / 'absent.npy')
  (tmp_path / 'numpy_checkpoints' / 'checkpoint_3').mkdir(parents=True)
  with pytest.raises(UserError, match='holds no prompt'):
    npy.read(tmp_path)


def test_nothing_useless_is_written(tmp_path):
  for wrong in (PROMPT_PxD[0], PROMPT_PxD * np.nan):
    with pytest.raises(UserError):
      npy.write(tmp_path / 'p.npy', wrong)
  assert not os.listdir(tmp_path)


def test_a_released_prompt(shared):
  folder = shared / 'acceptance' / 'released_prompts'
  found = npy.read(folder / 't5_1_1_lm100k_base_sst2.npy', width=768)
  assert found.dtype == np.float32 and found.shape == (100, 768)
  assert round(float(found.std()), 2) == 51.77
  assert round(float(np.linalg.norm(found, axis=1).mean())) == 1385


def test_a_released_prompt_goes_back_byte_for_byte(shared, tmp_path):
  released = shared / 'acceptance/released_prompts/t5_1_1_lm100k_base_sst2.npy'
  found = npy.read(released)
  for path in (
    npy.write(tmp_path / 'p.npy', found),
    npy.write_step(tmp_path, npy.read(tmp_path / 'p.npy'), step=30_000),
  ):
    assert path.read_bytes() == released.read_bytes()
  np.testing.assert_array_equal(npy.read(tmp_path), found)
