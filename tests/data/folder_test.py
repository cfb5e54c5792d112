"""Where a task's files are looked for, and which split a file is."""

import pathlib

import pytest

from ptjax.config import UserError
from ptjax.data import folder


def make(top, *names):
  for name in names:
    (top / name).parent.mkdir(parents=True, exist_ok=True)
    (top / name).write_text('x')


def find(top):
  return folder.find(
    str(top),
    'qa',
    called=('squad', 'qa'),
    holds=lambda path: any(folder.split_of(p) for p in path.iterdir()),
  )


@pytest.mark.parametrize(
  'name, split',
  [
    ('train.json', 'train'),
    ('train-v1.1.json', 'train'),
    ('Train.en.gz', 'train'),
    ('val.jsonl', 'dev'),
    ('dev-v1.1.json', 'dev'),
    ('validation.csv', 'dev'),
    ('test_2016_flickr.en.gz', 'test'),
    ('test_unlabeled.csv', 'test'),
    ('training.csv', ''),
    ('xquad.en.json', ''),
    ('testament.txt', ''),
    ('README.md', ''),
  ],
)
def test_a_file_is_told_by_its_first_word(name, split):
  assert folder.split_of(pathlib.Path('x') / name) == split


def test_the_folder_itself_before_those_below(tmp_path):
  make(tmp_path, 'train.json', 'qa/train.json')
  assert find(tmp_path) == tmp_path


def test_a_folder_is_found_by_its_name_or_by_the_one_it_is_in(tmp_path):
  make(
    tmp_path, 'glue/train.json', 'sets/My_SQuAD/train.json', 'qa/nq/dev.json'
  )
  # Its own name goes before its place; the whole path is looked at, too.
  assert find(tmp_path) == tmp_path / 'sets/My_SQuAD'
  (tmp_path / 'sets/My_SQuAD/train.json').unlink()
  assert find(tmp_path) == tmp_path / 'qa/nq'


def test_what_is_not_clear_is_refused(tmp_path):
  make(tmp_path, 'glue/train.json', 'words.txt')
  with pytest.raises(UserError) as error:
    find(tmp_path)
  assert 'no files of qa' in str(error.value)
  assert 'called squad or qa; there is glue, words.txt' in str(error.value)
  make(tmp_path, 'squad1/train.json', 'squad2/train.json')
  with pytest.raises(UserError, match='several folders .* squad1, squad2'):
    find(tmp_path)
  with pytest.raises(UserError, match='is no folder, did you mean'):
    find(tmp_path / 'glu')
