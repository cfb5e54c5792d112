"""The layout of what was found: aligned, whole, within 100 columns."""

import numpy as np
import pytest

from ptjax.interpret import look as interpret
from ptjax.interpret import text as text_lib
from ptjax.interpret.look import Label

D = 8


def found(*names, tokens=3, count=5, pieces=None, labels=(), scale=1.0):
  rng = np.random.default_rng(0)
  pieces = pieces or [f'▁p{i}' for i in range(30)]
  return interpret.look(
    {name: scale * rng.normal(size=(tokens, D)) for name in names},
    scale * rng.normal(size=(len(pieces), D)),
    pieces=pieces,
    labels={name: labels for name in names},
    count=count,
  )


def columns(line: str) -> int:
  """Of these tests' letters: Chinese ones take two."""
  return sum(1 + ('\u4e00' <= char <= '\u9fff') for char in line)


def test_a_line_a_token_with_its_neighbours_in_order():
  all_ = found('boolq')
  name, head, rule, *lines = text_lib.neighbours(
    'boolq', all_['prompts']['boolq'], 'cosine'
  ).split('\n')
  assert (name, head[:15], len(lines)) == ('boolq', 'token  nearest ', 3)
  for number, line in enumerate(lines):
    token = all_['prompts']['boolq']['nearest']['cosine'][number]
    cells = line.split()
    assert cells[0] == str(number) and cells[1::2] == token['pieces']
    assert cells[2::2] == [f'{value:.2f}' for value in token['values']]
  assert len({line.index('▁') for line in lines}) == 1


def test_many_neighbours_go_on_below():
  prompt = found('a', count=12)['prompts']['a']
  lines = text_lib.neighbours('a', prompt, 'distance').split('\n')[3:]
  assert len(lines) == 3 * 3 and [line[:5] for line in lines[:4]] == [
    '    0',
    '     ',
    '     ',
    '    1',
  ]
  cells = ' '.join(line[5:] for line in lines[:3]).split()
  assert cells[0::2] == prompt['nearest']['distance'][0]['pieces']


def test_odd_pieces_keep_the_columns():
  odd = ['\n', '漢字', 'e\u0301', '▁' + 'long' * 20, '漢' * 20, '\u200b', ' ']
  prompt = found('a', tokens=30, pieces=odd)['prompts']['a']
  lines = text_lib.neighbours('a', prompt, 'cosine').split('\n')[3:]
  assert len(lines) == 30
  width = {columns(line.replace('\u0301', '')) for line in lines}
  assert len(width) == 1 and max(width) <= 100
  text = '\n'.join(lines)
  assert '\\n ' in text and '\\u200b' in text and '漢…' in text
  assert '▁longlongl…' in text


@pytest.mark.parametrize('scale', [1e-4, 1.0, 1e4])
def test_numbers_keep_three_digits(scale):
  text = text_lib.text(found('a', scale=scale))
  norm = found('a', scale=scale)['prompts']['a']['norm']['mean']
  (line,) = [
    line.split() for line in text.split('\n') if line.startswith('a  ')
  ][:1]
  assert float(line[2]) == pytest.approx(norm, rel=0.02)
  assert ('.' in line[2]) == (scale <= 1)


def test_labels_are_counted():
  labels = [Label('one', [3], 0), Label('two', [4, 5], 1), Label('3', [6])]
  all_ = found('a', labels=labels)
  lines = all_['prompts']['a']['labels']
  lines[0]['own'] |= {'persists': True, 'rank': 2, 'cosine_to_start': 0.5}
  lines[1]['own'] |= {'persists': False, 'rank': 17, 'cosine_to_start': -0.25}
  lines[1]['own']['piece'] = '▁p4'
  lines[2] |= {'near': [0], 'best': {'token': 2, 'rank': 4, 'piece': '▁p6'}}
  text = text_lib.summary(all_).split('\n')
  at = next(i for i, line in enumerate(text) if line.startswith('label '))
  one, two, three, kept = text[at + 2 : at + 6]
  assert one.split()[:5] == ['one', '0', '2', '▁p3', '0.50']
  assert two.split()[:5] == ['two', '1', '17', '▁p4', '-0.25']
  assert three.split() == ['3', '–', '–', '–', '–', *'241', 'token']
  assert kept.startswith('1 of 2 labels persist')


def test_without_labels_none_are_told():
  text = text_lib.summary(found('a', 'b'))
  assert 'label' not in text and 'persist' not in text
  text = text_lib.summary(found('a', labels=[Label('x', [3])]))
  assert 'label' in text and 'persist' not in text


def test_a_matrix_has_all_pairs():
  names = [f'member {i}' for i in range(23)]
  all_ = found(*names)
  text = text_lib.summary(all_)
  part = text.split('cosine of the flattened prompts\n')[1]
  part = part.split('cosine of tokens')[0]
  values = {i: [] for i in range(1, 24)}
  for line in part.split('\n'):
    if 'member' in line:
      number, _, _, *cells = line.split()
      values[int(number)] += cells
  expected = all_['similarity']['flattened']
  assert list(values.values()) == [[f'{v:.2f}' for v in r] for r in expected]


def test_prompts_whose_names_are_cut_have_their_numbers():
  names = [f'runs/{i}/a-folder-of-a-long-name/boolq' for i in range(2)]
  all_ = found(*names, labels=[Label('x', [3], 0)])
  lines = text_lib.text(all_).split('\n')
  heads = [line[:24] for line in lines if 'a-long-name/boolq  ' in line]
  assert heads[:2] == [f'{i} …-of-a-long-name/boolq' for i in (1, 2)]
  assert lines[0] == f'1 {names[0]}'  # there is room for all of it
  labels = [line for line in lines if line.endswith((' token', ' tokens'))]
  assert [line[:2] for line in labels[:2]] == ['1 ', '2 ']


def test_the_most_like_are_told():
  all_ = found(*(f'task{i}' for i in range(5)))
  text = text_lib.summary(all_).split('most like')[1]
  lines = [line.split() for line in text.split('\n')[2:]]
  for i, line in enumerate(lines):
    near = all_['retrieval'][f'task{i}'][:3]
    assert line[:2] == [str(i + 1), f'task{i}']
    assert line[3::3] == [n['prompt'] for n in near]
    assert line[4::3] == [f'{n["of_pairs"]:.2f}' for n in near]
  assert len(lines) == 5
  assert 'most like' not in text_lib.summary(found('a'))


def test_unequal_lengths_have_a_dash():
  rng = np.random.default_rng(0)
  prompts = {'a': rng.normal(size=(2, D)), 'b': rng.normal(size=(3, D))}
  all_ = interpret.look(prompts, rng.normal(size=(4, D)), pieces=list('wxyz'))
  text = text_lib.summary(all_).split('cosine of the flattened')[1]
  lines = [line.split() for line in text.split('\n') if line.startswith('1 a')]
  assert [line[2:] for line in lines[:2]] == [['1.00', '–']] * 2
  assert lines[2][3] != '–'


def test_a_vocabulary_without_length():
  all_ = interpret.look({'a': np.ones((1, 2))}, np.zeros((3, 2)), pieces='xyz')
  line = text_lib.summary(all_).split('\n')[3].split()
  assert line == ['a', '1', '1.41', '1.41', '1.41', '–']
  all_ = interpret.look({'a': np.zeros((1, 2))}, np.zeros((3, 2)), pieces='xyz')
  text = text_lib.text(all_)
  assert 'x 0.00  y 0.00  z 0.00' in text


@pytest.mark.parametrize('count', [1, 5, 12])
def test_nothing_is_wider_than_100_columns(count):
  labels = [
    Label('a_label_of_many_many_pieces', [3, 4], 0),
    Label('no', [7]),
  ]
  names = ['folder/with/a/long/name/a', *(f'/b{i}' * 20 for i in range(30))]
  for some in (names, names[:1]):
    all_ = found(*some, tokens=100, count=count, labels=labels)
    text = text_lib.text(all_)
    assert max(map(columns, text.split('\n'))) <= 100
    assert all(line == line.rstrip() for line in text.split('\n'))
  assert 'a_label_of_many_many_pi…' in text
