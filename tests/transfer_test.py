"""SPoT: a run that starts from the prompt of another task."""

import json

import numpy as np
import pytest
import tiny

from ptjax import config as config_lib
from ptjax import transfer
from ptjax.config import UserError
from ptjax.export import bank, names, prompt

D, P = tiny.CONFIG.d_model, 3


def rows(seed: int) -> np.ndarray:
  return np.random.default_rng(seed).normal(size=(P, D)).astype(np.float32)


def write(path, array, fingerprint='abc'):
  record = {
    'model': {'name': 'm', 'fingerprint': fingerprint},
    'method': {'name': 'soft_prompt'},
  }
  prompt.write(path, {'prompt': {'encoder': array}}, record)
  return path


@pytest.fixture
def sources(tmp_path):
  """A bank of three, and a prompt that is most like the second."""
  files = [
    write(tmp_path / f'{name}.safetensors', array)
    for name, array in (('far', rows(0)), ('near', rows(1)), ('odd', rows(2)))
  ]
  together = names.find(','.join(map(str, files)))
  bank.write(tmp_path / 'bank.safetensors', together)
  write(tmp_path / 'target.safetensors', rows(1) + 0.3 * rows(5))
  return tmp_path


def method(**values):
  c = config_lib.default()
  for key, value in values.items():
    c.method[key] = str(value)
  return c.method


def test_the_prompt_most_like_the_tasks_is_the_start(sources, capsys):
  target, file = sources / 'target.safetensors', sources / 'bank.safetensors'
  transfer._tell.cache_clear()
  found = transfer.rows(method(file=file, like=target))
  np.testing.assert_array_equal(found, rows(1))
  said = ' '.join(sum(map(str.split, capsys.readouterr()), []))
  assert 'of 3 prompts' in said and '(near)' in said


def test_the_tasks_own_prompt_is_not_retrieved(sources):
  target = sources / 'target.safetensors'
  found = transfer.rows(method(file=sources, like=target))
  np.testing.assert_array_equal(found, rows(1))
  with pytest.raises(UserError, match='holds no prompt but that of'):
    transfer.rows(method(file=target, like=target))


def test_one_of_a_bank_is_named(sources):
  file = sources / 'bank.safetensors'
  found = transfer.rows(method(file=f'{file}:odd'))
  np.testing.assert_array_equal(found, rows(2))
  with pytest.raises(UserError, match=r'3 prompts .* as in \S*bank\S*:far'):
    transfer.rows(method(file=file))
  with pytest.raises(UserError, match="no prompt 'nera', did you mean 'near'"):
    transfer.rows(method(file=f'{file}:nera'))


def test_prompts_of_different_models_are_not_compared(sources):
  other = write(sources / 'other.safetensors', rows(3), fingerprint='abd')
  file = sources / 'bank.safetensors'
  with pytest.raises(UserError, match='not of one frozen model'):
    transfer.rows(method(file=file, like=other))


def test_a_run_begins_from_it(sources, call):
  """And `like` without a file to start from is refused."""
  tiny.model_folder(sources / 'model')
  tiny.data_folder(sources / 'data')
  near = sources / 'near.npy'
  np.save(near, rows(1))
  changes = tiny.SHORT | {
    'method.length': P,
    'method.init': 'file',
    'method.file': f'{near}',
    'optimizer.lr': 1e-30,  # which moves nothing
    'optimizer.weight_decay': 0.0,
    'train.dropout': 0.0,
  }
  words = tiny.words(sources, **changes)
  out = sources / 'run'
  code, _, error = call(
    f'--config=configs/superglue.py:{words}', f'--workdir={out}'
  )
  assert code == 0, error
  np.testing.assert_array_equal(names.rows(str(out)), rows(1))
  assert json.loads((out / 'config.json').read_text())['method.init'] == 'file'
  words = tiny.words(sources, **(changes | {
    'method.init': 'uniform', 'method.like': near}))  # fmt: skip
  code, _, error = call(
    f'--config=configs/superglue.py:{words}', f'--workdir={sources / "b"}'
  )
  assert code == 2 and 'method.like chooses among' in error
