"""A prompt by the name a user gives it: file, run, or somebody's array."""

import json
import os

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from ptjax import tree
from ptjax.config import UserError
from ptjax.export import npy, prompt

ROWS = np.arange(12, dtype=np.float32).reshape(3, 4)
TUNED = {'prompt': {'encoder': ROWS}}
RECORD = {
  'model': {'name': 'm', 'fingerprint': 'abc'},
  'method': {'name': 'soft_prompt'},
  'task': 'superglue/cb',
}


@pytest.fixture
def run(tmp_path):
  """The folder of a run with two prompts."""
  for name in ('cb', 'rte'):
    path = tmp_path / 'run/prompts' / f'{name}.safetensors'
    prompt.write(path, TUNED, {**RECORD, 'task': name})
  (tmp_path / 'run/config.json').write_text('{}')
  return tmp_path / 'run'


def test_what_is_written_is_read_with_its_record(tmp_path):
  own = {**TUNED, 'model': {'encoder': {'norm': np.ones(4, np.float32)}}}
  path = tmp_path / 'new' / 'p.safetensors'
  prompt.write(path, own, RECORD)
  found, record = prompt.read(str(path))
  assert record == RECORD
  want = tree.flatten(own)
  assert tree.flatten(found).keys() == want.keys()
  for name, array in tree.flatten(found).items():
    np.testing.assert_array_equal(array, want[name])
  assert [p.name for p in path.parent.iterdir()] == ['p.safetensors']


def test_a_run_is_asked_for_a_task_of_its_own(run):
  for name in (run, run / 'prompts'):
    assert prompt.read(str(name), task='rte')[1]['task'] == 'rte'
  with pytest.raises(UserError, match=r"'wic' is not among .*\(cb, rte\)"):
    prompt.read(str(run), task='wic')
  with pytest.raises(UserError, match=r'name one of its prompts \(cb, rte\)'):
    prompt.read(str(run))
  (run / 'prompts/cb.safetensors').unlink()
  assert prompt.read(str(run))[1]['task'] == 'rte'


def test_arrays_of_others_have_no_record(tmp_path):
  npy.write(tmp_path / 'p.npy', ROWS)
  npy.write_step(tmp_path / 'theirs', ROWS, step=7)
  for name in ('p.npy', 'theirs'):
    found, record = prompt.read(str(tmp_path / name))
    np.testing.assert_array_equal(found['prompt']['encoder'], ROWS)
    assert record == {}
    np.testing.assert_array_equal(prompt.rows(str(tmp_path / name)), ROWS)


def test_what_is_no_prompt_is_told(tmp_path, run):
  bare = tmp_path / 'bare.safetensors'
  safetensors.numpy.save_file({'x': ROWS}, bare)
  torn = tmp_path / 'torn.safetensors'
  torn.write_bytes((run / 'prompts/cb.safetensors').read_bytes()[:60])
  begun = tmp_path / 'begun'
  begun.mkdir()
  (begun / 'config.json').write_text('{}')
  whole = tmp_path / 'whole.safetensors'
  prompt.write(whole, {'model': {'head': ROWS}}, RECORD)
  for name, sentence in (
    (tmp_path / 'nowhere', 'no such file or folder'),
    (bare, 'no prompt of ptjax'),
    (torn, 'cannot be read as a prompt'),
    (begun, 'holds a prompt yet'),
  ):
    with pytest.raises(UserError, match=sentence) as error:
      prompt.read(str(name))
    assert '\n' not in str(error.value) and name.name in str(error.value)
  with pytest.raises(UserError, match='holds no virtual tokens but 1 .*head'):
    prompt.rows(str(whole))


def test_another_models_prompt_is_refused_and_an_array_is_not():
  prompt.check_model(RECORD, fingerprint='abc', name='copy of m')
  prompt.check_model({}, fingerprint='abc', name='m')
  with pytest.raises(UserError, match='was trained on m .* not on other'):
    prompt.check_model(RECORD, fingerprint='abd', name='other')


def test_a_write_that_fails_leaves_the_earlier_file(tmp_path, monkeypatch):
  path = tmp_path / 'p.safetensors'
  prompt.write(path, TUNED, RECORD)

  def full(arrays, to, metadata):
    to.write_bytes(b'half')
    raise safetensors.SafetensorError('No space left on device')

  monkeypatch.setattr(safetensors.numpy, 'save_file', full)
  with pytest.raises(OSError, match='No space left'):
    prompt.write(path, {'prompt': {'encoder': ROWS + 1}}, RECORD)
  assert os.listdir(tmp_path) == ['p.safetensors']
  np.testing.assert_array_equal(prompt.rows(str(path)), ROWS)


def test_the_record_is_json_in_the_files_metadata(tmp_path):
  path = tmp_path / 'p.safetensors'
  prompt.write(path, TUNED, RECORD)
  with safetensors.safe_open(path, framework='numpy') as file:
    assert json.loads(file.metadata()['ptjax']) == RECORD
    assert list(file.keys()) == ['prompt/encoder']
