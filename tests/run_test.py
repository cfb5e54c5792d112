"""`main`, run as a user runs it: straight, killed and resumed, and refused."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy
import tiny

ROOT = pathlib.Path(__file__).resolve().parents[1]


@pytest.fixture(scope='module')
def room(tmp_path_factory):
  """A folder with a model, data, and the run that nobody disturbed."""
  path = tmp_path_factory.mktemp('run')
  tiny.model_folder(path / 'model')
  tiny.data_folder(path / 'data')
  said = run(path, 'straight')
  assert said.returncode == 0, said.stderr
  return path


def words(room: pathlib.Path, **changes) -> str:
  settings = {
    'model': room / 'model',
    'data': room / 'data',
    'task': 'cb+rte',
    'method.length': 5,
    'method.init': 'uniform',
    'train.steps': 12,
    'train.batch_size': 8,
    'train.eval_every': 4,
    'train.save_every': 2,
    'train.log_every': 1,
    'train.dropout': 0.1,
    'eval.submission': True,
    **changes,
  }
  return ','.join(f'{key}={value}' for key, value in settings.items())


def command(room: pathlib.Path, folder: str, *flags: str, **changes):
  config = f'--config=configs/superglue.py:{words(room, **changes)}'
  workdir = [f'--workdir={room / folder}'] if folder else []
  return [sys.executable, '-m', 'ptjax.main', config, *workdir, *flags]


def run(room: pathlib.Path, folder: str, *flags: str, **changes):
  return subprocess.run(
    command(room, folder, *flags, **changes),
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=300,
  )


def run_and_signal(room, folder, number, *, at: str) -> tuple[int, str]:
  """Sends the signal at the first line of progress that matches `at`."""
  process = subprocess.Popen(
    command(room, folder),
    cwd=ROOT,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
  )
  said = ''
  for line in process.stderr:
    said += line
    if re.match(at, line):
      process.send_signal(number)
      break
  said += process.stderr.read()
  return process.wait(timeout=300), said


def left_behind(folder: pathlib.Path) -> dict:
  """All that a run leaves, without its clock."""
  out = {}
  for file in sorted((folder / 'prompts').glob('*.safetensors')):
    for key, array in safetensors.numpy.load_file(file).items():
      out[f'{file.stem}/{key}'] = array.tobytes()
  for file in sorted(folder.glob('predictions/*')):
    out[file.name] = file.read_text()
  for file in sorted(folder.glob('submission/*')):
    out[file.name] = file.read_text()
  results = json.loads((folder / 'results.json').read_text())
  results.pop('seconds')
  for task in results['tasks'].values():
    task.pop('seconds')
  out['results'] = results
  lines = map(json.loads, (folder / 'metrics.jsonl').read_text().splitlines())
  out['metrics'] = [
    {k: v for k, v in line.items() if k != 'time'} for line in lines
  ]
  for last in sorted(folder.glob('checkpoints/*')):
    steps = [int(p.name) for p in last.iterdir() if p.name.isdigit()]
    out[f'{last.name}/steps'] = max(steps)
  return out


def test_a_run_leaves_what_it_says(room):
  left = left_behind(room / 'straight')
  assert {'cb/prompt/encoder', 'rte/prompt/encoder'} <= left.keys()
  assert {'cb-dev.jsonl', 'rte-dev.jsonl', 'CB.jsonl', 'RTE.jsonl'} <= (
    left.keys()
  )
  assert len(left['cb-dev.jsonl'].splitlines()) == 24
  results = left['results']
  metrics = results['tasks']['cb']['metrics']
  assert set(metrics) == {'mean_3class_f1', 'accuracy'}
  for value in metrics.values():
    assert value['average'] == value['best'] == value['ensemble']
    assert value['members'] == [value['average']]
  assert results['tasks']['cb']['selected_on'] == 'dev'
  assert results['tasks']['cb']['examples'] == 24
  assert results['method'] == {'name': 'soft_prompt', 'parameters': 5 * 24}
  scores = [task['score']['average'] for task in results['tasks'].values()]
  assert results['score']['average'] == pytest.approx(np.mean(scores), abs=1e-3)
  steps = [m['step'] for m in left['metrics'] if 'loss' in m and 'step' in m]
  assert steps == [*range(1, 13), *range(1, 13)]


@pytest.mark.parametrize(
  'number,at,code', [('SIGTERM', 'cb [5-7]/', 1), ('SIGKILL', 'rte [5-9]/', -9)]
)
def test_a_stopped_run_goes_on_to_the_same_bits(room, number, at, code):
  """Parameters, predictions, results and the log, as if nothing had been."""
  folder = number.lower()
  got, said = run_and_signal(room, folder, signal.Signals[number], at=at)
  assert got == code, said
  if number == 'SIGTERM':
    assert 'stopped by SIGTERM at step' in said and 'Traceback' not in said
  again = run(room, folder)
  assert again.returncode == 0, again.stderr
  assert 'resumed at step' in again.stdout
  assert left_behind(room / folder) == left_behind(room / 'straight')


def test_a_finished_run_says_so_and_changes_nothing(room):
  before = left_behind(room / 'straight')
  said = run(room, 'straight')
  assert said.returncode == 0 and 'is finished' in said.stdout
  assert 'not_entailment' not in said.stderr
  assert left_behind(room / 'straight') == before


def test_another_configuration_does_not_get_the_folder(room):
  said = run(room, 'straight', **{'optimizer.lr': 0.1})
  assert said.returncode == 2
  assert 'optimizer.lr (0.3 there, 0.1 here)' in said.stderr
  assert len(said.stderr.strip().splitlines()) == 1


def test_evaluate_gives_the_numbers_of_the_run(room):
  said = run(
    room, 'evaluated', '--mode=evaluate', f'--prompt={room / "straight"}'
  )
  assert said.returncode == 0, said.stderr
  want = left_behind(room / 'straight')
  got = {
    path.name: path.read_text()
    for path in (room / 'evaluated' / 'predictions').iterdir()
  }
  assert got == {name: want[name] for name in ('cb-dev.jsonl', 'rte-dev.jsonl')}
  results = json.loads((room / 'evaluated' / 'results.json').read_text())
  assert results['score'] == want['results']['score']


def test_predict_and_score_agree_with_each_other(room, tmp_path):
  """Greedy text is no less likely than another; ids are taken as they are."""
  rows = tmp_path / 'rows.jsonl'
  rows.write_text(
    '{"inputs": "the cat sat", "targets": "here"}\n'
    '{"input_ids": [3, 4, 6, 1], "target_ids": [16, 1], "note": 7}\n'
    '{"inputs": "a red box is there", "targets": "dog"}\n'
  )
  answers = {}
  for mode in ('predict', 'score'):
    said = subprocess.run(
      [
        *(sys.executable, '-m', 'ptjax.main', f'--mode={mode}'),
        f'--config=configs/model.py:model={room / "model"},max_length=3',
        *(f'--input={rows}', f'--output={tmp_path / mode}'),
        f'--prompt={room / "straight/prompts/cb.safetensors"}',
      ],
      cwd=ROOT,
      capture_output=True,
      text=True,
      timeout=300,
    )
    assert said.returncode == 0, said.stderr
    text = (tmp_path / mode).read_text()
    answers[mode] = [json.loads(line) for line in text.splitlines()]
  assert all(isinstance(a['prediction'], str) for a in answers['predict'])
  first, second, third = answers['score']
  assert second['note'] == 7
  # 'the cat sat' + EOS is [3, 4, 6, 1] and 'here' + EOS is [16, 1].
  assert first['log_prob'] == pytest.approx(second['log_prob'], abs=1e-5)
  assert first['num_tokens'] == 2 and first['log_prob'] < 0
  assert third['log_prob'] != pytest.approx(first['log_prob'], abs=1e-5)


def test_a_loss_that_is_not_finite_ends_the_run_with_the_last_good_state(room):
  said = run(
    room, 'broken', **{'optimizer.lr': 1e38, 'task': 'cb', 'method.low': -0.4}
  )
  assert said.returncode == 1, said.stdout
  assert 'is not finite' in said.stderr and 'Traceback' not in said.stderr
  kept = re.search(r'the state of step (\d+) is kept', said.stderr)
  steps = [int(p.name) for p in (room / 'broken/checkpoints/cb').iterdir()]
  assert int(kept[1]) == max(steps)


@pytest.mark.parametrize(
  'words_,flags,sentence',
  [
    ('taks=cb', [], "no key 'taks', did you mean 'task'"),
    ('task=bolq', [], "did you mean 'boolq'"),
    ('', ['--config.trian.steps=3'], "did you mean 'train.steps'"),
    ('', ['--config.train.steps=x'], "train.steps='x' must be of the type"),
    ('', ['--mode=trian'], "did you mean 'train'"),
    ('', ['--wrkdir=x'], "did you mean 'workdir'"),
    ('', ['--mode=score'], '--mode=score needs --input=FILE.jsonl'),
    ('train.batch_size=0', [], 'train.batch_size=0 must be at least 1'),
    ('method.name=soft_promt', [], "did you mean 'soft_prompt'"),
    ('method.length=0', [], 'method.length=0 must be at least 1'),
  ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
  words_, flags, sentence, tmp_path
):
  said = subprocess.run(
    [
      *(sys.executable, '-m', 'ptjax.main', f'--workdir={tmp_path / "w"}'),
      f'--config=configs/superglue.py:{words_}',
      *flags,
    ],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=120,
    env=os.environ,
  )
  assert said.returncode == 2, said.stderr
  assert sentence in said.stderr
  assert len(said.stderr.strip().splitlines()) == 1
