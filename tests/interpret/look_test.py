"""What is found in prompts, held against loops, and what a run leaves."""

import json
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from ptjax.config import UserError
from ptjax.data import tokenizer
from ptjax.interpret import look as interpret
from ptjax.interpret.look import Label, Prompt
from tests.data.tokenizer_test import PIECES, write_tiny

# Ten pieces, of which 6 is none; the table has two rows more.
NAMED = ['<pad>', '</s>', '▁', 'en', 'tail', 'ment', None, '▁not', '▁x', '▁y']
D = 6


def case() -> tuple[np.ndarray, np.ndarray]:
  """Four tokens: two from labels, one moved far away, one near a padded row."""
  rng = np.random.default_rng(3)
  table = rng.normal(size=(12, D)) * np.arange(1, 13)[:, None]
  rows = np.stack(
    [
      table[[2, 3, 4, 5]].mean(0) + 0.05 * rng.normal(size=D),
      -table[7] + 0.05 * rng.normal(size=D),
      2 * table[7],
      table[10],
    ]
  )
  table[6] = table[11] = rows[0]  # the nearest of all, but nobody's pieces
  return rows.astype(np.float32), table.astype(np.float32)


LABELS = [Label('entailment', [2, 3, 4, 5], 0), Label('not', [7], 1)]


def look(rows, table, *, count=2, labels=LABELS):
  return interpret.look(
    {'a': rows}, table, pieces=NAMED, labels={'a': labels}, count=count
  )


def cosine(a, b) -> float:
  a, b = a.astype(np.float64), b.astype(np.float64)
  return float(a @ b / np.sqrt(a @ a) / np.sqrt(b @ b))


def order(row, table) -> list[int]:
  """The ids that have a piece, nearest first."""
  ids = [i for i, piece in enumerate(NAMED) if piece is not None]
  return sorted(ids, key=lambda i: -cosine(row, table[i]))


def test_neighbours_have_a_piece():
  rows, table = case()
  found = look(rows, table, count=3)
  assert found['neighbours'] == 3 and found['vocabulary']['pieces'] == 9
  for row, token in zip(rows, found['prompts']['a']['nearest']['cosine']):
    assert token['ids'] == order(row, table)[:3]
    assert token['pieces'] == [NAMED[i] for i in token['ids']]
    expected = [cosine(row, table[i]) for i in token['ids']]
    assert token['values'] == pytest.approx(expected, rel=1e-5)
  for row, token in zip(rows, found['prompts']['a']['nearest']['distance']):
    lengths = [float(np.linalg.norm(row - table[i])) for i in token['ids']]
    assert token['values'] == pytest.approx(lengths, rel=1e-5)
    others = [i for i in order(row, table) if i not in token['ids']]
    assert max(lengths) < min(np.linalg.norm(row - table[i]) for i in others)


def test_all_neighbours_if_more_are_asked_for():
  rows, table = case()
  found = look(rows, table, count=99)
  assert found['neighbours'] == 9
  token = found['prompts']['a']['nearest']['cosine'][0]
  assert sorted(token['ids']) == [0, 1, 2, 3, 4, 5, 7, 8, 9]


def test_distinct_pieces_are_counted_over_the_prompt():
  _, table = case()
  rows = np.stack([table[3], 5 * table[3], table[8], table[3] * 2])
  found = look(rows, table, count=1, labels=[])['prompts']['a']
  assert found['distinct']['cosine'] == {'first': 2, 'all': 2}
  found = look(rows, table, count=2, labels=[])['prompts']['a']
  listed = {i for t in found['nearest']['cosine'] for i in t['ids']}
  assert found['distinct']['cosine'] == {'first': 2, 'all': len(listed)}
  assert len(listed) > 2
  firsts = {t['ids'][0] for t in found['nearest']['distance']}
  assert found['distinct']['distance']['first'] == len(firsts)


@pytest.mark.parametrize('count', [1, 2, 9])
def test_labels_that_persist(count):
  """Against places in the whole order, for each token and each piece."""
  rows, table = case()
  found = look(rows, table, count=count)['prompts']['a']['labels']
  for label, line in zip(LABELS, found):
    orders = [order(row, table) for row in rows]
    places = [min(o.index(i) + 1 for i in label.ids) for o in orders]
    own = line['own']
    assert (own['token'], own['rank']) == (label.token, places[label.token])
    assert own['persists'] == (places[label.token] <= count)
    assert line['best']['rank'] == min(places)
    assert line['best']['token'] == places.index(min(places))
    assert line['near'] == [t for t, at in enumerate(places) if at <= count]
    nearest_piece = next(i for i in orders[label.token] if i in label.ids)
    assert own['piece'] == NAMED[nearest_piece]
    start = table[label.ids].astype(np.float64).mean(0)
    expected = cosine(rows[label.token], start)
    assert own['cosine_to_start'] == pytest.approx(expected, rel=1e-5)
  assert found[0]['pieces'] == ['▁', 'en', 'tail', 'ment']


def test_what_persists_is_seen_and_what_does_not():
  rows, table = case()
  kept, left = look(rows, table)['prompts']['a']['labels']
  assert kept['own']['persists'] and kept['own']['cosine_to_start'] > 0.9
  # The token that began as '▁not' points away from it; another is at it.
  assert not left['own']['persists'] and left['own']['rank'] == 9
  assert left['own']['cosine_to_start'] < -0.9
  assert left['best'] == {'token': 2, 'rank': 1, 'piece': '▁not'}
  assert 2 in left['near'] and 1 not in left['near']


def test_a_label_that_no_token_started_from():
  rows, table = case()
  (line,) = look(rows, table, labels=[Label('not', [7])])['prompts']['a'][
    'labels'
  ]
  assert line['own'] is None and line['best']['token'] == 2


def test_norms_against_the_pieces():
  rows, table = case()
  found = look(rows, table)
  lengths = [np.linalg.norm(row) for row in rows]
  pieces = [np.linalg.norm(table[i]) for i in (0, 1, 2, 3, 4, 5, 7, 8, 9)]
  norm, usual = found['prompts']['a']['norm'], found['vocabulary']['norm']
  assert norm['tokens'] == pytest.approx(lengths, rel=1e-5)
  for key, of in (('mean', np.mean), ('min', min), ('max', max)):
    assert norm[key] == pytest.approx(of(lengths), rel=1e-5)
    assert usual[key] == pytest.approx(of(pieces), rel=1e-5)
  ratio = np.mean(lengths) / np.mean(pieces)
  assert norm['ratio'] == pytest.approx(ratio, rel=1e-5)


def test_tokens_among_themselves():
  rows, table = case()
  rows[3] = 0
  found = look(rows, table)['prompts']['a']['similarity']
  expected = [[cosine(a, b) for b in rows[:3]] for a in rows[:3]]
  np.testing.assert_allclose(np.array(found)[:3, :3], expected, rtol=1e-5)
  assert found[3] == [row[3] for row in found] == [0, 0, 0, 0]


def test_prompts_among_each_other():
  rows, table = case()
  rng = np.random.default_rng(1)
  other = rows + rng.normal(size=rows.shape) * np.array([[0], [9], [1], [3]])
  long = rng.normal(size=(7, D))
  prompts = {'a': rows, 'b': other, 'c': long}
  found = interpret.look(prompts, table, pieces=NAMED)
  flat, by_token, means = (
    found['similarity'][key] for key in ('flattened', 'by_token', 'of_means')
  )
  assert list(found['prompts']) == ['a', 'b', 'c']
  expected = cosine(rows.ravel(), other.ravel())
  assert flat[0][1] == flat[1][0] == pytest.approx(expected, rel=1e-5)
  expected = np.mean([cosine(a, b) for a, b in zip(rows, other)])
  assert by_token[0][1] == by_token[1][0] == pytest.approx(expected, rel=1e-5)
  assert flat[0][1] != pytest.approx(by_token[0][1], rel=1e-2)
  # Positions of unequal prompts are not compared; their means are.
  assert flat[0][2] is by_token[2][1] is None
  expected = cosine(rows.mean(0), long.mean(0))
  assert means[0][2] == means[2][0] == pytest.approx(expected, rel=1e-5)
  for matrix in (flat, by_token, means):
    assert [matrix[i][i] for i in range(3)] == [1, 1, 1]
  pairs = found['similarity']['of_pairs']
  expected = np.mean([cosine(a, b) for a in rows for b in long])
  assert pairs[0][2] == pairs[2][0] == pytest.approx(expected, rel=1e-5)
  # What each could have started from: the others, the most like first.
  for name, line in zip('abc', pairs):
    near = dict(zip('abc', line))
    near.pop(name)
    expected = sorted(near, key=lambda other, near=near: -near[other])
    assert [n['prompt'] for n in found['retrieval'][name]] == expected
    assert [n['of_pairs'] for n in found['retrieval'][name]] == [
      near[other] for other in expected
    ]


def test_the_table_may_be_an_array_of_jax():
  rows, table = case()
  assert look(jnp.asarray(rows), jnp.asarray(table)) == look(rows, table)


def test_it_is_json():
  rows, table = case()
  rows[1] = 0
  found = look(rows, table)
  assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_what_is_no_prompt_of_the_model_is_refused():
  rows, table = case()
  with pytest.raises(UserError, match=r'prompt a has shape \(4, 5\).*, 6\)'):
    look(rows[:, :5], table)
  with pytest.raises(UserError, match=r'prompt a has shape \(6,\)'):
    look(rows[0], table)
  rows[2, 1] = np.nan
  with pytest.raises(UserError, match='prompt a holds values that are not'):
    look(rows, table)


def test_what_cannot_be_asked_is_refused():
  rows, table = case()
  with pytest.raises(UserError, match='0 neighbours'):
    look(rows, table, count=0)
  with pytest.raises(UserError, match='has 10 pieces, but .* 9 embedding rows'):
    look(rows, table[:9])
  for ids in ([2, 11], [6], []):
    with pytest.raises(UserError, match="'odd' has the pieces.*tokenizer"):
      look(rows, table, labels=[Label('odd', ids)])


def run(tmp_path, *names: str):
  """A run over the eight pieces of `write_tiny`."""
  rng = np.random.default_rng(0)
  table = rng.normal(size=(16, D)).astype(np.float32)
  rows = table[[4, 3, 7]] * np.float32(1.5)
  rows[2] = table[9]  # a row without a piece
  prompts = [
    Prompt(name, rows + i, ('cat', 'a cats'), from_labels=not i)
    for i, name in enumerate(names)
  ]
  said: list[str] = []
  found = interpret.run(
    prompts,
    table,
    tokenizer=tokenizer.load(write_tiny(tmp_path / 'model')),
    folder=tmp_path / 'out',
    count=3,
    say=said.append,
  )
  return found, said, tmp_path / 'out'


def test_a_run_leaves_what_it_says(tmp_path):
  pytest.importorskip('matplotlib')
  found, said, folder = run(tmp_path, 'cb')
  assert said[-1] == f'{folder}: inspect.json, inspect.txt, inspect.png'
  files = sorted(file.name for file in folder.iterdir())
  assert files == ['inspect.json', 'inspect.png', 'inspect.txt']
  assert json.loads((folder / 'inspect.json').read_text()) == found
  assert (folder / 'inspect.txt').read_text() == said[0] + '\n'
  assert (folder / 'inspect.png').read_bytes()[1:4] == b'PNG'
  tokens = found['prompts']['cb']['nearest']['cosine']
  assert [token['pieces'][0] for token in tokens[:2]] == ['▁cat', '▁a']
  assert set(tokens[2]['pieces']) < set(PIECES)


def test_labels_of_a_run_are_cut_into_pieces(tmp_path):
  found, _, _ = run(tmp_path, 'cb', 'rte')
  cat, cats = found['prompts']['cb']['labels']
  assert cat['pieces'] == ['▁cat'] and cats['pieces'] == ['▁a', '▁cat', 's']
  assert cat['own']['rank'] == 1 and cats['own']['token'] == 1
  assert cats['own']['piece'] == '▁a'
  # The other did not start from labels.
  assert [line['own'] for line in found['prompts']['rte']['labels']] == [
    None
  ] * 2


def test_labels_without_a_token_of_their_own():
  """More labels than tokens: the last ones were left out at the start."""
  prompt = Prompt('a', np.ones((1, D)), ('cat', 'sat'), from_labels=True)

  class Tokenizer:
    def encode(self, word):
      return [PIECES.index(f'▁{word}')]

  labels = interpret._labels(prompt, Tokenizer())
  assert labels == [Label('cat', [4], 0), Label('sat', [5], None)]


def test_several_prompts_are_compared_on_the_terminal(tmp_path):
  _, said, folder = run(tmp_path, 'cb', 'rte')
  written = (folder / 'inspect.txt').read_text()
  assert said[0] in written and said[0] + '\n' != written
  assert 'cosine of the mean tokens' in said[0]
  assert 'nearest pieces by cosine' in written.removesuffix(said[0] + '\n')


def test_a_prompt_that_comes_twice_is_refused(tmp_path):
  with pytest.raises(UserError, match='two prompts are called cb'):
    run(tmp_path, 'cb', 'rte', 'cb')
  assert not (tmp_path / 'out').exists()


def test_without_matplotlib_all_else_is_there(tmp_path, monkeypatch):
  for name in ('matplotlib', 'matplotlib.figure'):
    monkeypatch.setitem(sys.modules, name, None)
  _, said, folder = run(tmp_path, 'cb')
  assert said[1] == (
    'inspect.png was not drawn, which needs the package matplotlib: '
    'pip install matplotlib'
  )
  assert said[-1] == f'{folder}: inspect.json, inspect.txt'
  files = sorted(file.name for file in folder.iterdir())
  assert files == ['inspect.json', 'inspect.txt']


def test_the_start_of_a_label_is_that_of_the_initializer():
  """The mean over its pieces, as `methods.initializers` makes it."""
  import jax

  from ptjax.methods import initializers

  _, table = case()
  rows = initializers.class_labels(
    *(jax.random.key(0), jnp.asarray(table)),
    label_ids=[label.ids for label in LABELS],
    length=3,
    population=9,
  )
  found = look(np.asarray(rows), table)['prompts']['a']['labels']
  assert [line['own']['cosine_to_start'] for line in found] == [1, 1]
