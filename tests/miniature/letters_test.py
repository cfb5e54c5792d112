"""A GPT's pretraining holds no row of its task, and not the task's format."""

import itertools
import random
import re

import pytest

from ptjax.miniature import complaints, letters
from tests.miniature.complaints_test import label
from tests.miniature.corpus_test import formatted

SAMPLE = 4000
# Texts behind a service's name, in rows and in letters alike.
ADDRESS = r'@(\w+) (.*)'


@pytest.fixture(scope='module')
def documents():
  out = []
  for phase in letters.SHARES:
    made = letters.documents('test', phase=phase)
    out += [(k, f'{t} {e}') for k, t, e in itertools.islice(made, SAMPLE)]
  return out


def cores(rows: list[dict]) -> dict[str, set[str]]:
  """What rows say to each service, without what says nothing."""
  found: dict[str, set[str]] = {}
  for row in rows:
    service, text = re.fullmatch(ADDRESS, row['Tweet text']).groups()
    sentences = [
      s for s in re.findall(r'[^.]+\.', text)
      if re.search(r'sent|asked|wanted|got|was|is|found', s)
      and not re.search(r'I was here|That was', s)
    ]  # fmt: skip
    found.setdefault(service, set()).add(''.join(sentences).strip())
  return found


def held(documents: list[str], rows: list[dict]) -> list[str]:
  """Documents that tell a service what a row tells it."""
  known, hits = cores(rows), []
  for document in documents:
    for service, texts in known.items():
      if re.search(rf' @?{service}', document):
        hits += [document for text in texts if text in document]
  return hits


def every_row() -> list[dict]:
  return [row for split in complaints.SIZES for row in complaints.rows(split)]


def test_no_letter_is_a_row(documents):
  said = [text for kind, text in documents if kind in letters.KINDS]
  assert len(said) > SAMPLE
  assert held(said, every_row()) == []


def test_the_search_finds_a_row_that_is_there():
  row = complaints.rows('dev')[0]
  service, text = re.fullmatch(ADDRESS, row['Tweet text']).groups()
  planted = f'Anna writes to the {service}: {text} How does Anna feel? glad'
  assert held([planted], every_row()) == [planted]


def test_no_document_has_the_tasks_format(documents):
  marks = ('Tweet text', 'text :', 'Label :', 'Label:')
  texts = [text for kind, text in documents]
  assert [t for t in texts if any(mark in t for mark in marks)] == []
  assert formatted(texts) == []


def test_label_words_are_said_as_verdicts_or_in_asides_alone(documents):
  for _, text in documents:
    rest = re.sub(r'wrote the word complaint on the wall', '', text)
    rest = re.sub(r'(no )?complaint$', '', rest)
    assert 'complaint' not in rest, text


def test_the_words_of_the_format_are_met(documents):
  said = {word for _, text in documents for word in text.split(' ')}
  assert {'Tweet', 'text', 'Label', 'complaint', 'no'} <= said


def test_documents_are_the_same_at_every_call():
  first, second = (
    list(itertools.islice(letters.documents(3), 50)) for _ in range(2)
  )
  assert first == second


@pytest.mark.parametrize('phase', letters.SHARES)
def test_verdicts_are_right(phase):
  source = letters.Letters(random.Random(0), split='pretrain', phase=phase)
  glad = {words[0] for _, words in letters.VERDICTS.values()}
  for _ in range(500):
    text, verdict = source.content()
    # What the writer says stands behind the colon.
    said = text.split(': ')[1]
    content = label(said) == complaints.LABELS[0]
    assert content == (verdict in glad), text
