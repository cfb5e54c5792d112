"""A prompt file: what is written is read, by nobody else's model."""

import json
import os

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from ptjax import tree
from ptjax.config import UserError
from ptjax.export import prompt
from ptjax.export.prompt import Prompt

ROWS = np.arange(12, dtype=np.float32).reshape(3, 4)
TUNED = {'prompt': {'encoder': ROWS}}
RECORD = {
  'model': {'name': 'm', 'fingerprint': 'abc'},
  'method': {'name': 'soft_prompt'},
  'task': 'superglue/cb',
}


def test_what_is_written_is_read_with_its_record(tmp_path):
  own = {**TUNED, 'model': {'encoder': {'norm': np.ones(4, np.float32)}}}
  path = tmp_path / 'new' / 'p.safetensors'
  prompt.write(path, own, RECORD)
  found, metadata = prompt.read(path)
  assert metadata == {'ptjax': RECORD}
  want = tree.flatten(own)
  assert found.keys() == want.keys()
  for name, array in found.items():
    np.testing.assert_array_equal(array, want[name])
  assert tree.flatten(prompt.nested(found)).keys() == want.keys()
  assert [p.name for p in path.parent.iterdir()] == ['p.safetensors']


def test_what_is_no_prompt_is_told(tmp_path):
  bare = tmp_path / 'bare.safetensors'
  safetensors.numpy.save_file({'x': ROWS}, bare)
  whole = tmp_path / 'whole.safetensors'
  prompt.write(whole, TUNED, RECORD)
  torn = tmp_path / 'torn.safetensors'
  torn.write_bytes(whole.read_bytes()[:60])
  odd = tmp_path / 'odd.safetensors'
  safetensors.numpy.save_file({'x': ROWS}, odd, {'ptjax': '"text"'})
  deep = tmp_path / 'deep.safetensors'
  safetensors.numpy.save_file({'x': ROWS}, deep, {'ptjax': '[' * 10**5})
  for path, sentence in (
    (bare, 'no prompt of ptjax'),
    (odd, 'no prompt of ptjax'),
    (torn, 'cannot be read as a prompt'),
    (deep, 'cannot be read as a prompt'),
  ):
    with pytest.raises(UserError, match=sentence) as error:
      prompt.read(path)
    assert '\n' not in str(error.value) and path.name in str(error.value)


@pytest.mark.parametrize(
  'own,sentence',
  [
    ({'model': {'head': ROWS}}, 'holds 1 parameters such as model/head'),
    ({'prompt': {'encoder': ROWS[0]}}, r'shape \(4,\), not \[P, D\]'),
    ({'prompt': {'encoder': ROWS[:0]}}, r'shape \(0, 4\), not \[P, D\]'),
    ({'prompt': {'encoder': ROWS * np.nan}}, 'not finite'),
  ],
)
def test_rows_are_those_of_a_soft_prompt(own, sentence):
  with pytest.raises(UserError, match=sentence):
    Prompt('p', own, {}, 'there/p').rows  # noqa: B018


def test_another_models_prompt_is_refused_and_an_array_is_not():
  def check(record, fingerprint, **options):
    found = Prompt('p', TUNED, record, 'p.safetensors')
    return prompt.check_model(
      found, fingerprint=fingerprint, name='other', **options
    )

  assert check(RECORD, 'abc') == check({}, 'abc') == ''
  with pytest.raises(UserError, match='was trained on m .* not on other'):
    check(RECORD, 'abd')
  assert 'was trained on m' in check(RECORD, 'abd', strict=False)
  with pytest.raises(UserError, match='not on other'):
    check({'model': 'x'}, 'abc')


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
  np.testing.assert_array_equal(prompt.read(path)[0]['prompt/encoder'], ROWS)


def test_the_record_is_json_in_the_files_metadata(tmp_path):
  path = tmp_path / 'p.safetensors'
  prompt.write(path, TUNED, RECORD)
  with safetensors.safe_open(path, framework='numpy') as file:
    assert json.loads(file.metadata()['ptjax']) == RECORD
    assert list(file.keys()) == ['prompt/encoder']
