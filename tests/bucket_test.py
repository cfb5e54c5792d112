"""Files in a bucket, against a small store here."""

import json
import pathlib

import fake_store
import pytest

from ptjax import bucket, progress, serve
from ptjax.config import UserError
from ptjax.data import source
from ptjax.export import names


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


def test_prompts_are_to_be_copied():
  with pytest.raises(UserError, match="prompt 'gs://a/b': .*storage cp"):
    names.find('gs://a/b')
