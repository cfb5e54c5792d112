"""Whole or not there, whatever happens in between."""

import os

import pytest

from ptjax import files
from ptjax.config import UserError


@pytest.mark.parametrize('sync', (False, True))
def test_a_file_is_there_when_it_is_whole(tmp_path, sync, monkeypatch):
  synced = []
  monkeypatch.setattr(os, 'fsync', synced.append)
  path = tmp_path / 'new' / 'x.json'
  with files.replaced(path, sync=sync) as aside:
    aside.write_text('half')
    assert not path.exists()
    aside.write_text('whole')
  assert path.read_text() == 'whole' and len(synced) == sync
  assert [p.name for p in path.parent.iterdir()] == ['x.json']


def test_after_an_error_the_old_file_is_as_it_was(tmp_path):
  path = tmp_path / 'x.json'
  path.write_text('old')
  with pytest.raises(OSError, match='full'):
    with files.replaced(str(path)) as aside:
      aside.write_text('half')
      raise OSError('full')
  assert path.read_text() == 'old'
  assert [p.name for p in tmp_path.iterdir()] == ['x.json']


def test_who_may_read_a_file_is_as_of_any_other(tmp_path):
  """Also where a package makes it for its owner alone, as safetensors does."""
  path, plain = tmp_path / 'x', tmp_path / 'plain'
  plain.touch()
  assert plain.stat().st_mode & 0o077
  with files.replaced(path) as aside:
    aside.unlink()
    os.close(os.open(aside, os.O_CREAT | os.O_WRONLY, 0o600))
  assert path.stat().st_mode == plain.stat().st_mode


def test_names_near_a_missing_one(tmp_path):
  (tmp_path / 'model').mkdir()
  (tmp_path / 'modem').write_text('')
  found = files.near(tmp_path / 'modee')
  assert found == f', did you mean {str(tmp_path / "modem")!r}?'
  found = files.near(tmp_path / 'modee', folders=True)
  assert found == f', did you mean {str(tmp_path / "model")!r}?'
  assert files.near(tmp_path / 'dev.csv') == ''
  assert files.near(tmp_path / 'far' / 'away') == ''


def test_an_address_is_no_name_of_a_folder(monkeypatch):
  monkeypatch.setenv('HOME', '/home/me')
  assert str(files.local('--workdir', '~/a b:c')) == '/home/me/a b:c'
  for name in ('gs://bucket/run', 's3://bucket/run'):
    with pytest.raises(UserError, match=f'^--workdir={name}: .* name a folder'):
      files.local('--workdir', name)
