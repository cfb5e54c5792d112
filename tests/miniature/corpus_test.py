"""Pretraining prose holds no task's format and no task's passage."""

import itertools
import random

import pytest

from ptjax.miniature import corpus, prose, superglue, world
from ptjax.miniature.vocabulary import FORMAT_WORDS, LABELS
from tests.miniature.superglue_test import FIELDS, passages

SAMPLE = 4000


@pytest.fixture(scope='module')
def documents():
  out = []
  for phase in corpus.SHARES:
    made = corpus.documents('test', phase=phase)
    out += [f'{text} {end}' for _, text, end in itertools.islice(made, SAMPLE)]
  return out


@pytest.fixture(scope='module')
def known():
  """Every passage of every task, by its first two words."""
  found: dict[str, set[str]] = {}
  for task in FIELDS:
    for split in superglue.SIZES:
      for row in superglue.rows(task, split):
        for text in passages(task, row):
          found.setdefault(_head(text.split(' ')), set()).add(text)
  return found


def _head(words: list[str]) -> str:
  return ' '.join(words[:2])


def search(documents: list[str], known: dict[str, set[str]]) -> list[str]:
  """Passages of tasks that some document holds."""
  hits = []
  for document in documents:
    words = document.split(' ')
    for at in range(len(words)):
      rest = ' '.join(words[at:])
      hits += [
        text
        for text in known.get(_head(words[at : at + 2]), ())
        if rest.startswith(text)
      ]
  return hits


def formatted(documents: list[str]) -> list[str]:
  """Documents with a task's field name in the way a format says it."""
  marks = [f'{word}:' for word in FORMAT_WORDS] + ['*she', '*he', '*it']
  return [d for d in documents if any(mark in d for mark in marks)]


def test_no_document_has_a_tasks_passage(documents, known):
  assert search(documents, known) == []


def test_the_search_finds_a_passage_that_is_there(documents, known):
  row = superglue.rows('boolq', 'dev')[0]
  planted = f'News: {row["passage"]} Who? Anna'
  assert search([*documents[:10], planted], known) == [row['passage']]


def test_no_document_has_a_tasks_format(documents):
  assert formatted(documents) == []


def test_the_search_finds_a_format_that_is_there(documents):
  planted = 'hypothesis: Anna likes rice. premise: Tom likes rice.'
  assert formatted([*documents[:10], planted]) == [planted]


def test_every_label_is_said_and_ends_a_document(documents):
  said = {document.split(' ')[-1] for document in documents}
  assert set(LABELS) <= said


def test_documents_are_the_same_at_every_call():
  first, second = (
    list(itertools.islice(corpus.documents(3), 50)) for _ in range(2)
  )
  assert first == second


def test_verdicts_are_right():
  source = corpus.Prose(random.Random(0), split='pretrain', phase='wide')
  for _ in range(300):
    text, verdict = source.judged()
    relation, facts = None, set()
    for name, forms in prose.FORMS.items():
      for subject in world.RELATIONS[name][0]:
        for value in world.RELATIONS[name][1]:
          fact = world.Fact(name, subject, value)
          if any(prose._say(form, fact) in text for form in forms[0]):
            facts.add(fact)
          if any(prose._say(form, fact) in text for form in forms[1]):
            relation = fact
    assert (relation in facts) == (verdict == 'Yes'), text
