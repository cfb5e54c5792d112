"""Which prompts a user's words mean: files, runs, members, banks, arrays."""

import numpy as np
import pytest

from ptjax.config import UserError
from ptjax.export import bank, names, npy, prompt

ROWS = np.arange(12, dtype=np.float32).reshape(3, 4)


def write(path, task, *, rows=ROWS, model='abc'):
  record = {
    'model': {'name': 'm', 'fingerprint': model},
    'method': {'name': 'soft_prompt'},
    'task': f'superglue/{task}',
  }
  prompt.write(path, {'prompt': {'encoder': rows}}, record)


@pytest.fixture
def run(tmp_path):
  """The folder of a run: one prompt of CB, eleven members of RTE."""
  folder = tmp_path / 'run'
  write(folder / 'prompts/cb.safetensors', 'cb')
  for i in range(11):
    write(folder / f'prompts/rte/{i}.safetensors', 'rte', rows=ROWS + i)
  (folder / 'config.json').write_text('{}')
  return folder


def called(found):
  return [p.name for p in found]


def test_of_a_run_the_prompts_of_a_task_are_taken(run):
  for name in (run, run / 'prompts'):
    assert called(names.find(str(name), task='cb')) == ['cb']
    members = names.find(str(name), task='rte')
    assert called(members) == [f'rte/{i}' for i in range(11)]
    np.testing.assert_array_equal(members[10].rows, ROWS + 10)
  assert len(names.find(str(run))) == 12
  with pytest.raises(UserError, match=r"'wic' is not among .*\(cb, rte\)"):
    names.find(str(run), task='wic')


def test_what_is_named_itself_is_taken_for_any_task(run):
  """As RTE's prompt is for the diagnostics."""
  for name in (run / 'prompts/rte/0.safetensors', run / 'prompts/rte'):
    assert names.find(str(name), task='axb')


def test_a_mix_keeps_its_order_and_tells_equal_names_apart(run, tmp_path):
  npy.write(tmp_path / 'p.npy', ROWS)
  npy.write_step(tmp_path / 'theirs', ROWS, step=7)
  other = tmp_path / 'other/cb.safetensors'
  write(other, 'cb')
  first = run / 'prompts/cb.safetensors'
  words = [tmp_path / 'p.npy', first, tmp_path / 'theirs', other]
  found = names.find(','.join(map(str, words)))
  assert called(found) == ['p', str(first), 'theirs', str(other)]
  assert found[0].record == found[2].record == {}


def test_a_bank_holds_them_all(run, tmp_path):
  path = tmp_path / 'bank.safetensors'
  bank.write(path, names.find(str(run)))
  found = names.find(str(path))
  assert called(found) == called(names.find(str(run)))
  assert found[5].record == names.find(str(run))[5].record
  np.testing.assert_array_equal(found[5].rows, ROWS + 4)
  assert called(names.find(str(path), task='cb')) == ['cb']
  assert len(names.find(str(path), task='rte')) == 11


def test_what_does_not_go_together_is_named(run, tmp_path):
  write(tmp_path / 'foreign.safetensors', 'cb', model='abd')
  write(tmp_path / 'short.safetensors', 'cb', rows=ROWS[:2])
  write(tmp_path / 'wide.safetensors', 'cb', rows=np.ones((3, 5), np.float32))

  def with_(name):
    found = names.find(f'{run / "prompts/cb.safetensors"},{tmp_path / name}')
    bank.same_model(found)
    bank.same_length(found)

  with pytest.raises(UserError, match='one frozen model: .*cb.* abc, .* abd'):
    with_('foreign.safetensors')
  with pytest.raises(UserError, match='one length, .*cb.* 3, .*short.* 2 '):
    with_('short.safetensors')
  with pytest.raises(UserError, match='one width: .*cb.* 4, .*wide.* 5'):
    with_('wide.safetensors')
  twice = names.find(str(run / 'prompts/cb.safetensors')) * 2
  with pytest.raises(UserError, match="two prompts are called 'cb'"):
    bank.write(tmp_path / 'bank.safetensors', twice)


def test_what_is_missing_is_told_before_anything_is_read(run, tmp_path):
  torn = tmp_path / 'torn.safetensors'
  torn.write_bytes(b'x')
  with pytest.raises(UserError, match=r"prompt 'no', 'none': no such file"):
    names.find(f'{torn},no,none')
  begun = tmp_path / 'begun'
  begun.mkdir()
  (begun / 'config.json').write_text('{}')
  with pytest.raises(UserError, match='holds a prompt yet'):
    names.find(str(begun))
  with pytest.raises(UserError, match='12 prompts .cb, rte/0, .* one is meant'):
    names.one(str(run))
  np.testing.assert_array_equal(
    names.rows(str(run / 'prompts/cb.safetensors')), ROWS
  )


def test_a_run_of_words_says_how_they_are_given(tmp_path):
  (tmp_path / 'run/prompts').mkdir(parents=True)
  (tmp_path / 'run/prompts/cb.txt').write_text('Say so.')
  with pytest.raises(UserError, match='as method.instruction'):
    names.find(str(tmp_path / 'run'))
