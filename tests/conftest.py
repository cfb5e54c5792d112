"""What every test shares: a quiet CPU, and where other people's data lies."""

import os
import pathlib
import sys
import tempfile

# Before jax starts: no accelerator, and enough threads for virtual devices.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('NPROC', '32')
os.environ.setdefault('HF_HUB_OFFLINE', '1')
# What one test compiled, another process need not compile again.
_CACHE = pathlib.Path(tempfile.gettempdir()) / f'ptjax-tests-{os.getuid()}'
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(_CACHE))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.2')
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES', '0')

import pytest
from absl import flags

from ptjax import main

FLAGS = ('mode', 'prompt', 'input', 'output', 'workdir', 'format', 'target')
ROOT = pathlib.Path(__file__).resolve().parents[1]


def pytest_configure(config):
  config.addinivalue_line('markers', 'full: takes minutes; run by -m full')


def pytest_collection_modifyitems(config, items):
  """Leaves out what takes minutes, unless -m says what is wanted."""
  if config.option.markexpr:
    return
  long = [item for item in items if item.get_closest_marker('full')]
  config.hook.pytest_deselected(items=long)
  items[:] = [item for item in items if item not in long]


@pytest.fixture(scope='session')
def shared() -> pathlib.Path:
  """The folder of other projects' data, beside the checkout."""
  path = ROOT.parent / 'shared'
  if not path.is_dir():
    pytest.skip("../shared, other projects' data, is not on this machine")
  return path


@pytest.fixture
def call(monkeypatch, capsys):
  """`main` in this process: (exit code, stdout, stderr)."""

  def run_main(*argv: str) -> tuple[int, str, str]:
    argv = ['ptjax', *argv]
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, 'argv', argv)  # where config_flags looks
    flags.FLAGS.unparse_flags()
    for name in list(flags.FLAGS):
      if name.startswith('config.'):
        delattr(flags.FLAGS, name)
      elif name in FLAGS:
        flags.FLAGS[name].value = ''
    with pytest.raises(SystemExit) as code:
      main._parse(argv)
      main._main([])
    return code.value.code, *capsys.readouterr()

  return run_main
