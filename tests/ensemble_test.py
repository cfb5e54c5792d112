"""Five prompts of T5-XXL's depth over eight devices, two tasks, one SIGTERM."""

import json
import re
import signal

import numpy as np
import pytest
import safetensors.numpy
import tiny
from mesh_test import FLAGS
from run_test import run_and_signal

# XXL's 24 layers of each stack; its widths through 64, its heads through 4.
SHRUNK = tiny.changed(
  num_layers=24,
  num_decoder_layers=24,
  num_heads=16,
  d_kv=4,
  d_model=64,
  d_ff=160,
)
JOB = {
  'population.seeds': 5,
  # Adafactor makes much of the rounding of a small gradient: 1.6e-5 at 0.03.
  'optimizer.lr': 0.01,
  'train.steps': 8,
  'train.eval_every': 4,
  'train.save_every': 1,
  'eval.batch_size': 8,
  'eval.submission': False,
  'eval.untuned': 0,
  'tensorboard': False,
  'buckets': '(24,)',
}
NEVER = '(?!)'  # matches nothing
EIGHT = {'mesh.data': 1, 'mesh.fsdp': 4, 'mesh.tensor': 2}


def run(room, folder, *, at=NEVER, **changes) -> tuple[int, str]:
  """(exit code, what was said); a SIGTERM at the line that matches `at`."""
  return run_and_signal(
    room, folder, signal.SIGTERM, at=at, **{**JOB, **changes}
  )


def prompts(folder) -> dict[str, np.ndarray]:
  return {
    f'{path.parent.name}/{path.stem}/{key}': array
    for path in sorted(folder.glob('prompts/*/*.safetensors'))
    for key, array in safetensors.numpy.load_file(path).items()
  }


def scores(folder) -> dict:
  tasks = json.loads((folder / 'results.json').read_text())['tasks']
  return {name: task['metrics'] for name, task in tasks.items()}


@pytest.mark.full
def test_an_ensemble_on_eight_devices_ends_as_on_one(tmp_path, monkeypatch):
  """What was finished before the signal is neither trained nor written."""
  tiny.model_folder(tmp_path / 'model', SHRUNK)
  tiny.data_folder(tmp_path / 'data')
  code, said = run(tmp_path, 'one')
  assert code == 0, said

  monkeypatch.setenv('XLA_FLAGS', FLAGS)
  code, said = run(tmp_path, 'eight', at='rte [3-6]/', **EIGHT)
  assert code == 1 and 'stopped by SIGTERM at step' in said, said
  finished = {
    path: (path.stat().st_mtime_ns, path.read_bytes())
    for path in (tmp_path / 'eight/prompts/cb').iterdir()
  }
  assert len(finished) == 5
  code, said = run(tmp_path, 'eight', **EIGHT)
  assert code == 0, said
  assert re.search('^rte 8/8', said, re.M) and not re.search('^cb ', said, re.M)
  for path, was in finished.items():
    assert (path.stat().st_mtime_ns, path.read_bytes()) == was

  found, known = (prompts(tmp_path / name) for name in ('eight', 'one'))
  assert found.keys() == known.keys() and len(known) == 10
  for key, want in known.items():
    assert np.abs(found[key] - want).max() < 1e-5 * np.abs(want).max(), key
  assert scores(tmp_path / 'eight') == scores(tmp_path / 'one')
