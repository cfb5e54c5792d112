"""Files of three tasks in all their layouts, and splits that are cut off."""

import gzip
import json

import pytest

from ptjax.config import UserError
from ptjax.data import generation
from ptjax.tasks import base

SPLITS = ('train', 'dev', 'test')


def write(path, value):
  path.parent.mkdir(parents=True, exist_ok=True)
  text = value if isinstance(value, str) else json.dumps(value)
  if path.suffix == '.gz':
    path.write_bytes(gzip.compress(text.encode()))
  else:
    path.write_text(text)
  return path


def rows(top, task, split, seed=0):
  return generation.rows(str(top), task, split, seed=seed)


def message(top, task, split='train'):
  with pytest.raises(UserError) as error:
    rows(top, task, split)
  assert '\n' not in str(error.value)
  return str(error.value)


def instances(*numbers):
  return {
    'Definition': ['Do it.'],
    'Positive Examples': [{'input': 'p', 'output': 'q'}],
    'Instances': [
      {'id': f'i{n}', 'input': f'text {n}', 'output': [f'sum {n}']}
      for n in numbers
    ],
  }


def squad(*titles):
  return {
    'version': '1.1',
    'data': [
      {
        'title': title,
        'paragraphs': [
          {
            'context': f'{title}, part {i}',
            'qas': [
              {
                'id': f'{title}{i}{j}',
                'question': f'q{j}?',
                'answers': [{'text': a, 'answer_start': 0} for a in 'aab'],
              }
              for j in range(2)
            ],
          }
          for i in range(2)
        ],
      }
      for title in titles
    ],
  }


# Summarisation.


def test_natural_instructions_and_its_hidden_twin(tmp_path):
  for split, numbers in zip(SPLITS, (range(20), (30, 31), (30, 31))):
    write(tmp_path / f'xsum/{split}.json', instances(*numbers))
  found = {split: rows(tmp_path, 'summarization', split) for split in SPLITS}
  assert found['test'] == [
    {'document': f'text {n}', 'summary': [f'sum {n}'], 'idx': f'i{n}'}
    for n in (30, 31)
  ]
  # What is dev and test is not chosen on: dev comes from the other rows.
  ids = {split: {row['idx'] for row in found[split]} for split in SPLITS}
  assert ids['train'] | ids['dev'] == {f'i{n}' for n in range(20)}
  assert not ids['train'] & ids['dev'] and len(ids['dev']) == 2
  said = generation.remarks(str(tmp_path), 'summarization', seed=3)
  assert said == [
    'dev.json and test.json are the same rows; they are test',
    'dev is cut off train by seed 3, no text in both',
  ]
  examples = base.load('summarization').examples(found['test'], 'test')
  assert [e.targets for e in examples] == ['sum 30', 'sum 31']


def test_three_files_that_differ_are_as_they_are(tmp_path):
  for split, n in zip(SPLITS, (1, 2, 3)):
    write(tmp_path / f'{split}.json', instances(n))
  for split, n in zip(SPLITS, (1, 2, 3)):
    (row,) = rows(tmp_path, 'summarization', split)
    assert row['document'] == f'text {n}'
  assert generation.remarks(str(tmp_path), 'summarization', seed=0) == []


@pytest.mark.parametrize(
  'text, summary',
  [('document', 'summary'), ('article', 'highlights'), ('dialogue', 'summary')],
)
def test_usual_names_of_a_document(tmp_path, text, summary):
  for split in SPLITS:
    write(tmp_path / f'{split}.jsonl', {text: split, summary: 's', 'id': 4})
  (row,) = rows(tmp_path, 'summarization', 'dev')
  assert row == {'document': 'dev', 'summary': 's', 'idx': 4}


def test_other_columns_are_told_by_the_task(tmp_path):
  for split in SPLITS:
    write(tmp_path / f'{split}.jsonl', {'documnet': split, 'summary': 's'})
  found = rows(tmp_path, 'summarization', 'train')
  with pytest.raises(UserError, match="'document', did you mean 'documnet'"):
    base.load('summarization').examples(found, 'train')


# Questions.


def test_squad_s_articles_and_a_missing_test_split(tmp_path):
  write(tmp_path / 'train-v1.1.json', squad(*'ABCDEFGHIJ'))
  write(tmp_path / 'dev-v1.1.json', squad('X'))
  found = {split: rows(tmp_path, 'qa', split) for split in SPLITS}
  assert found['test'][0] == {
    'title': 'X',
    'context': 'X, part 0',
    'question': 'q0?',
    'answers': ['a', 'b'],
    'idx': 'X00',
  }
  titles = {split: {row['title'] for row in found[split]} for split in SPLITS}
  assert titles['test'] == {'X'} and len(found['test']) == 4
  # Ten articles of four questions: one is dev, whole.
  assert len(titles['dev']) == 1 and not titles['dev'] & titles['train']
  assert len(found['dev']) == 4 and len(found['train']) == 36
  other = {row['title'] for row in rows(tmp_path, 'qa', 'dev', seed=1)}
  assert other != titles['dev']
  assert generation.remarks(str(tmp_path), 'qa', seed=0)[0] == (
    'test is what the data set calls dev'
  )


def test_a_file_that_is_alone_is_cut_into_three(tmp_path):
  write(tmp_path / 'squad_x/xquad.en.json', squad(*'ABCDEFGHIJKLMNOPQRST'))
  found = {
    seed: {split: rows(tmp_path, 'qa', split, seed=seed) for split in SPLITS}
    for seed in (0, 1)
  }
  # The same test split for every seed; dev is drawn.
  assert found[0]['test'] == found[1]['test']
  assert found[0]['dev'] != found[1]['dev']
  titles = [{row['title'] for row in found[0][split]} for split in SPLITS]
  assert len(set.union(*titles)) == 20 == sum(map(len, titles))
  assert sum(map(len, found[0].values())) == 80


def test_open_questions_with_the_passage_that_is_marked(tmp_path):
  lines = [
    {
      'question': f'q{n}',
      'answers': [f'a{n}'],
      'ctxs': [
        {'title': 't', 'text': f'other {n}', 'isgold': False},
        {'title': 't', 'text': f'gold {n}', 'isgold': True},
      ],
    }
    for n in range(20)
  ]
  text = '\n'.join(map(json.dumps, lines))
  write(tmp_path / 'nq.jsonl.gz', text)
  found = [row for s in SPLITS for row in rows(tmp_path, 'qa', s)]
  assert len(found) == 20
  for row in found:
    assert row['context'] == row['question'].replace('q', 'gold ')


def test_a_question_as_the_hub_s_tables_have_it():
  row = {
    'id': '1',
    'context': 'c',
    'question': 'q',
    'answers': {'text': ['x', 'x', 'y'], 'answer_start': [1, 1, 2]},
  }
  (found,) = generation._read([row], 'qa', 'here')
  assert found['answers'] == ['x', 'y'] and found['idx'] == '1'


def test_broken_articles_are_told(tmp_path):
  broken = squad('A', 'B')
  del broken['data'][1]['paragraphs'][0]['qas'][0]
  broken['data'][1]['paragraphs'][1].pop('context')
  write(tmp_path / 'train.json', broken)
  write(tmp_path / 'dev.json', squad('C'))
  said = message(tmp_path, 'qa')
  assert "train.json, item 1 is not of SQuAD's form" in said
  assert "'context'" in said


# Translation.


def pairs(top, split, english, german, ending=''):
  write(top / f'{split}.en{ending}', english)
  write(top / f'{split}.de{ending}', german)


def test_lines_beside_lines(tmp_path):
  # A line is what ends with a newline, whatever else ends lines elsewhere.
  pairs(
    tmp_path, 'train', 'A dog.\r\nA\rcat\u2028.\n', 'Ein Hund.\nKatze.\n', '.gz'
  )
  pairs(tmp_path, 'val', 'Yes.\n', 'Ja.\n')
  pairs(tmp_path, 'test_2017', 'B.\n', 'Bb.\n', '.gz')
  pairs(tmp_path, 'test_2016', 'A.\n', 'Aa.\n', '.gz')
  assert rows(tmp_path, 'translation', 'train') == [
    {'en': 'A dog.', 'de': 'Ein Hund.'},
    {'en': 'A\rcat\u2028.', 'de': 'Katze.'},
  ]
  assert rows(tmp_path, 'translation', 'dev') == [{'en': 'Yes.', 'de': 'Ja.'}]
  assert rows(tmp_path, 'translation', 'test') == [{'en': 'A.', 'de': 'Aa.'}]
  assert generation.remarks(str(tmp_path), 'translation', seed=0) == [
    'test is test_2016.en.gz, the first of 2'
  ]


def test_lines_that_do_not_belong_together_are_refused(tmp_path):
  pairs(tmp_path, 'train', 'a\nb\nc\n', 'a\nb\n')
  pairs(tmp_path, 'val', 'a\n', 'a\n')
  assert 'train.en has 3 lines and train.de 2' in message(
    tmp_path, 'translation'
  )
  (tmp_path / 'train.de').unlink()
  said = message(tmp_path, 'translation')
  assert 'train.en has no train.de beside it' in said


@pytest.mark.parametrize('inner', [False, True])
def test_tables_of_sentences(tmp_path, inner):
  for split in SPLITS:
    row = {'en': split, 'de': 'b'}
    write(tmp_path / f'{split}.jsonl', {'translation': row} if inner else row)
  assert rows(tmp_path, 'translation', 'dev') == [{'en': 'dev', 'de': 'b'}]


# What is not there.


def test_what_is_missing_is_told(tmp_path):
  said = message('miniature', 'qa')
  assert 'the miniature has no qa; name a folder, hub' in said
  assert 'no files of qa (squad, qa)' in message(tmp_path, 'qa')
  write(tmp_path / 'train.json', squad('A'))
  assert 'needs a dev or a test split too' in message(tmp_path, 'qa')
  (tmp_path / 'train.json').rename(tmp_path / 'dev.json')
  assert 'no train split of qa; it has dev' in message(tmp_path, 'qa')


def test_the_hub_is_asked_for_the_public_sets(monkeypatch):
  asked = []
  there = {'train': range(20), 'dev': range(20, 22)}
  monkeypatch.setattr(
    generation.hub, 'splits', lambda name, *, config: list(there)
  )

  def answer(name, *, config, split):
    asked.append((name, config, split))
    return [{'en': f'e{n}', 'de': f'd{n}'} for n in there[split]]

  monkeypatch.setattr(generation.hub, 'rows', answer)
  assert len(rows('hub', 'translation', 'dev')) == 2
  assert rows('hub', 'translation', 'test')[0]['en'] == 'e20'
  assert len(rows('hub:me/mine:x', 'translation', 'train')) == 18
  assert asked == [
    ('bentrevett/multi30k', None, 'train'),
    ('bentrevett/multi30k', None, 'dev'),
    ('me/mine', 'x', 'train'),
  ]
