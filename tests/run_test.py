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

import fake_store
import numpy as np
import pytest
import safetensors.numpy
import tiny

from ptjax import health

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
  assert 'compiled programs are kept in /' in said.stdout
  for task in ('cb', 'rte'):
    assert f'{task}: the training step was compiled for ' in said.stdout
  return path


def command(room: pathlib.Path, folder: str, *flags: str, **changes):
  config = f'--config=configs/superglue.py:{tiny.words(room, **changes)}'
  place = folder if '://' in folder else room / folder
  workdir = [f'--workdir={place}'] if folder else []
  return [sys.executable, '-m', 'ptjax.main', config, *workdir, *flags]


def run(room: pathlib.Path, folder: str, *flags: str, **changes):
  return subprocess.run(
    command(room, folder, *flags, **changes),
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=300,
  )


def run_and_signal(
  room, folder, number, *, at: str, **changes
) -> tuple[int, str]:
  """Sends the signal at the first line of progress that matches `at`."""
  process = subprocess.Popen(
    command(room, folder, **changes),
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
  for line in left['metrics']:
    if 'perplexity' in line:
      assert line['perplexity'] == pytest.approx(np.exp(line['loss']))
  assert all(
    'perplexity' in m
    for m in left['metrics']
    if 'grad_norm' in m and 'step' in m
  )
  assert not (room / 'straight/samples').exists()


def test_a_decoder_only_model_is_tuned_killed_and_resumed(room):
  """The same main: a population of two, its votes, inspection and export."""
  tiny.gpt_folder(room / 'gpt')
  changes = {
    'model': room / 'gpt',
    'task': 'cb',
    'population.seeds': 2,
    'eval.submission': False,
  }
  said = run(room, 'gpt_straight', **changes)
  assert said.returncode == 0, said.stderr
  assert 'no padding token' in said.stdout
  got, _ = run_and_signal(
    room, 'gpt_killed', signal.SIGKILL, at='cb [5-9]/', **changes
  )
  assert got == -9
  said = run(room, 'gpt_killed', **changes)
  assert said.returncode == 0 and 'resumed at step' in said.stdout
  straight, killed = (
    left_behind(room / name) for name in ('gpt_straight', 'gpt_killed')
  )
  assert straight == killed
  said = run(
    room,
    'gpt_scored',
    '--mode=evaluate',
    f'--prompt={room / "gpt_straight"}',
    **changes,
  )
  assert said.returncode == 0, said.stderr
  assert (
    left_behind(room / 'gpt_scored')['cb-dev.jsonl']
    == (straight['cb-dev.jsonl'])
  )


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


def test_a_run_in_a_bucket_goes_on_on_another_machine(room, monkeypatch):
  (room / 'store/runs').mkdir(parents=True)
  address, left = 'gs://runs/tiny', room / 'store/runs/tiny'
  with fake_store.serving(room / 'store'):
    monkeypatch.setenv('XDG_CACHE_HOME', str(room / 'machine'))
    got, said = run_and_signal(room, address, signal.SIGTERM, at='cb [5-7]/')
    assert got == 1, said
    assert f'same command with --workdir={address} goes on' in said
    steps = [int(p.name) for p in (left / 'checkpoints/cb').iterdir()]
    assert 5 <= max(steps) < 12 and not (left / 'results.json').exists()

    monkeypatch.setenv('XDG_CACHE_HOME', str(room / 'another'))
    again = run(room, address)
    assert again.returncode == 0, again.stderr
  assert 'resumed at step' in again.stdout
  assert f'{address}: results.json' in again.stdout
  assert str(room / 'another') not in again.stdout + again.stderr
  assert left_behind(left) == left_behind(room / 'straight')


def test_a_model_in_a_bucket_is_scored_as_the_one_here(room):
  """By its own tokenizer, which lies there, too, as data and prompts do."""
  for name in ('model', 'data', 'straight'):
    shutil.copytree(room / name, room / 'store/models/tiny' / name)
  with fake_store.serving(room / 'store'):
    said = run(
      *(room, 'there', '--mode=evaluate'),
      '--prompt=gs://models/tiny/straight',
      model='gs://models/tiny/model',
      data='gs://models/tiny/data',
    )
    assert said.returncode == 0, said.stderr
  for file in ('cb-dev.jsonl', 'rte-dev.jsonl'):
    there, here = (
      (room / name / 'predictions' / file).read_text()
      for name in ('there', 'straight')
    )
    assert there == here


def test_a_finished_run_says_so_and_changes_nothing(room, call):
  before = left_behind(room / 'straight')
  code, out, _ = call(
    f'--config={SUPERGLUE}:{tiny.words(room)}', f'--workdir={room / "straight"}'
  )
  assert code == 0 and 'is finished' in out
  assert left_behind(room / 'straight') == before


def test_a_run_says_where_layers_keep_less(room, tmp_path, call, monkeypatch):
  monkeypatch.setattr(health, 'keeps', lambda *_: 'they keep little')
  words = tiny.words(room, **{'task': 'cb', 'train.steps': 1})
  code, out, _ = call(
    f'--config={SUPERGLUE}:{words}', f'--workdir={tmp_path / "w"}'
  )
  assert code == 0 and 'cb: they keep little' in out


def test_another_configuration_does_not_get_the_folder(room, call):
  code, _, said = call(
    f'--config={SUPERGLUE}:{tiny.words(room, **{"optimizer.lr": 0.1})}',
    f'--workdir={room / "straight"}',
  )
  assert code == 2
  assert 'optimizer.lr (0.3 there, 0.1 here)' in said
  assert len(said.strip().splitlines()) == 1


def test_evaluate_gives_the_numbers_of_the_run(room, call):
  code, _, said = call(
    f'--config={SUPERGLUE}:{tiny.words(room)}',
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
      f'--config={SUPERGLUE}:{tiny.words(room, **changes)}',
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
  """Anywhere between the first update and the last word of the run."""
  changes = {'train.steps': 120, 'train.eval_every': 30, 'train.save_every': 5}
  rng = random.Random(0)

  def started(folder):
    process = subprocess.Popen(
      command(room, folder, **changes),
      cwd=ROOT,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
    )
    process.stderr.readline()
    return process

  process = started('undisturbed')
  first = time.monotonic()
  process.communicate()
  whole = time.monotonic() - first
  want = left_behind(room / 'undisturbed')
  for trial in range(10):
    folder, instant = f'killed{trial}', rng.uniform(0, whole)
    process = started(folder)
    time.sleep(instant)
    process.kill()
    process.communicate()
    again = run(room, folder, **changes)
    assert again.returncode == 0, again.stderr
    where = re.findall(r'(?:resumed at|is finished).*', again.stdout)
    print(f'{trial}: {instant:.1f} of {whole:.1f} s, then {where}')
    assert left_behind(room / folder) == want, (trial, instant)


def test_a_task_of_your_own_from_csv(room, call, tmp_path):
  """Chosen on custom.dev, reported on custom.test; a misnamed field first."""
  lines = [f'"the cat, {word}",{i % 2}' for i, word in enumerate(tiny.WORDS)]
  for name, size in (('train', 15), ('dev', 10), ('test', 5)):
    text = '\n'.join(['text,label', *lines[:size]]) + '\n'
    (tmp_path / f'{name}.csv').write_text(text)
  settings = {
    **{f'custom.{s}': tmp_path / f'{s}.csv' for s in ('train', 'dev', 'test')},
    'custom.name': 'mine',
    'custom.target': 'label',
    'custom.labels': "('0:not_entailment', '1:entailment')",
    'model': room / 'model',
    'method.length': 3,
    'train.steps': 2,
    'tensorboard': False,
  }
  said = ','.join(f'{key}={value}' for key, value in settings.items())
  argv = (f'--config=configs/custom.py:{said}', f'--workdir={tmp_path / "w"}')
  code, _, err = call(*argv, '--config.custom.template={txt} .')
  assert code == 2 and "no field 'txt', did you mean 'text'" in err
  code, out, err = call(*argv, '--config.custom.template={text} .')
  assert code == 0, err
  assert '15 training and 10 dev examples' in out
  results = json.loads((tmp_path / 'w/results.json').read_text())
  task = results['tasks']['mine']
  assert (task['examples'], task['split']) == (5, 'test')
  assert (tmp_path / 'w/predictions/mine-test.jsonl').exists()


POPULATION = {
  'task': 'cb',
  'population.seeds': 2,
  'population.lr': '(0.1,0.3)',
  'eval.submission': False,
  'profile': 2,
}


@pytest.fixture(scope='module')
def population(room):
  """What is said of the same with four prompts of CB side by side."""
  said = run(room, 'population', **POPULATION)
  assert said.returncode == 0, said.stderr
  return said.stdout


def test_a_population_leaves_a_prompt_each_and_a_table(room, population):
  left = left_behind(room / 'population')
  task = left['results']['tasks']['cb']
  assert [(m['seed'], m['lr']) for m in task['members']] == [
    (0, 0.1), (0, 0.3), (1, 0.1), (1, 0.3),
  ]  # fmt: skip
  value = task['metrics']['accuracy']
  assert len(value['members']) == 4
  assert value['best'] == value['members'][task['best_member']]
  files = sorted((room / 'population/prompts/cb').iterdir())
  assert [f.stem for f in files] == ['0', '1', '2', '3']
  assert 'members by their score on dev' in population
  assert ' ± ' in population and 'ensemble' in population
  assert 'a trace of 2 steps' in population
  assert [*(room / 'population/profile/cb').rglob('*.xplane.pb')]


def test_a_killed_population_goes_on_to_the_same_bits(room, population):
  process = subprocess.Popen(
    command(room, 'killed', **POPULATION),
    cwd=ROOT,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
  )
  for line in process.stderr:
    if re.match('cb [5-9]/', line):
      process.kill()
      break
  process.stderr.read()
  assert process.wait(timeout=300) == -9
  again = run(room, 'killed', **POPULATION)
  assert again.returncode == 0 and 'resumed at step' in again.stdout
  assert left_behind(room / 'killed') == left_behind(room / 'population')


def test_prompts_by_any_name_are_one_ensemble(room, population, call):
  """The run, its files, and a bank of them give the run's own numbers."""
  folder, bank = room / 'population', room / 'bank.safetensors'
  config = f'--config={SUPERGLUE}:{tiny.words(room, **POPULATION)}'
  code, _, said = call(
    *(config, '--mode=export', '--format=bank', f'--prompt={folder}'),
    f'--output={bank}',
  )
  assert code == 0, said
  files = ','.join(
    str(folder / f'prompts/cb/{i}.safetensors') for i in range(4)
  )
  want = json.loads((folder / 'results.json').read_text())['tasks']['cb']
  for number, words in enumerate((folder, files, bank)):
    workdir = room / f'ensemble{number}'
    code, _, said = call(
      *(config, '--mode=evaluate', f'--prompt={words}'),
      f'--workdir={workdir}',
    )
    assert code == 0, said
    results = json.loads((workdir / 'results.json').read_text())
    found = results['tasks']['cb']
    for key in ('metrics', 'score', 'rank', 'agreement', 'best_member'):
      assert found[key] == want[key]


def test_prompts_that_do_not_go_together_are_refused_first(room, call):
  one = room / 'straight/prompts/cb.safetensors'
  short = room / 'short.npy'
  np.save(short, np.ones((3, 24), np.float32))
  code, _, said = call(
    f'--config={SUPERGLUE}:{tiny.words(room)}',
    *('--mode=evaluate', f'--prompt={one},{short}'),
    f'--workdir={room / "refused"}',
  )
  assert code == 2 and 'needs prompts of one length' in said
  assert not (room / 'refused').exists()


def test_prompts_are_looked_at(room, population, call):
  code, said, error = call(
    f'--config={SUPERGLUE}:{tiny.words(room, **POPULATION)}',
    *('--mode=inspect', f'--prompt={room / "population"}'),
    f'--workdir={room / "looked"}',
  )
  assert code == 0, error
  found = json.loads((room / 'looked/inspect.json').read_text())
  assert list(found['prompts']) == [f'cb/{i}' for i in range(4)]
  assert 'cb/3' in said


def test_the_winner_of_a_sweep_is_a_run_that_can_be_run(room, population):
  """Alone it is the member that won, and none of the others."""
  config = room / 'population/best/cb.py'
  done = subprocess.run(
    [
      *(sys.executable, '-m', 'ptjax.main', f'--config={config}'),
      f'--workdir={room / "winner"}',
    ],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.returncode == 0, done.stderr
  results = json.loads((room / 'population/results.json').read_text())
  best = results['tasks']['cb']['best_member']

  def rows(path):
    return safetensors.numpy.load_file(room / path)['prompt/encoder']

  found = rows('winner/prompts/cb.safetensors')
  for i in range(4):
    apart = np.abs(found - rows(f'population/prompts/cb/{i}.safetensors')).max()
    assert apart < 1e-3 if i == best else apart > 0.05


def test_free_text_whose_dev_is_cut_off(room, tmp_path, call):
  data = tmp_path / 'translation'
  data.mkdir()
  for split, rows in (('train', 20), ('test', 6)):
    for language, word in (('en', 'dog'), ('de', 'cat')):
      lines = [f'{split} the {word} {i}' for i in range(rows)]
      (data / f'{split}.{language}').write_text('\n'.join(lines) + '\n')
  changes = {
    'task': 'translation',
    'data': data,
    'method.init': 'vocabulary',
    'eval.split': 'test',
    'eval.submission': False,
    'train.steps': 2,
    'train.eval_every': 2,
  }
  config = f'--config={SUPERGLUE}:{tiny.words(room, **changes)}'
  code, out, said = call(config, f'--workdir={tmp_path / "w"}')
  assert code == 0, said
  assert 'translation: 18 training and 2 dev examples' in out
  remark = 'dev is cut off train by seed 0, no text in both'
  assert f'  {remark}\n' in out
  results = json.loads((tmp_path / 'w/results.json').read_text())
  task = results['tasks']['translation']
  assert list(task['metrics']) == ['bleu'] and task['examples'] == 6
  assert (task['split'], task['selected_on']) == ('test', 'dev')
  # The same by the prompt alone; what the splits are is told here, too.
  code, out, said = call(
    config,
    '--mode=evaluate',
    f'--prompt={tmp_path / "w"}',
    f'--workdir={tmp_path / "e"}',
  )
  assert code == 0, said
  assert f'translation: {remark}' in out
  left = [
    (tmp_path / name / 'predictions/translation-test.jsonl').read_text()
    for name in ('w', 'e')
  ]
  assert left[0] == left[1] and len(left[0].splitlines()) == 6
