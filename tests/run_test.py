"""`main`, run as a user runs it: straight, killed and resumed, and refused."""

import json
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import safetensors.numpy
import tiny
from absl import flags

from ptjax import main

ROOT = pathlib.Path(__file__).resolve().parents[1]
SUPERGLUE = 'configs/superglue.py'


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
      elif name in ('mode', 'prompt', 'input', 'output', 'workdir'):
        flags.FLAGS[name].value = ''
    with pytest.raises(SystemExit) as code:
      main._parse(argv)
      main._main([])
    return code.value.code, *capsys.readouterr()

  return run_main


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


def test_a_finished_run_says_so_and_changes_nothing(room, call):
  before = left_behind(room / 'straight')
  code, out, _ = call(
    f'--config={SUPERGLUE}:{words(room)}', f'--workdir={room / "straight"}'
  )
  assert code == 0 and 'is finished' in out
  assert left_behind(room / 'straight') == before


def test_another_configuration_does_not_get_the_folder(room, call):
  code, _, said = call(
    f'--config={SUPERGLUE}:{words(room, **{"optimizer.lr": 0.1})}',
    f'--workdir={room / "straight"}',
  )
  assert code == 2
  assert 'optimizer.lr (0.3 there, 0.1 here)' in said
  assert len(said.strip().splitlines()) == 1


def test_evaluate_gives_the_numbers_of_the_run(room, call):
  code, _, said = call(
    f'--config={SUPERGLUE}:{words(room)}',
    *('--mode=evaluate', f'--prompt={room / "straight"}'),
    f'--workdir={room / "evaluated"}',
  )
  assert code == 0, said
  want = left_behind(room / 'straight')
  got = {
    path.name: path.read_text()
    for path in (room / 'evaluated' / 'predictions').iterdir()
  }
  assert got == {name: want[name] for name in ('cb-dev.jsonl', 'rte-dev.jsonl')}
  results = json.loads((room / 'evaluated' / 'results.json').read_text())
  assert results['score'] == want['results']['score']


def test_predict_and_score_agree_with_each_other(room, tmp_path, call):
  """Greedy text is no less likely than another; ids are taken as they are."""
  rows = tmp_path / 'rows.jsonl'
  rows.write_text(
    '{"inputs": "the cat sat", "targets": "here"}\n'
    '{"input_ids": [3, 4, 6, 1], "target_ids": [16, 1], "note": "ü\\ud800"}\n'
    '{"inputs": "a red box is there", "targets": "dog"}\n'
  )
  answers = {}
  for mode in ('predict', 'score'):
    code, _, said = call(
      f'--config=configs/model.py:model={room / "model"},max_length=3',
      *(f'--mode={mode}', f'--input={rows}', f'--output={tmp_path / mode}'),
      f'--prompt={room / "straight/prompts/cb.safetensors"}',
    )
    assert code == 0, said
    text = (tmp_path / mode).read_text('utf-8')
    answers[mode] = [json.loads(line) for line in text.splitlines()]
  assert all(isinstance(a['prediction'], str) for a in answers['predict'])
  first, second, third = answers['score']
  assert second['note'] == 'ü\ud800'
  # 'the cat sat' + EOS is [3, 4, 6, 1] and 'here' + EOS is [16, 1].
  assert first['log_prob'] == pytest.approx(second['log_prob'], abs=1e-5)
  assert first['num_tokens'] == 2 and first['log_prob'] < 0
  assert third['log_prob'] != pytest.approx(first['log_prob'], abs=1e-5)


def test_a_loss_that_is_not_finite_ends_the_run_with_the_last_good_state(
  room, call
):
  changes = {'optimizer.lr': 1e38, 'optimizer.warmup': 11, 'task': 'cb'}
  for _ in range(2):  # the second time goes on from what the first kept
    code, out, said = call(
      f'--config={SUPERGLUE}:{words(room, **changes)}',
      f'--workdir={room / "broken"}',
    )
    assert code == 1, said
    assert 'is not finite' in said and 'Traceback' not in said
    assert 'the state of step 1 is kept' in said
  assert 'resumed at step 1' in out
  steps = [p.name for p in (room / 'broken/checkpoints/cb').iterdir()]
  assert steps == ['1']


@pytest.mark.full
def test_ten_kills_at_random_instants_leave_the_same_bits(room):
  """From the interpreter's start to after the last update, by the clock."""
  rng = random.Random(0)
  started = time.monotonic()
  assert run(room, 'clock').returncode == 0
  whole = time.monotonic() - started
  want = left_behind(room / 'straight')
  for trial in range(10):
    folder, instant = f'killed{trial}', rng.uniform(0.1, 1.0) * whole
    process = subprocess.Popen(
      command(room, folder),
      cwd=ROOT,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )
    time.sleep(instant)
    process.kill()
    code = process.wait()
    again = run(room, folder)
    assert again.returncode == 0, again.stderr
    where = re.findall(r'.*(?:resumed at|finished).*', again.stdout)
    print(f'{trial}: {instant:.1f} of {whole:.1f} s, exit {code}, {where}')
    assert left_behind(room / folder) == want, (trial, instant)


@pytest.fixture
def rows(tmp_path):
  path = tmp_path / 'rows.jsonl'
  path.write_text('{"inputs": "a", "targets": "b"}\n')
  return path


@pytest.mark.parametrize(
  'words_,flags_,sentence',
  [
    ('taks=cb', [], "no key 'taks', did you mean 'task'"),
    ('task=bolq', [], "did you mean 'boolq'"),
    ('', ['--config.trian.steps=3'], "did you mean 'train.steps'"),
    ('', ['--config.train.steps=x'], "train.steps='x' must be of the type"),
    ('', ['--config.remat=maybe'], "remat='maybe' must be of the type"),
    ('', ['--mode=trian'], "did you mean 'train'"),
    ('', ['--wrkdir=x'], "did you mean 'workdir'"),
    ('', ['--mode=score'], '--mode=score needs --input=FILE.jsonl'),
    ('', ['--prompt=x'], '--prompt is for the other modes'),
    ('', ['extra'], "'extra' is no flag"),
    ('train.batch_size=0', [], 'train.batch_size=0 must be at least 1'),
    ('train.patience=-1', [], 'train.patience=-1 must be at least 0'),
    ('eval.untuned=-1', [], 'eval.untuned=-1 must be at least 0'),
    ('seed=-1', [], 'seed=-1 must be in [0, 4294967295)'),
    ('seed=4294967296', [], 'must be in [0, 4294967295)'),
    ('optimizer.lr=0', [], 'optimizer.lr=0.0 must be above 0'),
    ('buckets=(a,b)', [], 'must be lengths in pieces'),
    ('method.name=soft_promt', [], "did you mean 'soft_prompt'"),
    ('method.length=0', [], 'method.length=0 must be at least 1'),
    ('method.init=text', [], 'method.init=text needs method.text'),
    ('method.init=file', [], 'method.init=file needs method.file'),
    ('eval.by=rnak', [], "did you mean 'rank'"),
    ('eval.split=train', [], 'it can be dev, test'),
    ('task=cb,eval.submission=maybe', [], 'must be of the type'),
    ('model=./nowhere', [], 'no folder'),
  ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(
  words_, flags_, sentence, tmp_path, call
):
  code, _, said = call(
    f'--workdir={tmp_path / "w"}', f'--config={SUPERGLUE}:{words_}', *flags_
  )
  assert code == 2, said
  assert sentence in said
  assert len(said.strip().splitlines()) == 1


def test_a_mistake_is_told_by_the_process_itself(tmp_path):
  """As the others, but through the shell's eyes, once."""
  said = subprocess.run(
    [*(sys.executable, '-m', 'ptjax.main'), f'--config={SUPERGLUE}:taks=cb'],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=120,
  )
  assert said.returncode == 2 and said.stdout == ''
  assert said.stderr.startswith('ptjax: ') and said.stderr.count('\n') == 1


@pytest.mark.parametrize(
  'changes,sentence',
  [
    ({'task': 'bool'}, "did you mean 'boolq'"),
    ({'task': 'boolq'}, 'has no folder for boolq'),
    ({'data': '/nowhere'}, "data='/nowhere' is no folder"),
    ({'eval.split': 'test'}, 'have no labels'),
    ({'target_length': 1}, 'target_length=1 is too short for the answer'),
    ({'shots': 1000}, 'shots=1000 must be between 1 and the 24'),
    ({'buckets': '(8,)'}, 'has no room for an input of'),
    ({'method.name': 'none'}, 'nothing trains by method.name=none'),
    ({'tune': 'nothing.*'}, "tune: 'nothing.*' matches none"),
    ({'tune': '((a)'}, 'is no regular expression'),
    ({'method.init': 'file', 'method.file': 'x.npy'}, 'no such file'),
  ],
)
def test_a_mistake_in_the_data_or_model_ends_before_the_first_step(
  room, call, changes, sentence, tmp_path
):
  changes = {'eval.submission': False, **changes}
  code, _, said = call(
    f'--config={SUPERGLUE}:{words(room, **changes)}',
    f'--workdir={tmp_path / "w"}',
  )
  assert code == 2, said
  assert sentence in said
  # And the folder is free for the corrected command.
  left = tmp_path / 'w'
  assert not (left / 'checkpoints').exists() or not list(
    (left / 'checkpoints').iterdir()
  )


def test_submission_for_a_task_the_leaderboard_lacks_is_refused_first(
  call, tmp_path
):
  code, _, said = call(
    '--config=configs/custom.py:eval.submission=True,custom.target=x,'
    'custom.template={x}',
    f'--workdir={tmp_path / "w"}',
  )
  assert code == 2 and "is no task of SuperGLUE's leaderboard" in said
  assert not (tmp_path / 'w').exists()


def test_a_prompt_that_is_missing_is_told_before_any_task_is_scored(
  room, call, tmp_path
):
  lone = tmp_path / 'lone' / 'prompts'
  lone.mkdir(parents=True)
  shutil.copy(room / 'straight/prompts/cb.safetensors', lone)
  code, _, said = call(
    f'--config={SUPERGLUE}:{words(room)}',
    *('--mode=evaluate', f'--prompt={tmp_path / "lone"}'),
    f'--workdir={tmp_path / "w"}',
  )
  assert code == 2 and "'rte' is not among its prompts (cb)" in said
  assert not (tmp_path / 'w').exists()


def test_other_data_under_the_same_name_is_refused(room, call):
  """The configuration is the same; what its names stand for is not."""
  changes = {'data': room / 'other_data', 'task': 'cb', 'train.steps': 2}
  shutil.copytree(room / 'data', room / 'other_data')
  argv = (
    f'--config={SUPERGLUE}:{words(room, **changes)}',
    f'--workdir={room / "changed"}',
  )
  assert call(*argv)[0] == 0
  (room / 'changed/results.json').unlink()  # as if it had been killed
  file = room / 'other_data/CB/train.jsonl'
  file.write_text('\n'.join(file.read_text().splitlines()[1:]) + '\n')
  code, _, said = call(*argv)
  assert code == 2 and 'a run of cb on another data' in said


def test_a_path_that_cannot_be_written_is_told_first(room, rows, call):
  model = f'--config=configs/model.py:model={room / "model"}'
  blocked = rows / 'x' / 'out.jsonl'
  for flag, sentence in (
    (f'--output={blocked}', 'cannot be written: Not a directory'),
    (f'--output={rows.parent}', 'cannot be written: Is a directory'),
  ):
    code, _, said = call(model, '--mode=score', f'--input={rows}', flag)
    assert code == 2 and sentence in said, said
  code, _, said = call(
    f'--config={SUPERGLUE}:{words(room)}', f'--workdir={rows / "w"}'
  )
  assert code == 2 and 'cannot be written' in said
