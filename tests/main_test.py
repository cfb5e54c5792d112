"""What `main` says to a mistake: one sentence, exit code 2, nothing begun."""

import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tiny

from ptjax import main
from ptjax.export import formats, npy, prompt

ROOT = pathlib.Path(__file__).resolve().parents[1]
SUPERGLUE = 'configs/superglue.py'


@pytest.fixture(scope='module')
def room(tmp_path_factory):
  path = tmp_path_factory.mktemp('main')
  tiny.model_folder(path / 'model')
  tiny.data_folder(path / 'data')
  return path


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
    ('', ['--config.prefix=maybe'], "prefix='maybe' must be of the type"),
    ('weights=int4', [], "weights='int4' is not known, did you mean 'int8'"),
    (
      'weights=int8,method.name=model_tuning',
      [],
      'weights=int8 holds the weights in eight bits, which cannot train',
    ),
    (
      'remat=true',
      [],
      "remat='true' is not known; it can be auto, none, products",
    ),
    ('', ['--mode=trian'], "did you mean 'train'"),
    ('', ['--wrkdir=x'], "did you mean 'workdir'"),
    ('', ['--mode=score'], '--workdir does nothing in --mode=score'),
    ('', ['--prompt=x'], '--prompt is for the other modes'),
    ('', ['--workdir=s3://a/b'], '--workdir=s3://a/b: nothing is written to'),
    ('', ['--workdir=gs://'], 'gs:// names no bucket'),
    ('', ['--input=x'], '--input does nothing in --mode=train'),
    ('', ['--mode=pretrain'], 'needs --config=configs/pretrain.py'),
    ('', ['extra'], "'extra' is no flag"),
    ('optimizer.name=adafacter', [], "did you mean 'adafactor'"),
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
    ({'task': 'record'}, 'has no folder for record'),
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
    f'--config={SUPERGLUE}:{tiny.words(room, **changes)}',
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
  prompt.write(lone / 'cb.safetensors', {}, {'task': 'superglue/cb'})
  code, _, said = call(
    f'--config={SUPERGLUE}:{tiny.words(room)}',
    *('--mode=evaluate', f'--prompt={tmp_path / "lone"}'),
    f'--workdir={tmp_path / "w"}',
  )
  assert (
    code == 2 and "'rte' is not among the tasks of its prompts (cb)" in said
  )
  assert not (tmp_path / 'w').exists()


def test_other_data_under_the_same_name_is_refused(room, call):
  """The configuration is the same; what its names stand for is not."""
  changes = {'data': room / 'other_data', 'task': 'cb', 'train.steps': 2}
  shutil.copytree(room / 'data', room / 'other_data')
  argv = (
    f'--config={SUPERGLUE}:{tiny.words(room, **changes)}',
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
    f'--config={SUPERGLUE}:{tiny.words(room)}', f'--workdir={rows / "w"}'
  )
  assert code == 2 and 'cannot be written' in said


def test_the_formats_of_the_flag_are_those_there_are():
  assert main._FORMATS.replace(' or ', ', ').split(', ') == [*formats.FORMATS]


def test_score_says_what_it_reads(call):
  code, _, said = call('--config=configs/model.py', '--mode=score')
  assert code == 2 and '--mode=score needs --input=FILE.jsonl' in said


def test_a_prompt_is_exported_as_an_adapter_and_used_as_one(room, call):
  npy.write(room / 'p.npy', np.ones((2, 24)))
  model = f'--config=configs/model.py:model={room / "model"}'
  export = (model, '--mode=export', f'--prompt={room / "p.npy"}')
  adapter = room / 'adapter'
  code, *said = call(*export, '--format=peft', f'--output={adapter}')
  assert (code, *said) == (0, '', '')
  code, *said = call(
    *(model, '--mode=export', f'--prompt={adapter}', '--format=tensorrt_llm'),
    f'--output={room / "table.npy"}',
  )
  assert code == 0 and said[0].endswith('tasks 0 adapter (2 virtual tokens)\n')
  np.testing.assert_array_equal(
    np.load(room / 'table.npy'), np.ones((1, 2, 24))
  )
  code, _, said = call(*export, f'--output={adapter}')
  assert code == 2 and '--mode=export needs --format=bank, npy' in said
  code, _, said = call(
    *(*export, '--format=npy', f'--output={adapter}', '--input=x'),
  )
  assert code == 2 and '--input does nothing in --format=npy' in said
