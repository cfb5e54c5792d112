"""Where compiled programs are kept."""

import pathlib

import jax
import numpy as np
import pytest

from ptjax import compiled

KEY = 'JAX_COMPILATION_CACHE_DIR'


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
  monkeypatch.delenv(KEY)
  monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
  monkeypatch.setenv('HOME', str(tmp_path))


def test_programs_are_kept_in_the_users_cache(tmp_path, monkeypatch):
  compiled.keep('auto')
  assert compiled.place() == str(tmp_path / '.cache/ptjax/compiled')
  monkeypatch.delenv(KEY)
  monkeypatch.setenv('XDG_CACHE_HOME', '/caches')
  compiled.keep('auto')
  assert compiled.place() == str(pathlib.Path('/caches/ptjax/compiled'))


def test_a_folder_may_be_named_or_none(tmp_path, monkeypatch):
  compiled.keep('')
  assert not compiled.place()
  compiled.keep('~/programs')
  assert compiled.place() == str(tmp_path / 'programs')


def test_the_environment_comes_first(monkeypatch):
  monkeypatch.setenv(KEY, '/there')
  compiled.keep('/here')
  assert compiled.place() == '/there'


def test_programs_are_counted_once_for_each_shape():
  programs = compiled.programs()
  assert compiled.programs() is programs
  double, before = jax.jit(lambda x: 2 * x), programs.count
  arrays = [np.ones(size, np.float32) for size in (3, 4, 3, 4)]
  for array in arrays:
    jax.block_until_ready(double(array))
  assert programs.count == before + 2
