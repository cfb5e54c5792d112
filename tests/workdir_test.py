"""A folder belongs to one configuration and one process."""

import json
import pathlib
import subprocess
import sys

import pytest

from ptjax import workdir
from ptjax.config import UserError

CONFIG = {'task': 'cb', 'buckets': (8, 16), 'wandb': ''}


def test_the_same_configuration_may_come_again(tmp_path):
  for _ in range(2):
    with workdir.claim(tmp_path / 'run', CONFIG):
      pass
  # What changes no number may differ.
  with workdir.claim(tmp_path / 'run', {**CONFIG, 'wandb': 'mine'}):
    pass
  assert json.loads((tmp_path / 'run/config.json').read_text())['task'] == 'cb'


def test_another_configuration_is_refused_with_both_values(tmp_path):
  with workdir.claim(tmp_path, CONFIG):
    (tmp_path / 'checkpoints').mkdir()
  with pytest.raises(UserError, match="task \\('cb' there, 'rte' here\\)"):
    with workdir.claim(tmp_path, {**CONFIG, 'task': 'rte'}):
      pass


def test_a_folder_of_other_things_is_refused(tmp_path):
  (tmp_path / 'thesis.tex').touch()
  with pytest.raises(UserError, match='thesis.tex'):
    with workdir.claim(tmp_path, CONFIG):
      pass
  assert [p.name for p in tmp_path.iterdir()] == ['thesis.tex']


def test_two_processes_cannot_share_a_folder(tmp_path):
  code = (
    'import pathlib, sys\n'
    'from ptjax import workdir\n'
    'from ptjax.config import UserError\n'
    'try:\n'
    '  with workdir.claim(pathlib.Path(sys.argv[1]), {"task": "cb"}): pass\n'
    'except UserError as e: print(e)\n'
  )
  root = pathlib.Path(workdir.__file__).parents[1]
  other = [sys.executable, '-c', code, str(tmp_path)]
  with workdir.claim(tmp_path, {'task': 'cb'}):
    said = subprocess.run(other, capture_output=True, text=True, cwd=root)
  assert 'in use by another process' in said.stdout
  said = subprocess.run(other, capture_output=True, text=True, cwd=root)
  assert said.stdout == '' and said.returncode == 0


def test_fresh_never_gives_a_folder_twice(tmp_path):
  names = {workdir.fresh('superglue', root=tmp_path) for _ in range(5)}
  assert len(names) == 5 and all(p.is_dir() for p in names)


def test_a_path_that_cannot_be_written_is_told(tmp_path):
  (tmp_path / 'file').touch()
  with pytest.raises(UserError, match='cannot be written'):
    with workdir.claim(tmp_path / 'file' / 'run', CONFIG):
      pass


def test_a_run_that_was_refused_before_it_began_may_be_corrected(tmp_path):
  """Only config.json is there: nothing that another one could spoil."""
  with workdir.claim(tmp_path, {**CONFIG, 'task': 'bc'}):
    (tmp_path / 'metrics.jsonl').touch()
  with workdir.claim(tmp_path, CONFIG):
    pass
  assert json.loads((tmp_path / 'config.json').read_text())['task'] == 'cb'


def test_results_of_another_model_are_not_gone_on_with(tmp_path):
  workdir.hold_model(tmp_path, 'abc')
  model = {'name': 'm', 'fingerprint': 'abc'}
  workdir.write_json(tmp_path / 'results.json', {'model': model})
  workdir.hold_model(tmp_path, 'abc')
  with pytest.raises(UserError, match='fingerprint abc there, abd here'):
    workdir.hold_model(tmp_path, 'abd')


def test_a_place_for_runs_that_cannot_be_is_told(tmp_path):
  (tmp_path / 'runs').touch()
  with pytest.raises(UserError, match='without --workdir, cannot be written'):
    workdir.fresh('superglue', root=tmp_path / 'runs')
