"""WSC: marking the pronoun, mending spans, and who is meant."""

import re

import pytest

from ptjax.tasks import base, wsc

TEXT = 'Mitchell asked Tom if he could lend some money.'
PONY = (
  'The boy continued to whip the pony , and eventually the pony threw him '
  'over. John laughed out quite loud. "Good for him," he said. '
)
PEBBLE = (
  'When they had eventually calmed down a bit , and had gotten home, Mr. '
  'Farley put the magic pebble in an iron safe . Some day they might want to '
  'use it , but really for now, what more could they wish for?'
)


def row(noun='Tom', label=True, **more):
  target = {
    'span1_text': noun,
    'span1_index': TEXT.split().index(noun),
    'span2_text': 'he',
    'span2_index': 4,
  }
  return {'text': TEXT, 'target': target, 'label': label, 'idx': 1, **more}


def test_the_pronoun_is_marked():
  task = base.load('wsc', prefix=True)
  (example,) = task.examples([row()], 'train')
  assert example.inputs == (
    'wsc: Mitchell asked Tom if *he* could lend some money.'
  )
  assert example.targets == 'Tom' and example.choices == ()
  (bare,) = base.load('wsc').examples([row()], 'train')
  assert bare.inputs == 'Mitchell asked Tom if *he* could lend some money.'


def test_training_sees_only_the_noun_that_is_meant():
  rows = [row(), row('Mitchell', False)]
  task = base.load('wsc')
  assert [e.targets for e in task.examples(rows, 'train')] == ['Tom']
  assert [e.targets for e in task.examples(rows, 'dev')] == ['Tom', 'Mitchell']
  assert task.units(rows) == rows[:1]


def test_the_hub_s_flat_rows_give_the_same():
  nested = row()
  flat = {**nested.pop('target'), **nested, 'label': 1}
  task = base.load('wsc')
  assert task.examples([flat], 'dev') == task.examples([row()], 'dev')


@pytest.mark.parametrize(
  'text, pronoun, index, end',
  [
    (PONY, 'him', 22, '"Good for *him* ," he said.'),
    (PEBBLE, 'it', 30, 'to use *it* , but really for now, what more could'),
  ],
)
def test_the_two_exceptions(text, pronoun, index, end):
  # As the reference writes them, a space before the comma and none at the end.
  marked = wsc.mark(text, pronoun, index)
  assert end in marked and marked == marked.rstrip()
  spaced = marked.replace('*', '').replace('him ,"', 'him,"')
  assert spaced == text.rstrip()


def test_a_wrong_index_takes_the_nearest_pronoun():
  text = 'He said he saw it, and then It left.'
  assert wsc.mark(text, 'it', 6) == 'He said he saw it, and then *It* left.'
  assert wsc.mark(text, 'it', 3) == 'He said he saw *it*, and then It left.'
  assert wsc.mark(text, 'him', 3) is None
  assert wsc.mark(text, '', 3) is None


def test_an_unmarked_row_is_kept_and_counted():
  broken = row()
  broken['target']['span2_text'] = 'she'
  task = base.load('wsc')
  (example,) = task.examples([broken], 'dev')
  assert example.inputs == TEXT
  assert task.remarks([example]) == [
    '1 rows (1): the pronoun is not in the text and stays unmarked'
  ]
  assert task.remarks(task.examples([row()], 'dev')) == []


@pytest.mark.parametrize(
  'text, span, index, wanted',
  [
    ('I like the dog .', 'The dog', 2, 'the dog'),
    ('The dog barks .', 'the dog', 0, 'The dog'),
    ('It was the tape .', 'the tape.', 2, 'the tape'),
    ('Say a b .', 'a\nb', 1, 'a b'),
    ('The dog barks .', 'The dog', 2, 'The dog'),
    ('Lev K and Z .', 'Kamenev and Zinoviev', 1, 'Kamenev and Zinoviev'),
  ],
)
def test_spans_are_mended_to_what_the_text_says(text, span, index, wanted):
  assert wsc.mended(text, span, index) == wanted


@pytest.mark.parametrize(
  'answer, noun, wanted',
  [
    ('potato', 'turnip', 0),
    ('turnip', 'turnip', 1),
    ('the cat', 'cat', 1),
    ("Bob's hat", 'Bob', 0),
    ("Bob's hat", "Bob's hat", 1),
    ('hat', "Bob's hat", 0),
    ('potato', 'Potato', 1),
    ('a potato', 'my potato', 1),
    ('fuzzy bunny', 'fuzzy hungry bunny', 1),
    ('hungry bunny fuzzy', 'bunny', 1),
    ('', 'turnip', -1),
    ('a this', 'turnip', -1),
  ],
)
def test_whether_an_answer_names_the_noun(answer, noun, wanted):
  assert wsc.names(answer, noun) == wanted


def test_determiners_name_nothing():
  # The reference's list.
  all_ = (
    'a an few her his each every many much my our some that the their these '
    'this those which whose your'
  )
  for word in all_.split():
    assert wsc.names(word.title(), 'turnip') == -1
  assert wsc.names(all_, 'turnip') == -1


def test_accuracy_compares_with_the_label():
  task = base.load('wsc')
  rows = [row(), row('Mitchell', False), row('Mitchell', False), row()]
  examples = task.examples(rows, 'dev')
  said = ['tom', 'Tom', 'Mitchell', '']
  assert task.metrics(said, examples) == {'accuracy': 50}
  assert task.invalid(said, examples) == 25
  majority = [task.majority(examples)] * 4
  assert task.metrics(majority, examples) == {'accuracy': 50}
  assert task.invalid(majority, examples) == 0


def reference(text: str, pronoun: str, index: int) -> str:
  """What T5's rule makes of a row whose index is right."""
  words = text.split(' ')
  assert words[index] == pronoun and 0 < index < len(words) - 1
  blank = ' '.join([*words[:index], 'X', *words[index + 1 :]])
  return re.sub(' X ', f' *{pronoun}* ', blank)


def test_marking_is_the_reference_s_on_the_real_files(shared):
  from ptjax.data import source

  folder, by_rule = shared / 'data/superglue', []
  for split in ('train', 'dev', 'test'):
    for found in source.superglue(str(folder), 'wsc', split):
      span = found['target']
      text, at = found['text'], span['span2_index']
      if text in (PONY, PEBBLE):
        by_rule.append((split, found['idx']))
        continue
      marked = wsc.mark(text, span['span2_text'], at)
      assert marked == reference(text, span['span2_text'], at)
  assert by_rule == [
    ('train', 137),
    ('train', 453),
    ('train', 533),
    ('dev', 42),
  ]
