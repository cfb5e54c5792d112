"""Names on a hub, through the real client, against a hub on this machine."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import fake_hub
import pytest
from goldens import t5_models

ROOT = pathlib.Path(__file__).resolve().parents[2]

# The client reads its environment when it is imported, so each case is one
# fresh process that prints what a user would see.
_PROGRAM = """
import json, sys
from ptjax.config import UserError
from ptjax.weights import load
try:
  held = load.load(sys.argv[1])
  print(json.dumps([held.fingerprint, str(held.folder), held.name]))
except UserError as error:
  print(json.dumps({'error': str(error)}))
"""


def ask(name: str, home: pathlib.Path, *, url: str, offline: bool = False):
  environment = {
    **os.environ,
    'HF_ENDPOINT': url,
    'HF_HOME': str(home),
    'HF_HUB_OFFLINE': str(int(offline)),
    'HF_HUB_DISABLE_PROGRESS_BARS': '1',
    'PYTHONPATH': str(ROOT),
  }
  done = subprocess.run(
    [sys.executable, '-c', _PROGRAM, name],
    env=environment,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope='module')
def root(tmp_path_factory) -> pathlib.Path:
  """Models as the hub has them: with more formats than anybody needs."""
  folder = tmp_path_factory.mktemp('hub')
  for case, name in (('t5_1_1', 'acme/tiny'), ('lm_adapt_bin', 'acme/bin')):
    model = folder / 'models' / name
    shutil.copytree(t5_models.FOLDER / case, model)
    (model / 'tokenizer.json').write_text('{}')
    (model / 'spiece.model').write_bytes(b'pieces')
    (model / 'tf_model.h5').write_bytes(b'not needed')
  (folder / 'models/acme/tiny/pytorch_model.bin').write_bytes(b'not needed')
  (folder / 'models/acme/empty').mkdir()
  shutil.copy(
    t5_models.FOLDER / 't5_1_1' / 'config.json', folder / 'models/acme/empty'
  )
  return folder


def test_only_what_is_needed_is_fetched_and_then_kept(root, tmp_path):
  with fake_hub.serve(root) as hub:
    fingerprint, folder, name = ask('acme/tiny', tmp_path, url=hub.url)
    url, fetched = hub.url, sorted(set(hub.downloads()))
  assert fetched == [
    'config.json',
    'model.safetensors',
    'spiece.model',
    'tokenizer.json',
  ]
  assert name == 'acme/tiny' and str(tmp_path) in folder
  assert {p.name for p in pathlib.Path(folder).iterdir()} == set(fetched)
  # The hub is gone: the cache answers, told so or not.
  for offline in (True, False):
    again = ask('acme/tiny', tmp_path, url=url, offline=offline)
    assert again == [fingerprint, folder, name]


def test_bin_where_there_is_no_safetensors(root, tmp_path):
  with fake_hub.serve(root) as hub:
    fingerprint, _, _ = ask('acme/bin', tmp_path, url=hub.url)
    assert 'pytorch_model.bin' in hub.downloads()
    assert 'tf_model.h5' not in hub.downloads()
  assert len(fingerprint) == 64


def test_misspelled_and_unfinished_repositories(root, tmp_path):
  with fake_hub.serve(root) as hub:
    error = ask('google/t5-base-lm-adopt', tmp_path, url=hub.url)['error']
    assert 'no public model of that name' in error and hub.url in error
    assert 'Near it: google/t5-base-lm-adapt' in error
    error = ask('acme/empty', tmp_path, url=hub.url)['error']
    assert 'does not hold model.safetensors nor pytorch_model.bin' in error
    assert '\n' not in error


def test_no_hub_in_reach(root, tmp_path):
  with fake_hub.serve(root) as hub:
    url = hub.url
  error = ask('acme/tiny', tmp_path, url=url)['error']
  assert f'{url} cannot be reached' in error and '\n' not in error
  error = ask('acme/tiny', tmp_path, url=url, offline=True)['error']
  assert 'HF_HUB_OFFLINE forbids' in error and '\n' not in error
