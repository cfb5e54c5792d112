"""A hard prompt as a user runs it, on the embedded T5: scored, not trained."""

import json
import pathlib

import pytest

from ptjax.data import hard_prompt

NAMES = 'Anna Sam Ella Max Emma Luke Hugo Jane'.split()
COLOURS = 'red blue green'.split()


@pytest.fixture(scope='module')
def room(tmp_path_factory):
  """A task of twelve training, eight dev and six test rows."""
  path = tmp_path_factory.mktemp('written')
  lines = [
    f'The ball is {a}. The map is {b}.,{int(a == b)}'
    for a in COLOURS
    for b in COLOURS
  ]
  lines += [f'{name} has the {a} map.,1' for name in NAMES for a in COLOURS]
  for name, rows in (
    ('train', lines[::3] + lines[1::11]),
    ('dev', lines[1:24:3]),
    ('test', lines[2:20:3]),
  ):
    text = '\n'.join(['text,label', *rows]) + '\n'
    (path / f'{name}.csv').write_text(text)
  return path


def words(room: pathlib.Path, **changes) -> str:
  settings = {
    **{f'custom.{s}': room / f'{s}.csv' for s in ('train', 'dev', 'test')},
    'custom.name': 'mine',
    'custom.target': 'label',
    'custom.labels': "('0:False', '1:True')",
    'custom.template': 'passage: {text}',
    'model': 'miniature',
    'method.name': 'hard_prompt',
    'tensorboard': False,
    **changes,
  }
  said = ','.join(f'{key}={value}' for key, value in settings.items())
  return f'--config=configs/custom.py:{said}'


# Behind a newline the embedded tokenizer has no words.
SPACE = '--config.method.separator= '


@pytest.fixture
def scored(room, call, tmp_path):
  """Runs, and returns (results.json, predictions, stdout, folder)."""

  def run(*flags: str, name: str = 'w', **changes):
    folder = tmp_path / name
    code, out, err = call(
      words(room, **changes), SPACE, f'--workdir={folder}', *flags
    )
    assert code == 0, err
    results = json.loads((folder / 'results.json').read_text())
    results.pop('seconds')
    results['tasks']['mine'].pop('seconds')
    (file,) = (folder / 'predictions').iterdir()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return results, lines, out, folder

  return run


TWO = {'method.demonstrations': 2, 'method.instruction': 'Is it so?'}


def test_it_leaves_what_a_trained_run_leaves(scored, room, call):
  """By train and by evaluate the same; a second time it is finished."""
  results, lines, out, folder = scored(**TWO)
  task = results['tasks']['mine']
  assert results['method'] == {'name': 'hard_prompt', 'parameters': 0}
  assert task['steps'] == [0] and task['examples'] == 6 == len(lines)
  assert (task['split'], 'selected_on' in task) == ('test', False)
  for kind, found in (('generate', task['metrics']), ('rank', task['rank'])):
    right = sum(line[kind] == line['target'] for line in lines)
    assert found['accuracy']['average'] == pytest.approx(
      100 * right / 6, abs=1e-3
    )
  assert task['demonstrations'] == {'average': 2.0, 'fewest': 2}
  assert lines[0]['inputs'].startswith('passage: ')
  said = (folder / 'prompts/mine.txt').read_text()
  assert said.startswith('Is it so? passage: ')
  assert said.count('passage: ') == 2 and said[-5:] in ('True ', 'alse ')
  assert 'an instruction and 2 demonstrations in front of each' in out
  assert 'nothing trains' in out and 'best on dev' not in out
  assert not (folder / 'checkpoints').exists()
  evaluated, again, *_ = scored('--mode=evaluate', name='evaluated', **TWO)
  assert (evaluated, again) == (results, lines)
  *_, out, _ = scored(**TWO)
  assert 'is finished' in out


def test_the_words_are_what_the_model_reads(scored, room, call, tmp_path):
  """A task whose template has them gives the same log-probabilities."""
  _, lines, _, folder = scored(**TWO)
  front = (folder / 'prompts/mine.txt').read_text()
  rows = [
    {'inputs': front + line['inputs'], 'targets': word}
    for line in lines
    for word in ('False', 'True')
  ]
  source, target = tmp_path / 'rows.jsonl', tmp_path / 'scores.jsonl'
  source.write_text('\n'.join(map(json.dumps, rows)) + '\n')
  config = '--config=configs/model.py:model=miniature'
  files = (f'--input={source}', f'--output={target}')
  code, _, err = call(config, '--mode=score', *files)
  assert code == 0, err
  nats = [json.loads(x)['log_prob'] for x in target.read_text().splitlines()]
  best = [
    'False' if no >= yes else 'True' for no, yes in zip(nats[::2], nats[1::2])
  ]
  assert [line['rank'] for line in lines] == best
  # And an instruction is in front of bare rows, but not for the model alone.
  rows = [
    {'inputs': 'passage: Anna has the map.', 'targets': 'True', **more}
    for more in ({}, {'prompt': ''})
  ]
  rows.append({**rows[0], 'inputs': 'Is it so? ' + rows[0]['inputs']})
  rows[2]['prompt'] = None
  source.write_text('\n'.join(map(json.dumps, rows)) + '\n')
  config += ',method.name=hard_prompt,method.instruction=Is it so?'
  code, _, err = call(config, '--mode=score', *files, SPACE)
  assert code == 0, err
  first, bare, typed = [
    json.loads(x)['log_prob'] for x in target.read_text().splitlines()
  ]
  assert first == pytest.approx(typed, abs=1e-5)
  assert abs(first - bare) > 1e-3
  source.write_text('{"input_ids": [3, 1], "target_ids": [4, 1]}\n')
  code, _, err = call(config, '--mode=score', *files)
  assert code == 2 and "row 1: 'input_ids' are taken as they are" in err
  code, _, err = call(
    config, '--mode=score', *files, '--config.method.demonstrations=2'
  )
  assert code == 2 and 'write them into method.instruction' in err


def test_several_draws_are_members_and_the_best_is_chosen_on_dev(scored):
  """Each as it is alone; the spread and the votes over all."""
  few = {'method.demonstrations': 1, 'eval.by': 'rank', 'eval.rank': False}
  five = few | {'population.seeds': 5}
  results, lines, out, folder = scored(**five)
  task = results['tasks']['mine']
  assert task['steps'] == [0] * 5 and task['selected_on'] == 'dev'
  assert [m['seed'] for m in task['members']] == list(range(5))
  assert 'average' in out and '±' in out
  own, mine, _, alone = scored(name='alone', seed=3, **few)
  assert own['tasks']['mine']['score']['average'] == task['score']['members'][3]
  said = [line['rank'] for line in mine]
  assert [line['rank_members'][3] for line in lines] == said
  texts = [(folder / f'prompts/mine/{i}.txt').read_text() for i in range(5)]
  assert texts[3] == (alone / 'prompts/mine.txt').read_text()
  assert len(set(texts)) > 3
  dev, *_ = scored(name='dev', **five, **{'custom.test': ''})
  found = dev['tasks']['mine']
  assert (found['best_by'], found['split']) == ('dev', 'dev')
  known = [member['dev_score'] for member in task['members']]
  assert known == pytest.approx(found['score']['members'], abs=1e-3)
  assert len(set(known)) > 1
  assert task['best_member'] == known.index(max(known)) == found['best_member']


def test_what_has_no_room_is_said(scored):
  results, lines, out, _ = scored(
    **{'method.demonstrations': 9, 'input_length': 60}
  )
  counts = [line['demonstrations'] for line in lines]
  found = results['tasks']['mine']['demonstrations']
  assert 0 < min(counts) < 9 and found['fewest'] == min(counts)
  assert f'in front of {sum(c < 9 for c in counts)} of 6 inputs there' in out


def test_a_trained_prompt_beside_it_is_refused(room, call, tmp_path):
  code, _, err = call(
    words(room), '--mode=evaluate', '--prompt=x', f'--workdir={tmp_path / "w"}'
  )
  assert code == 2 and 'leave one of them out' in err
  assert not (tmp_path / 'w').exists()


def test_the_miniatures_inputs_may_be_long_only_in_front_of_words():
  from ptjax import config as config_lib

  c = config_lib.miniature(config_lib.default(), method=hard_prompt.NAME)
  assert (c.input_length, c.buckets) == (512, ())
  c = config_lib.miniature(config_lib.default())
  assert (c.input_length, c.buckets) == (48, (32, 48))


def test_what_a_reader_must_know_is_said_without_training_too(scored):
  """Labels that begin each other; and that nothing will be sampled."""
  *_, out, _ = scored(
    **{
      'custom.labels': "('0:not', '1:not so')",
      'samples.query': 'passage: The ball is red.',
    }
  )
  assert "the label 'not' is how 'not so' begins" in out
  assert 'samples.query is not read' in out
