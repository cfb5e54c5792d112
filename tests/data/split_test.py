"""Rows, a task and a tokenizer -> splits in common shapes."""

import numpy as np
import pytest
import tiny

from ptjax import config as config_lib
from ptjax.config import UserError
from ptjax.data import split, tokenizer
from ptjax.tasks import base


@pytest.fixture(scope='module')
def room(tmp_path_factory):
  path = tmp_path_factory.mktemp('split')
  tiny.model_folder(path / 'model')
  tiny.data_folder(path / 'data')
  lines = [f'"the cat, {word}",{i % 2}' for i, word in enumerate(tiny.WORDS)]
  for name in ('train', 'dev', 'test'):
    (path / f'{name}.csv').write_text('\n'.join(['text,label', *lines]) + '\n')
  (path / 'empty.csv').write_text('text,label\n')
  return path


@pytest.fixture(scope='module')
def pieces(room):
  return tokenizer.load(room / 'model')


def custom(room, **changes):
  c = config_lib.default()
  c.task = 'custom'
  c.custom.update(
    {
      'name': 'mine',
      'train': str(room / 'train.csv'),
      'dev': str(room / 'dev.csv'),
      'template': 'premise : {text} .',
      'target': 'label',
      'labels': ('0:not_entailment', '1:entailment'),
      **changes,
    }
  )
  return c


def load(c, pieces, names=('train', 'dev')):
  (task,) = split.tasks(c)
  return task, split.load(c, task, names, pieces)


def test_a_task_of_your_own_from_csv(room, pieces):
  task, found = load(custom(room), pieces)
  assert base.short(task) == 'mine'
  example = found['train'].examples[1]
  assert example.inputs == 'premise : the cat, cat .'
  assert example.targets == 'entailment'
  assert example.choices == ('not_entailment', 'entailment')
  batch = next(found['dev'].eval_batches(batch_size=4, with_choices=True))
  ids = [pieces.encode(word)[0] for word in example.choices]
  np.testing.assert_array_equal(batch['choices'][0, :, 0], ids)
  assert (batch['choices'][0, :, 1] == pieces.eos_id).all()
  answers = ['entailment'] * len(found['dev'])
  metrics = task.metrics(answers, found['dev'].examples)
  assert metrics == {'accuracy': pytest.approx(100 * 7 / 15)}


def test_splits_share_their_shapes(room, pieces):
  c = config_lib.default()
  c.task, c.data = 'rte', str(room / 'data')
  _, found = load(c, pieces)
  assert found['train'].buckets == found['dev'].buckets
  assert found['train'].target_length == found['dev'].target_length
  assert len(found['dev'].head(5)) == 5 and len(found['dev']) == 24


def test_a_data_set_smaller_than_its_batch_repeats(room, pieces):
  _, found = load(custom(room), pieces)
  batch = next(
    found['train'].train_batches(batch_size=64, seed=0, start_step=0)
  )
  assert batch['inputs'].shape[0] == 64 and (batch['index'] >= 0).all()
  assert set(batch['index']) == set(range(len(tiny.WORDS)))


@pytest.mark.parametrize(
  'changes,sentence',
  [
    ({'template': '{txt}'}, "no field 'txt', did you mean 'text'"),
    ({'target': 'lable'}, "no field 'lable', did you mean 'label'"),
    ({'template': '{text'}, 'custom.template'),
    ({'template': 'text'}, 'names no field'),
    ({'labels': ('0:a', '2:on')}, "has '1' in 'label'; the labels are 0:a, 2:"),
    ({'metrics': ('acuracy',)}, "did you mean 'accuracy'"),
    ({'train': ''}, 'custom.train is empty'),
    ({'train': 'trian.csv'}, "there is no file 'trian.csv'"),
    ({'train': '{room}/empty.csv'}, 'has no rows'),
    ({'name': '../x'}, "custom.name='../x' must be letters"),
  ],
)
def test_a_mistake_names_what_there_is(room, pieces, changes, sentence):
  changes = {
    key: value.format(room=room) if key == 'train' else value
    for key, value in changes.items()
  }
  with pytest.raises(UserError, match='.*') as error:
    load(custom(room, **changes), pieces)
  assert sentence in str(error.value) and '\n' not in str(error.value)


def test_a_label_that_does_not_fit_is_an_error_and_an_input_is_cut(
  room, pieces
):
  c = custom(room)
  c.target_length = 1
  with pytest.raises(UserError, match='target_length=1 .* needs 2 pieces'):
    load(c, pieces)
  c.target_length, c.input_length = 2, 3
  _, found = load(c, pieces)
  assert found['train'].cut == len(found['train'])
  assert all(len(row.inputs) == 3 for row in found['train'].encoded)
  assert all(row.inputs[-1] == pieces.eos_id for row in found['train'].encoded)


def test_a_label_the_tokenizer_cannot_say_is_refused(room, pieces):
  """Its ids would be those of <unk>, and no answer could ever be right."""
  unsaid = {'labels': ('0:cat', '1:katze'), 'train': 'not/read/yet.csv'}
  with pytest.raises(UserError, match="'katze' .* comes back as '<unk>'"):
    load(custom(room, **unsaid), pieces)


def test_the_reported_set_is_the_one_that_was_given(room):
  c = custom(room)
  c.eval.split = 'test'
  assert split.reported(c) == 'dev'
  c.custom.test = str(room / 'test.csv')
  assert split.reported(c) == 'test'
  c.task, c.eval.split = 'cb', 'dev'
  assert split.reported(c) == 'dev'


def test_a_digest_sees_every_id_and_its_order(room, pieces):
  def train(**changes):
    return load(custom(room, **changes), pieces)[1]['train']

  whole = split.digest(train())
  assert split.digest(train()) == whole != split.digest(train().head(5))
  turned = ('1:not_entailment', '0:entailment')
  assert split.digest(train(labels=turned)) != whole


def test_a_mixtures_batches_say_their_tasks_up_to_the_cap(room, pieces):
  c = config_lib.default()
  c.task, c.data, c.mixture = 'cb+rte', str(room / 'data'), 8
  _, found = load(c, pieces)
  train = found['train']
  assert len(train) == 48 and train.tasks_mixed == 2
  batches = train.train_batches(batch_size=4, seed=0, start_step=0)
  epoch = [next(batches) for _ in range(2 * c.mixture // 4)]
  seen = np.concatenate([b['index'] for b in epoch])
  assert len(set(seen)) == 16 and (seen < 24).sum() == 8
  for batch in epoch:
    said = [train.examples[i].inputs.split()[0] for i in batch['index']]
    assert said == [('cb', 'rte')[k] for k in batch['task']]
  some = train.head(6)
  assert list(some.tasks) == [0, 0, 0, 1, 1, 1]
  assert [e.inputs.split()[0] for e in some.examples] == ['cb'] * 3 + [
    'rte'
  ] * 3


def test_a_draw_of_few_examples_is_the_seeds(room, pieces):
  def drawn(seed):
    c = custom(room)
    c.shots, c.seed = 4, seed
    return [e.inputs for e in load(c, pieces)[1]['train'].examples]

  assert drawn(0) == drawn(0) and len(drawn(0)) == 4
  assert drawn(0) != drawn(1)


def hard(room, **changes):
  """Three demonstrations, from a training file that says other words."""
  lines = [f'"dog ran {word}",{i % 2}' for i, word in enumerate(tiny.WORDS)]
  path = room / 'others.csv'
  path.write_text('\n'.join(['text,label', *lines]) + '\n')
  c = custom(room, train=str(path))
  c.method.name, c.method.demonstrations = 'hard_prompt', 3
  return config_lib.update(c, changes)


def test_demonstrations_are_training_examples_in_front_of_the_others(
  room, pieces
):
  """Once each, solved, as ids; the answer and the scored text are the task's
  own."""
  c = hard(room, **{'method.instruction': 'was the cat here'})
  task, found = load(c, pieces, ['train', 'dev'])
  dev = found['dev']
  assert dev.examples[1].inputs == 'premise : the cat, cat .'
  text = pieces.decode(dev.encoded[1].inputs)
  assert text.startswith('was the cat here premise : dog ran ')
  assert text.endswith(pieces.decode(pieces.encode(dev.examples[1].inputs)))
  assert text.count('dog ran') == 3 and text.count('entailment') == 3
  assert dev.encoded[1].inputs[-1] == pieces.eos_id
  solved = {
    f'{e.inputs} {e.targets}'.removeprefix('premise : ')
    for e in found['train'].examples
  }
  shown = text.removeprefix('was the cat here premise : ').split(' premise : ')
  assert len(set(shown)) == 4 and set(shown[:3]) <= solved
  assert len(dev.encoded[1].targets) == 2
  # None of them demonstrates itself.
  for example, ids in zip(found['train'].examples, found['train'].encoded):
    assert pieces.decode(ids.inputs).count(example.inputs) == 1


def test_each_member_reads_demonstrations_of_its_seed(room, pieces):
  """As if it were alone; a batch has the same rows for all."""
  _, found = load(hard(room, **{'population.seeds': 3}), pieces, ['dev'])
  dev, alone = found['dev'], []
  for seed in range(3):
    _, own = load(hard(room, seed=seed), pieces, ['dev'])
    alone.append(own['dev'])
  made = list(dev.eval_batches(batch_size=4, with_choices=True))
  assert sorted(i for part in made for i in part['index'] if i >= 0) == (
    list(range(len(dev)))
  )
  texts = set()
  for part in made:
    read = dev.as_read(part)
    assert len(read) == 3
    for own, mine in zip(alone, read):
      np.testing.assert_array_equal(mine['choices'], part['choices'])
      for i, ids, mask in zip(
        part['index'], mine['inputs'], mine['input_mask']
      ):
        if i >= 0:
          np.testing.assert_array_equal(ids[mask], own.encoded[i].inputs)
          texts.add(tuple(own.encoded[i].inputs))
  assert len(texts) == 3 * len(dev)


def test_buckets_fit_the_words_and_input_length_limits_them(room, pieces):
  _, found = load(hard(room), pieces, ['dev'])
  longest = max(len(row.inputs) for row in found['dev'].encoded)
  assert longest <= found['dev'].buckets[-1] <= longest + 7
  _, short = load(hard(room, input_length=longest - 1), pieces, ['dev'])
  reading = short['dev'].readings[0]
  assert reading.fewer and min(reading.counts) == 2 and not short['dev'].cut
  _, least = load(hard(room, input_length=3), pieces, ['dev'])
  assert least['dev'].cut == len(least['dev'])
  assert set(least['dev'].readings[0].counts) == {0}
  with pytest.raises(UserError, match='demonstrations=16 is more than the 15'):
    load(hard(room, **{'method.demonstrations': 16}), pieces)
  with pytest.raises(UserError, match='=5 is more than the 4 training'):
    load(hard(room, shots=4, **{'method.demonstrations': 5}), pieces)


def test_of_a_long_input_to_a_causal_model_the_words_and_its_end_are_kept(
  room, tmp_path
):
  """`batch.encode` alone would cut the instruction off."""
  bytes_ = tokenizer.load(tiny.gpt_folder(tmp_path / 'gpt'))
  front = bytes_.encode('a cat sat | ')
  changes = {'method.instruction': 'a cat sat', 'method.separator': ' | '}
  c = hard(room, **changes)
  (task,) = split.tasks(c)

  def dev(length):
    c.input_length = length
    return split.load(c, task, ['dev'], bytes_, causal=True)['dev']

  whole = dev(100)
  assert not whole.cut and set(whole.readings[0].counts) == {3}
  sizes = [
    len(bytes_.encode(f'a cat sat | {e.inputs}')) for e in whole.examples
  ]
  assert not dev(max(sizes)).cut  # the longest has the last piece, too
  short = dev(max(sizes) - 1)
  assert short.cut == sizes.count(max(sizes)) > 0
  for row, size, example in zip(short.encoded, sizes, short.examples):
    ids = row.inputs.tolist()
    assert ids[: len(front) - 1] == front[:-1]
    kept = ids[len(front) - 1 :]
    own = bytes_.encode(' ' + example.inputs)
    assert kept[-4:] == own[-4:] and len(ids) <= max(sizes) - 1
    assert (ids == front[:-1] + own) == (size < max(sizes))
  tight = dev(len(front) + 2)
  assert tight.cut == len(tight)
  assert all(len(r.inputs) <= len(front) + 2 for r in tight.encoded)
  with pytest.raises(UserError, match='method.instruction has'):
    dev(3)
