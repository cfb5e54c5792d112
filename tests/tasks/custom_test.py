"""A task of one's own: templates, labels, metrics, and what is refused."""

import pytest

from ptjax.config import UserError
from ptjax.tasks import base, custom

ROWS = [
  {'Tweet text': 'Late again', 'ID': 1, 'Label': 1},
  {'Tweet text': 'Lovely {day}', 'ID': 2, 'Label': 0},
]


def make(**more):
  options = {
    'template': 'tweet: {Tweet text} ({{id}} {ID})',
    'target': 'Label',
    'labels': ('no complaint', 'complaint'),
    **more,
  }
  return base.load('custom/tweets', **options)


def test_a_template_takes_fields_and_nothing_of_their_text():
  task = make()
  first, second = task.examples(ROWS, 'train')
  assert first.inputs == 'tweet: Late again ({id} 1)'
  # A brace in a row is text.
  assert second.inputs == 'tweet: Lovely {day} ({id} 2)'
  assert (first.targets, second.targets) == ('complaint', 'no complaint')
  assert first.choices == task.labels == ('no complaint', 'complaint')
  assert task.name == 'custom/tweets'


@pytest.mark.parametrize(
  'labels, values',
  [
    (('no', 'yes'), [0, '1', 1.0, True, 'yes', False]),
    ({'a': 'no', 'b': 'yes'}, ['a', 'b', 'b', 'yes', 'b', 'no']),
    ({False: 'no', True: 'yes'}, [False, True, 'True', True, 'yes', 'False']),
    ({'false': 'no', 'true': 'yes'}, [False, True, 'True', True, 'yes', False]),
    (('1:no', '2: yes'), [1, 2, '2', 'yes', 2.0, '1']),
    ((3, 4), ['3', 4, '1', 1, '4', 0]),
  ],
)
def test_label_values_become_words(labels, values):
  task = make(labels=labels, template='{t}')
  rows = [{'t': '', 'Label': v} for v in values]
  found = [e.meta['label'] for e in task.examples(rows, 'dev')]
  assert found == [0, 1, 1, 1, 1, 0]


@pytest.mark.parametrize(
  'labels, way_out',
  [
    ((1, 2, 3, 4, 5), '(1:1,2:2,3:3,4:4,5:5)'),
    ((1, 0), '(1:1,0:0)'),
    (('1.0', '2.0'), '(1.0:1.0,2.0:2.0)'),
    # JSON's true is 1.
    (('True', 'False'), '(True:True,False:False)'),
  ],
)
def test_words_that_are_other_words_values_are_refused(labels, way_out):
  """Five stars, read as indices, would each be taken for the next."""
  with pytest.raises(UserError) as error:
    make(labels=labels)
  text = str(error.value)
  assert f'value:word, such as custom.labels={way_out}' in text
  pairs = tuple(way_out[1:-1].split(','))
  rows = [{'t': '', 'Label': v} for v in labels]
  examples = make(labels=pairs, template='{t}').examples(rows, 'dev')
  assert [e.targets for e in examples] == list(map(str, labels))


@pytest.mark.parametrize('labels', [(0, 1, 2), ('0', 'one'), ('False', 'True')])
def test_words_that_are_their_own_values_are_not(labels):
  rows = [{'t': '', 'Label': v} for v in labels]
  examples = make(labels=labels, template='{t}').examples(rows, 'dev')
  assert [e.targets for e in examples] == list(map(str, labels))


def test_a_value_that_is_no_label():
  with pytest.raises(UserError, match="row 0 of dev has 'maybe' in 'Label'; "):
    make().examples([{**ROWS[0], 'Label': 'maybe'}], 'dev')


def test_a_misnamed_field_lists_the_ones_there_are():
  with pytest.raises(UserError) as error:
    make(template='{tweet text}').examples(ROWS, 'train')
  assert "no field 'tweet text', did you mean 'Tweet text'?" in str(error.value)
  assert 'it has Tweet text, ID, Label' in str(error.value)
  with pytest.raises(UserError, match="no field 'label', did you mean 'Label'"):
    make(target='label').examples(ROWS, 'train')


@pytest.mark.parametrize(
  'template, message',
  [
    ('{x.__class__}', "no field 'x.__class__'"),
    ('{x[0]}', r"no field 'x\[0\]'"),
    ('{x!r}', 'the name of a field and nothing else'),
    ('{x:>10}', 'the name of a field and nothing else'),
    ('{x:{y}}', 'the name of a field and nothing else'),
    ('{}', 'braces must name a field'),
    ('{x', 'write {{ and }} for braces'),
    ('x}', 'write {{ and }} for braces'),
    ('x {{y}}', 'names no field'),
    ('', 'names no field'),
  ],
)
def test_templates_that_are_refused(template, message):
  with pytest.raises(UserError, match=message):
    make(template=template).examples([{'x': ['a'], 'Label': 0}], 'train')


def test_test_rows_may_have_no_label():
  task = make()
  for row in ({'Tweet text': 'a', 'ID': 1}, {**ROWS[0], 'Label': -1}):
    (example,) = task.examples([row], 'test')
    assert example.targets == '' and not task.labelled([example])
    with pytest.raises(UserError, match='abel'):
      task.examples([row], 'train')


@pytest.mark.parametrize('value', (-1, '-1', -1.0))
def test_minus_one_is_a_label_where_it_was_declared(value):
  task = make(labels=('-1:negative', '0:neutral', '1:positive'))
  for split in ('train', 'test'):
    (example,) = task.examples([{**ROWS[0], 'Label': value}], split)
    assert (example.targets, example.meta['label']) == ('negative', 0)


def test_minus_one_is_a_number_where_numbers_are_measured():
  task = custom.task(template='{q}', target='a', metric_names=('pearson',))
  rows = [{'q': '', 'a': a} for a in (-1, -1.0, '-1', 2)]
  examples = task.examples(rows, 'dev')
  assert [e.targets for e in examples] == ['-1', '-1.0', '-1', '2']
  assert task.metrics(['-1', '-1', '-1', '2'], examples)['pearson'] > 99.9


def test_label_metrics():
  task = make(metric_names=('f1', 'accuracy', 'macro_f1', 'matthews'))
  rows = [{**ROWS[0], 'Label': v} for v in (0, 1, 1, 0)]
  examples = task.examples(rows, 'dev')
  said = ['no complaint', 'complaint', 'x', 'y']
  found = task.metrics(said, examples)
  assert list(found) == list(task.metric_names)
  assert found['f1'] == pytest.approx(50)
  assert found['accuracy'] == 50
  assert found['macro_f1'] == pytest.approx(200 / 3)
  assert task.invalid(said, examples) == 50


def test_free_text_with_several_answers():
  task = custom.task(
    template='{q}', target='a', metric_names=('exact_match', 'squad')
  )
  rows = [{'q': 'who', 'a': ['Ann Lee', 'Ann']}, {'q': 'who', 'a': 'Bo'}]
  examples = task.examples(rows, 'dev')
  assert [e.targets for e in examples] == ['Ann Lee', 'Bo']
  assert examples[0].choices == ()
  found = task.metrics([' Ann', 'the bo.'], examples)
  assert found == {'exact_match': 50, 'em': 100, 'f1': 100}
  assert task.invalid(['x', 'y'], examples) == 0


def test_space_around_an_answer_does_not_count():
  """Predictions are stripped; what they are held against must be, too."""
  task = custom.task(template='{q}', target='a')
  rows = [{'q': '', 'a': 'Ann '}, {'q': '', 'a': [' ', '\tBo Lee\n', 'Bo']}]
  examples = task.examples(rows, 'dev')
  assert [e.targets for e in examples] == ['Ann', 'Bo Lee']
  assert task.metrics(['Ann ', 'Bo Lee'], examples) == {'accuracy': 100}
  for empty in (' ', ['\n', '']):
    with pytest.raises(UserError, match='row 0 of dev has no label'):
      task.examples([{'q': '', 'a': empty}], 'dev')


@pytest.mark.parametrize('labels', ({'0': 'no ', '1': ' yes'}, ('no ', ' yes')))
def test_space_around_a_label_does_not_count(labels):
  task = make(labels=labels, template='{t}')
  rows = [{'t': '', 'Label': v} for v in (0, ' yes')]
  examples = task.examples(rows, 'dev')
  assert [e.targets for e in examples] == ['no', 'yes']
  assert task.metrics(['no ', 'yes'], examples) == {'accuracy': 100}


def test_numbers():
  task = custom.task(
    template='{q}', target='a', metric_names=('pearson', 'spearman')
  )
  rows = [{'q': '', 'a': v} for v in (1, '2.5', 4.0)]
  examples = task.examples(rows, 'dev')
  assert [e.targets for e in examples] == ['1', '2.5', '4.0']
  found = task.metrics(['0', 'many', '9'], examples)
  # 'many' is -1, so the order of the first two is wrong.
  assert found['spearman'] == pytest.approx(50)
  assert found['pearson'] == pytest.approx(81.71, abs=0.01)
  with pytest.raises(UserError, match="'few', which is no number"):
    task.examples([{'q': '', 'a': 'few'}], 'dev')


@pytest.mark.parametrize(
  'options, message',
  [
    ({'metric_names': ('acuracy',)}, "did you mean 'accuracy'"),
    ({'metric_names': ()}, 'custom.metrics is empty'),
    ({'metric_names': ('pearson',)}, 'a task with no custom.labels'),
    ({'labels': (), 'metric_names': ('f1',)}, 'a task with custom.labels'),
    ({'labels': ('a', 'b', 'c'), 'metric_names': ('f1',)}, 'for two labels'),
    ({'metric_names': ('f1', 'squad')}, 'an f1 of its own'),
    ({'labels': ('a',)}, 'two words or more'),
    ({'labels': ('a', 'a')}, "the word 'a' twice"),
    ({'labels': ('0:a', '0:b')}, "the value '0' twice"),
    ({'labels': ('0:a', 'b')}, 'all of them or none'),
    ({'target': ''}, 'custom.target is empty'),
  ],
)
def test_what_a_task_cannot_be(options, message):
  with pytest.raises(UserError, match=message):
    make(**options)
