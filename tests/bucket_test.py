"""Files in a bucket, against a small store here."""

import json
import pathlib

import fake_store
import numpy as np
import pytest

from ptjax import bucket, progress, serve
from ptjax.config import UserError
from ptjax.data import source
from ptjax.export import bank, names, prompt


@pytest.fixture
def store(tmp_path):
  with fake_store.serving(tmp_path) as found:
    yield found
  bucket._copy.cache_clear()
  progress._called.clear()


def put(store, name: str, *rows: dict) -> None:
  path = store.root / name
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))


def test_an_address_is_used_as_a_path_is(store):
  put(store, 'own/a/b.tar/c d.json', {'x': 1})
  folder = bucket.path('gs://own/a/')
  file = folder / 'b.tar' / 'c d.json'
  assert str(file) == 'gs://own/a/b.tar/c d.json'
  assert (file.name, file.suffix) == ('c d.json', '.json')
  assert file.is_file() and not folder.is_file()
  assert json.loads(file.read_text()) == {'x': 1}
  assert folder.below() == ['b.tar/c d.json']
  with pytest.raises(FileNotFoundError) as error:
    (folder / 'd').read_bytes()
  assert error.value.filename == 'gs://own/a/d'
  assert bucket.path('~/a') == pathlib.Path.home() / 'a'


def test_a_folder_has_its_own_files_and_no_others(store):
  for name in ('run/a', 'run/b/c', 'run2/a', 'run0', 'ru', 'run-1/a'):
    put(store, f'own/{name}')
  assert bucket.path('gs://own/run').below() == ['a', 'b/c']
  assert len(bucket.path('gs://own').below()) == 6


def test_a_part_that_a_file_does_not_have_is_empty(store, tmp_path):
  put(store, 'own/a')
  (tmp_path / 'own/a').write_bytes(b'0123456789')
  here, there = tmp_path / 'own/a', bucket.path('gs://own/a')
  for file in (here, there):
    assert bucket.part(file, 3, 5) == b'34'
    assert bucket.part(file, 10, 11) == b''


def test_data_are_read_from_there_once(store):
  rows = [{'premise': 'a', 'label': 'entailment'}, {'premise': 'b'}]
  put(store, 'own/superglue/CB/train.jsonl', *rows)
  put(store, 'own/superglue/CB/val.jsonl', rows[1])
  for _ in range(2):
    assert source.superglue('gs://own/superglue', 'cb', 'train') == rows
  assert source.superglue('gs://own/superglue', 'cb', 'dev') == rows[1:]
  assert len(store.asked) == 2
  assert source.read('gs://own/superglue/CB/val.jsonl') == rows[1:]


def test_rows_to_predict_are_read_from_there(store):
  put(store, 'own/rows.jsonl', {'inputs': 'a'})
  found = serve.read_rows('gs://own/rows.jsonl', 'predict')
  assert list(found) == [{'inputs': 'a'}]


def test_a_copy_is_told_by_its_address(store):
  put(store, 'own/rows.jsonl', {'a': 1})
  here = bucket.copied('gs://own/rows.jsonl')
  assert here.is_file()
  assert progress.told(f'{here}, line 3') == 'gs://own/rows.jsonl, line 3'


@pytest.mark.parametrize('name', ('gs://own/none', 'gs://own'))
def test_what_is_not_there_is_told(store, name):
  """All of a bucket is never meant."""
  put(store, 'own/a')
  with pytest.raises(UserError, match=f'{name}: no such file, nor a folder'):
    bucket.copied(name)


def test_no_copy_leaves_its_folder(store, monkeypatch):
  put(store, 'own/data/a')
  ways = lambda self: ['../../../a']  # noqa: E731
  monkeypatch.setattr(bucket.Bucket, 'below', ways)
  with pytest.raises(UserError, match='is no name that a file here can have'):
    bucket.copied('gs://own/data')


def rows(store, name: str, value: float, **record) -> None:
  own = {'prompt': {'encoder': np.full((2, 3), value, np.float32)}}
  prompt.write(store.root / name, own, record)


def test_prompts_of_a_run_there_are_read_and_nothing_else(store):
  for task, value in (('cb', 1), ('rte', 2)):
    rows(store, f'own/run/prompts/{task}.safetensors', value, task=task)
  for name in ('config.json', 'checkpoints/cb/4/state', 'results.json'):
    put(store, f'own/run/{name}', {})
  found = names.find('gs://own/run')
  assert [(p.name, p.rows[0, 0]) for p in found] == [('cb', 1), ('rte', 2)]
  assert found[0].path == 'gs://own/run/prompts/cb.safetensors'
  assert names.find('gs://own/run/', task='rte')[0].name == 'rte'
  (one,) = names.find('gs://own/run:rte')
  assert one.rows[0, 0] == 2
  assert set(store.asked) == {
    f'own/run/prompts/{task}.safetensors' for task in ('cb', 'rte')
  }


def test_a_file_and_a_bank_there_are_prompts(store):
  rows(store, 'own/a:b.safetensors', 3, task='cb')
  assert names.one('gs://own/a:b.safetensors').rows[0, 0] == 3
  rows(store, 'own/c.safetensors', 4, task='cb')
  one = names.one('gs://own/c.safetensors')
  bank.write(store.root / 'own/bank.safetensors', [one])
  found = names.one('gs://own/bank.safetensors:c')
  assert found.rows[0, 0] == 4
  assert found.path == 'gs://own/bank.safetensors (c)'


@pytest.mark.parametrize(
  'name,said',
  [
    ('gs://own/model', 'gs://own/model is no run that holds a prompt yet'),
    ('gs://own/logs', "holds 'a.log', and nothing of use here"),
    ('gs://own/none', 'gs://own/none: no such file'),
    ('gs://own/none:cb', 'gs://own/none: no such file'),
    ('s3://own/run', "'s3://own/run': nothing is read from s3://; copy it"),
  ],
)
def test_what_is_no_prompt_there_is_told(store, name, said):
  for file in ('model/config.json', 'model/model.safetensors', 'logs/a.log'):
    put(store, f'own/{file}', {})
  with pytest.raises(UserError) as error:
    names.find(name)
  assert said in progress.told(str(error.value))
  assert 'own/model/model.safetensors' not in store.asked
