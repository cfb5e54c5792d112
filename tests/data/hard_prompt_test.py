"""Words in front of inputs: how they are joined, drawn, and made to fit."""

import pathlib
import random

import pytest
import tiny

import ptjax
from ptjax import checks
from ptjax import config as config_lib
from ptjax.config import UserError
from ptjax.data import hard_prompt, tokenizer
from ptjax.tasks.base import Example


@pytest.fixture(scope='module')
def pieces():
  """The embedded T5's: words, else bytes, so lengths are of any size."""
  return tokenizer.load(pathlib.Path(ptjax.__path__[0]) / 'miniature/t5')


def settings(**changes):
  c = config_lib.default()
  c.method.name = 'hard_prompt'
  return config_lib.update(c, changes)


def examples(size: int, *, seed: int = 0) -> list[Example]:
  rng = random.Random(seed)
  return [
    Example(
      f'{i} ' + ' '.join(rng.choices(tiny.WORDS, k=rng.randint(1, 12))),
      rng.choice(['yes', 'not at all']),
    )
    for i in range(size)
  ]


def written(training=(), *, room=10_000, **changes):
  (one,) = hard_prompt.write(settings(**changes), lambda: training, name='t')
  return one


def read(one, found, pieces, *, room=10_000, **kwargs):
  return hard_prompt.read(one, found, pieces, room=room, **kwargs)


def test_words_stand_in_front_in_the_order_of_the_draw(pieces):
  training = [Example('a: x  ', 'yes'), Example('b:\n', 'no'), Example('', 'c')]
  one = written(
    training,
    **{'method.instruction': 'Say so.', 'method.demonstrations': 3},
  )
  solved = {'a: x  ': 'a: x yes', 'b:\n': 'b:\nno', '': 'c'}
  shown = '\n\n'.join(solved[e.inputs] for e in one.drawn)
  found = read(one, [Example('d: ', 'yes', ('yes',), {'idx': 4})], pieces)
  (example,) = found.examples
  assert example.inputs == f'Say so.\n\n{shown}\n\nd: '
  assert (example.targets, example.choices) == ('yes', ('yes',))
  assert example.meta == {'idx': 4}
  assert one.words + 'd: ' == example.inputs
  bare = written(**{'method.separator': '|', 'method.instruction': 'I'})
  assert read(bare, [Example('d', '')], pieces).examples[0].inputs == 'I|d'
  none = read(written(), [Example('d', '')], pieces)
  assert none.examples[0].inputs == 'd'


def test_a_draw_is_its_seeds_for_ever_and_fewer_are_its_first():
  training = examples(30)

  def drawn(**changes):
    one = written(training, **changes)
    return [training.index(e) for e in one.drawn[: one.count]]

  assert drawn(**{'method.demonstrations': 6}) == [23, 27, 14, 24, 0, 4]
  other = drawn(**{'method.demonstrations': 6, 'seed': 1})
  assert other == [5, 6, 22, 18, 15, 14]
  several = hard_prompt.write(
    settings(**{'method.demonstrations': 6, 'population.seeds': 2}),
    lambda: training,
    name='t',
  )
  alone = [
    written(training, seed=s, **{'method.demonstrations': 6}) for s in (0, 1)
  ]
  assert several == alone
  assert (
    drawn(**{'method.demonstrations': 2})
    == drawn(**{'method.demonstrations': 6})[:2]
  )


def test_an_example_does_not_demonstrate_itself(pieces):
  """Where training rows come again, the next drawn one stands in."""
  training = examples(8)
  one = written(training, **{'method.demonstrations': 3})
  first, second, third, fourth = one.drawn[:4]
  (found,) = read(one, [second], pieces).examples
  shown = [hard_prompt.solved(e) for e in (first, third, fourth)]
  assert found.inputs == '\n\n'.join([*shown, second.inputs])
  whole = written(training, **{'method.demonstrations': 8})
  reading = read(whole, [second], pieces)
  assert reading.counts == [7] and reading.fewer == 0


@pytest.mark.parametrize('keep_end', [False, True])
def test_as_few_demonstrations_as_possible_give_way(pieces, keep_end):
  """Against trying every number, in rooms from too small to ample."""
  training, asked = examples(20), examples(12, seed=1)
  size = {'method.instruction': 'Say yes.', 'method.demonstrations': 7}
  one = written(training, **size)

  def length(text):
    return len(pieces.encode(text))

  seen = set()
  for room in (40, 90, 160, 240, 330, 2000):
    found = read(one, asked, pieces, room=room, keep_end=keep_end)
    for example, count, shown in zip(asked, found.counts, found.examples):
      texts = [
        written(training, **(size | {'method.demonstrations': k})).words
        + example.inputs
        for k in range(8)
      ]
      fitting = [k for k in range(8) if length(texts[k]) <= room]
      assert count == max(fitting, default=0)
      if fitting:
        assert shown.inputs == texts[count]
      seen.add(count)
    assert found.fewer == sum(count < 7 for count in found.counts)
  assert len(seen) > 5 and {0, 7} <= seen


def test_a_long_input_loses_its_own_beginning_not_the_words(pieces):
  one = written(examples(4), **{'method.instruction': 'Say yes.'})
  asked = examples(12, seed=1)
  cut = read(one, asked, pieces, room=24, keep_end=True)
  assert 0 < cut.cut < len(asked)
  for before, after in zip(asked, cut.examples):
    kept = after.inputs.removeprefix('Say yes.\n\n')
    assert kept != after.inputs and kept and before.inputs.endswith(kept)
    assert len(pieces.encode(after.inputs)) <= 24
    if kept != before.inputs:  # one more letter would be too much
      more = 'Say yes.\n\n' + before.inputs[-len(kept) - 1 :]
      assert len(pieces.encode(more)) > 24
  assert read(one, asked, pieces, room=24).cut == 0  # `batch.encode` cuts


def test_what_was_left_out_is_told_with_numbers(pieces):
  c = settings(**{'method.demonstrations': 7, 'input_length': 81})
  one = written(examples(20), **{'method.demonstrations': 7})
  found = read(one, examples(12, seed=1), pieces, room=80)
  said = hard_prompt.told([found, found], c, name='cb')
  assert said.startswith(f'cb: in front of {2 * found.fewer} of 24 inputs')
  average = sum(found.counts) / 12
  assert f'{average:.1f} on average' in said and 'input_length=81' in said
  assert hard_prompt.counted([found, found]) == {
    'average': pytest.approx(average, abs=1e-4),
    'fewest': min(found.counts),
  }
  ample = read(one, examples(12, seed=1), pieces)
  assert hard_prompt.told([ample], c, name='cb') == ''


@pytest.mark.parametrize(
  'changes,sentence',
  [
    ({'method.demonstrations': -1}, 'method.demonstrations=-1 must be at'),
    ({'method.instruction': 'a\ud800'}, r"instruction='a\ud800' holds half"),
    ({'method.separator': '\udfff'}, r"separator='\udfff' holds half"),
    ({'method.separator': ''}, 'method.separator is empty'),
    ({'tune': ('model/.*',)}, "tune=('model/.*',): hard_prompt trains nothing"),
    ({'population.lr': (0.1, 0.2)}, 'population.lr=(0.1, 0.2): hard_prompt'),
    ({'population.init': ('uniform',)}, 'has no start to choose'),
    ({'population.seeds': 3}, 'population.seeds=3 would be 3 times the same'),
    (
      {'method.name': 'soft_prompt', 'method.demonstrations': 2},
      'method.demonstrations=2 is for method.name=hard_prompt',
    ),
    (
      {'method.name': 'none', 'method.instruction': 'Go.'},
      "method.instruction='Go.' is for method.name=hard_prompt",
    ),
  ],
)
def test_settings_that_do_not_go_together_are_refused(changes, sentence):
  with pytest.raises(UserError) as error:
    checks.check(settings(**changes))
  assert sentence in str(error.value) and '\n' not in str(error.value)


def test_what_does_not_fit_the_data_is_refused(pieces):
  with pytest.raises(UserError, match='=9 is more than the 8 training ex'):
    written(examples(8), **{'method.demonstrations': 9})
  long = written(**{'method.instruction': 'cat ' * 40})
  with pytest.raises(UserError, match='method.instruction has .* leaves 30 '):
    read(long, examples(1), pieces, room=30)
  half = written([Example('\ud800', 'a')], **{'method.demonstrations': 1})
  with pytest.raises(UserError, match='half of a surrogate pair'):
    read(half, examples(1), pieces)


def test_a_bare_row_has_an_instruction_but_no_demonstrations():
  instruction = hard_prompt.instruction
  assert instruction(settings(**{'method.instruction': 'Go.'})) == 'Go.\n\n'
  assert instruction(settings()) == instruction(config_lib.default()) == ''
  with pytest.raises(UserError, match='write them into method.instruction'):
    instruction(settings(**{'method.demonstrations': 2}))


def test_a_trained_prompt_beside_a_written_one_is_refused():
  with pytest.raises(UserError, match='leave one of them out'):
    hard_prompt.check_alone(settings(), 'a.safetensors')
  hard_prompt.check_alone(settings(), '')
  hard_prompt.check_alone(config_lib.default(), 'a.safetensors')
