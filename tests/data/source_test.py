"""Rows from every place, and a sentence for every way to miss them."""

import gzip
import json
import os
import pathlib
import subprocess
import sys
import types

import fake_hub
import pytest

from ptjax.config import UserError, default
from ptjax.data import hub, source, table
from ptjax.tasks import base

ROOT = pathlib.Path(__file__).resolve().parents[2]


def write(path, text, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(text, **{'encoding': 'utf-8', **options})
  return path


def message(call, *args, **options):
  with pytest.raises(UserError) as error:
    call(*args, **options)
  text = str(error.value)
  # One sentence, for a person.
  assert '\n' not in text and 'Traceback' not in text
  return text


# Folders of the original files.


@pytest.mark.parametrize(
  'task, name, split',
  [
    ('boolq', 'BoolQ/val.jsonl', 'dev'),
    ('superglue/rte', 'rte/dev.jsonl', 'dev'),
    ('axb', 'AX-b/AX-b.jsonl', 'test'),
    ('axg', 'axg/test.jsonl', 'test'),
    ('wsc', 'WSC/dev32.jsonl', 'dev'),
    ('wsc', 'WSC/train.jsonl', 'train'),
  ],
)
def test_names_in_a_folder(tmp_path, task, name, split):
  write(tmp_path / name, '{"a": 1}\n\n{"a": "ü"}\n')
  assert source.superglue(str(tmp_path), task, split) == [{'a': 1}, {'a': 'ü'}]


def test_what_is_missing_is_told_with_what_is_there(tmp_path):
  write(tmp_path / 'files' / 'BoolQ' / 'val.jsonl', '{}')
  folder = str(tmp_path / 'files')
  assert 'BoolQ has no train split (train.jsonl); it has val.jsonl' in message(
    source.superglue, folder, 'boolq', 'train'
  )
  assert 'no folder for rte; it has BoolQ' in message(
    source.superglue, folder, 'rte', 'dev'
  )
  text = message(source.superglue, folder + 'x', 'rte', 'dev')
  assert f"filesx' is no folder, did you mean {folder!r}" in text
  assert "split='val'" in message(source.superglue, folder, 'boolq', 'val')


def test_a_broken_line_is_named(tmp_path):
  path = write(tmp_path / 'CB' / 'val.jsonl', '{"a": 1}\n\n{"a": \n')
  text = message(source.superglue, str(tmp_path), 'cb', 'dev')
  assert f'{path}, line 3 is no JSON' in text
  write(path, '[1]\n')
  text = message(source.superglue, str(tmp_path), 'cb', 'dev')
  assert f'{path}, line 1 is [1], not an object' in text
  path.write_bytes(b'{"a": "\xff"}\n')
  assert 'not UTF-8' in message(source.superglue, str(tmp_path), 'cb', 'dev')


# Files of one's own.

ROWS = [{'text': 'a, "b"', 'n': '1'}, {'text': 'c\r\nd', 'n': ''}]


def test_csv_has_quotes_and_line_breaks(tmp_path):
  path = write(
    tmp_path / 'x.csv', 'text,n\r\n"a, ""b""",1\r\n"c\r\nd",\r\n', newline=''
  )
  assert source.read(str(path)) == ROWS


def test_tsv_keeps_quotes_and_forgets_a_byte_order_mark(tmp_path):
  path = write(tmp_path / 'x.tsv', '\ufeff#1 ID\ttext\n1\t"a" b"\n2\t"\n')
  assert source.read(str(path)) == [
    {'#1 ID': '1', 'text': '"a" b"'},
    {'#1 ID': '2', 'text': '"'},
  ]


def test_json_and_its_lines_and_gzip(tmp_path):
  rows = [{'a': 1}, {'a': None}]
  text = json.dumps(rows)
  assert source.read(str(write(tmp_path / 'x.json', text))) == rows
  inside = json.dumps({'version': '1', 'data': rows})
  assert source.read(str(write(tmp_path / 'y.json', inside))) == rows
  lines = ''.join(json.dumps(row) + '\n' for row in rows)
  assert source.read(str(write(tmp_path / 'z.json', lines))) == rows
  packed = tmp_path / 'x.jsonl.gz'
  packed.write_bytes(gzip.compress(lines.encode()))
  assert source.read(str(packed)) == rows


def test_parquet(tmp_path):
  pyarrow = pytest.importorskip('pyarrow')
  from pyarrow import parquet

  rows = [{'a': 1, 'b': ['x', 'y']}, {'a': None, 'b': []}]
  path = tmp_path / 'x.parquet'
  parquet.write_table(pyarrow.Table.from_pylist(rows), path)
  assert source.read(str(path)) == rows
  path.write_bytes(b'no')
  assert 'is no Parquet file' in message(source.read, str(path))


@pytest.mark.parametrize(
  'name, text, wanted',
  [
    ('x.csv', 'a,b\n1,2\n3\n', 'line 3 has 1 columns; the first line names 2'),
    ('x.csv', 'a,a\n1,2\n', "the column 'a' twice"),
    ('x.csv', 'a,b\n1,"2\n', 'line 2: unexpected end'),
    ('x.csv', 'a,b\n', 'has no rows'),
    ('x.tsv', 'a\tb\n1\n', 'line 2 has 1 columns'),
    ('x.json', '"text"', 'holds no list of objects'),
    ('x.json', '[1]', 'item 0 is 1, not an object'),
    ('x.json', '[', 'is no JSON'),
    ('x.xml', '<a/>', "ends in '.xml'; it can be .jsonl"),
  ],
)
def test_broken_files(tmp_path, name, text, wanted):
  assert wanted in message(source.read, str(write(tmp_path / name, text)))


def damaged(content: bytes) -> bytes:
  packed = bytearray(gzip.compress(content))
  packed[40:60] = bytes(20)
  return bytes(packed)


LONG = ''.join(f'{{"a": {i * 7919 % 10007}}}\n' for i in range(500)).encode()


@pytest.mark.parametrize(
  'name, content, wanted',
  [
    ('x.jsonl.gz', damaged(LONG), 'is no whole gzip file'),
    ('x.jsonl.gz', gzip.compress(LONG)[:-9], 'is no whole gzip file'),
    ('x.jsonl.gz', LONG, 'is no whole gzip file'),
    ('x.json.gz', damaged(LONG), 'is no whole gzip file'),
    ('x.jsonl', b'{"a": 1}\n{"a": %s}\n' % (b'1' * 5000), 'line 2 is no JSON'),
    ('x.jsonl', b'[' * 100_000, 'line 1 is no JSON'),
    ('x.json', b'[{"a": %s}]' % (b'1' * 5000), 'x.json is no JSON'),
    ('x.json', b'[' * 100_000, 'x.json is no JSON'),
    ('x.json', b'{"a": 1}\n' + b'[' * 100_000, 'line 2 is no JSON'),
  ],
)
def test_damaged_files(tmp_path, name, content, wanted):
  (tmp_path / name).write_bytes(content)
  assert wanted in message(source.read, str(tmp_path / name))


def test_a_json_row_is_not_taken_for_what_holds_rows(tmp_path):
  """A row's own list, of answers, say, is not the list of rows."""
  for row in (
    {'q': 'who', 'answers': [{'text': 'Ann'}, {'text': 'Bo'}]},
    {'q': 'who', 'answers': ['Ann']},
    {'data': 'text'},
  ):
    path = write(tmp_path / 'x.json', json.dumps(row))
    assert source.read(str(path)) == [row]
  for key in ('data', 'rows', 'examples'):
    inside = json.dumps({'name': 'x', 'other': [1], key: [{'a': 1}]})
    assert source.read(str(write(tmp_path / 'x.json', inside))) == [{'a': 1}]


def test_an_empty_line_of_one_column_is_an_empty_value(tmp_path):
  """Else a test set is a row short, and answers go to the wrong rows."""
  path = write(tmp_path / 'x.csv', 'a\nx\n\ny\n')
  assert source.read(str(path)) == [{'a': 'x'}, {'a': ''}, {'a': 'y'}]
  path = write(tmp_path / 'x.csv', 'a,b\nx,1\n\ny,2\n')
  assert len(source.read(str(path))) == 2


def test_a_file_that_is_not_there(tmp_path):
  write(tmp_path / 'train.csv', 'a\n1\n')
  text = message(source.read, str(tmp_path / 'trian.csv'))
  assert 'there is no file' in text and 'train.csv' in text.split('mean')[1]


def test_real_tables(shared):
  folder = shared / 'data'
  mrpc = table.read(folder / 'glue/MRPC/dev.tsv')
  assert len(mrpc) == 408
  # The file begins with a byte-order mark.
  assert list(mrpc[0])[0] == 'Quality'
  assert len(table.read(folder / 'glue/SST-2/train.tsv')) == 67_349
  tweets = table.read(folder / 'twitter_complaints/raft/train.csv')
  assert len(tweets) == 50
  task = base.load(
    'custom/tweets',
    template='{Tweet text}',
    target='Label',
    labels=('1:complaint', '2:no complaint'),
  )
  examples = task.examples(tweets, 'train')
  assert [e.targets for e in examples].count('complaint') == 17


# What the configuration names.


def test_rows_of_a_task_of_ones_own(tmp_path):
  config = default()
  config.custom.dev = str(write(tmp_path / 'dev.csv', 'a\n1\n'))
  assert source.rows(config, 'custom/mine', 'dev') == [{'a': '1'}]
  # Nothing kept apart: the report is on dev.
  assert source.rows(config, 'custom/mine', 'test') == [{'a': '1'}]
  text = message(source.rows, config, 'custom/mine', 'train')
  assert 'custom.train is empty' in text


def test_rows_of_superglue(tmp_path):
  write(tmp_path / 'CB' / 'val.jsonl', '{"a": 1}')
  config = default()
  config.data = str(tmp_path)
  assert source.rows(config, 'superglue/cb', 'dev') == [{'a': 1}]


# The few-shot draw.


def test_few_shot_is_a_function_of_the_seed():
  items = list(range(100))
  draw = source.few_shot(items, 32, seed=1)
  assert draw == source.few_shot(items, 32, seed=1) == sorted(set(draw))
  assert len(draw) == 32 and draw != source.few_shot(items, 32, seed=2)
  # The draw is kept for good: a seed in a paper names these examples.
  assert source.few_shot(items, 5, seed=0) == [12, 13, 41, 59, 81]
  assert source.few_shot(items, 100, seed=0) == items


def test_few_shot_is_uniform():
  counts = [0] * 10
  for seed in range(2000):
    for item in source.few_shot(range(10), 3, seed=seed):
      counts[item] += 1
  # 600 each; the standard deviation is 20.
  assert all(500 < count < 700 for count in counts)


def test_few_shot_of_too_few():
  text = message(source.few_shot, [1, 2], 3, seed=0)
  assert 'shots=3 must be between 1 and the 2 there are' in text


# The hub, by its real client.

SPLITS = {'train': 'train', 'validation': 'dev', 'test': 'test'}
FLAT = {
  'rte': [{'premise': 'p', 'hypothesis': 'h', 'label': 1, 'idx': 0}],
  'multirc': [
    {
      'paragraph': 'p<br>q',
      'question': 'q',
      'answer': 'a',
      'label': 1,
      'idx': {'paragraph': 0, 'question': 0, 'answer': i},
    }
    for i in range(2)
  ],
  'record': [
    {
      'passage': 'One\n@highlight\nAnn',
      'query': '@placeholder',
      'entities': ['Bo', 'Ann'],
      'entity_spans': {'text': ['Ann'], 'start': [15], 'end': [17]},
      'answers': ['Ann'],
      'idx': {'passage': 0, 'query': 0},
    }
  ],
  'wsc': [
    {
      'text': 'Ann saw Bo as she left .',
      'span1_index': 0,
      'span1_text': 'Ann',
      'span2_index': 4,
      'span2_text': 'she',
      'label': 1,
      'idx': 0,
    }
  ],
}
ASK = """
import json
from ptjax.config import UserError
from ptjax.data import source
out = []
for name, task, split in {asked!r}:
  try:
    out.append(source.superglue(name, task, split))
  except UserError as error:
    out.append(str(error))
out.append(source.read('hub:me/mine:train'))
print(json.dumps(out))
"""


def repository(root):
  """SuperGLUE as its script-free repository holds it: Parquet and a card."""
  pyarrow = pytest.importorskip('pyarrow')
  from pyarrow import parquet

  folder, card = root / 'datasets/aps/super_glue', ['---', 'configs:']
  for name, rows in FLAT.items():
    card += [f'- config_name: {name}', '  data_files:']
    (folder / name).mkdir(parents=True)
    for split in SPLITS:
      if split == 'test' and 'label' in rows[0]:
        rows = [{**row, 'label': -1} for row in rows]
      rows = [{**row, 'split': split} for row in rows]
      file = folder / name / f'{split}-00000-of-00001.parquet'
      parquet.write_table(pyarrow.Table.from_pylist(rows), file)
      card += [f'  - split: {split}', f'    path: {name}/{split}-*']
  write(folder / 'README.md', '\n'.join([*card, '---', '']))
  write(root / 'datasets/me/mine/train.csv', 'text,label\na,1\n')
  script = f"open({str(root / 'executed')!r}, 'w')\nimport datasets\n"
  write(root / 'datasets/me/coded/coded.py', script)


def test_the_real_client_against_a_hub_on_this_machine(tmp_path):
  pytest.importorskip('datasets')
  repository(tmp_path / 'hub')
  asked = [('hub', task, split) for task in FLAT for split in SPLITS.values()]
  wrong = [
    ('hub:aps/super_glu', 'rte', 'dev'),
    ('hub', 'boolq', 'dev'),
    ('hub:me/mine', 'rte', 'dev'),
    ('hub:me/coded', 'rte', 'dev'),
  ]
  with fake_hub.serve(tmp_path / 'hub') as served:
    done = subprocess.run(
      [sys.executable, '-c', ASK.format(asked=[*asked, *wrong])],
      cwd=ROOT,
      env={
        **os.environ,
        'HF_ENDPOINT': served.url,
        'HF_HOME': str(tmp_path / 'home'),
        'HF_HUB_OFFLINE': '0',
        'HF_DATASETS_OFFLINE': '0',
        # What made `datasets` 3 run a repository's code without a question.
        'HF_DATASETS_TRUST_REMOTE_CODE': '1',
      },
      capture_output=True,
      text=True,
    )
  assert done.returncode == 0, done.stderr[-2000:]
  *found, none, subset, other, coded, own = json.loads(done.stdout)
  for (_, name, split), rows in zip(asked, found):
    assert all(SPLITS[row['split']] == split for row in rows)
    task = base.load(name)
    examples = task.examples(rows, split)
    assert len(examples) == len(FLAT[name])
    assert task.labelled(examples) == (split != 'test' or name == 'record')
    if name == 'multirc':
      assert examples[1].meta['idx'] == {
        'paragraph': 0,
        'question': 0,
        'answer': 1,
      }
  assert f'hub:aps/super_glu: {served.url} has no such data set' in none
  assert "no subset 'boolq'" in subset and "'rte'" in subset
  assert "no subset 'rte'" in other
  assert 'hub:me/coded' in coded and 'scripts are no longer' in coded
  assert not (tmp_path / 'hub/executed').exists()
  assert own == [{'text': 'a', 'label': 1}]
  assert any('rte/validation' in name for name in served.downloads())


@pytest.mark.parametrize(
  'error, wanted',
  [
    (ConnectionError("Couldn't reach 'a/b' on the Hub"), 'cannot be reached'),
    (ConnectionError('Offline mode is enabled.'), 'HF_HUB_OFFLINE is set'),
    (
      RuntimeError('Dataset scripts are no longer supported'),
      'cannot be read: RuntimeError: Dataset scripts are no longer supported',
    ),
  ],
)
def test_what_the_client_raises_becomes_a_sentence(monkeypatch, error, wanted):
  def load_dataset(*_):
    raise error

  client = types.SimpleNamespace(load_dataset=load_dataset)
  monkeypatch.setitem(sys.modules, 'datasets', client)
  assert wanted in message(hub.rows, 'a/b', config=None, split='dev')


def test_without_the_client(monkeypatch):
  monkeypatch.setitem(sys.modules, 'datasets', None)
  text = message(source.read, 'hub:a/b:train')
  assert 'pip install datasets' in text


def test_a_split_that_is_not_there(monkeypatch):
  client = types.SimpleNamespace(load_dataset=lambda *_: {'trial': None})
  monkeypatch.setitem(sys.modules, 'datasets', client)
  text = message(source.read, 'hub:a/b:train')
  assert "no split 'train', did you mean 'trial'?; it has trial" in text


def test_splits_are_told_by_our_names(monkeypatch):
  splits = dict.fromkeys(('train', 'validation', 'extra'))
  client = types.SimpleNamespace(load_dataset=lambda *_: splits)
  monkeypatch.setitem(sys.modules, 'datasets', client)
  assert hub.splits('a/b', config=None) == ['train', 'dev', 'extra']


def test_names_on_the_hub_are_whole():
  assert 'not of the form hub:OWNER/NAME:SPLIT' in message(
    source.read, 'hub:a/b'
  )
