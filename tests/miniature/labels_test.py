"""The labels of the eight tasks, and the verdicts of the prose, are right.

Each row and document is read back and judged anew, by nothing but its text.
"""

import itertools
import re

import pytest

from ptjax.miniature import corpus, lexicon, superglue, world
from tests.miniature import reading

SPLITS = tuple(superglue.SIZES)
ANNA = world.PEOPLE[0]  # stands in where anybody could


def rows(task: str, split: str) -> list[dict]:
  found = superglue.rows(task, split)[:500]
  assert len(found) >= 80
  return found


@pytest.mark.parametrize('split', SPLITS)
def test_boolq(split):
  for row in rows('boolq', split):
    claim = reading.YES_NO[row['question']]
    facts = reading.facts(row['passage'])
    assert world.holds(facts, claim) is row['label'], row


@pytest.mark.parametrize('split', SPLITS)
@pytest.mark.parametrize(
  'task, words',
  [
    ('cb', ('entailment', 'contradiction', 'neutral')),
    ('rte', ('entailment', 'not_entailment', 'not_entailment')),
  ],
)
def test_cb_and_rte(task, words, split):
  word_of = dict(zip((True, False, None), words))
  for row in rows(task, split):
    claim = reading.STATEMENTS[row['hypothesis']]
    truth = world.holds(reading.facts(row['premise']), claim)
    assert word_of[truth] == row['label'], row


@pytest.mark.parametrize('split', SPLITS)
def test_copa(split):
  for row in rows('copa', split):
    who, told = re.fullmatch(r'On \w+, (\w+) (.+)\.', row['premise']).groups()
    she = world.pronoun(who).capitalize()
    right = []
    for choice in (row['choice1'], row['choice2']):
      pronoun, said = re.fullmatch(r'(She|He) (.+)\.', choice).groups()
      assert pronoun == she, row
      right += [reading.follows(told, said, question=row['question'])]
    assert right == [row['label'] == 0, row['label'] == 1], row


@pytest.mark.parametrize('split', SPLITS)
def test_multirc(split):
  for row in rows('multirc', split):
    facts = reading.facts(row['passage']['text'].replace('<br>', ' '))
    for question in row['passage']['questions']:
      asked = question['question']
      if about := reading.FOR_SUBJECT.get(asked):
        right = {f.subject for f in facts if f.value == about.value}
        assert {f.relation for f in facts} == {about.relation}
      else:
        about = reading.FOR_VALUE[asked]
        right = {f.value for f in facts if f.subject == about.subject}
      answers = {reading.plain(a['text']): a for a in question['answers']}
      assert len(answers) == len(question['answers'])
      assert {a for a in answers if answers[a]['label']} == right, row


@pytest.mark.parametrize('split', SPLITS)
def test_record(split):
  for row in rows('record', split):
    text = row['passage']['text'].replace('\n@highlight\n', ' ')
    facts = reading.facts(text)
    for query in row['qas']:
      about = reading.STATEMENTS[query['query'].replace('@placeholder', ANNA)]
      right = {
        f.subject
        for f in facts
        if (f.relation, f.value) == (about.relation, about.value)
      }
      assert {a['text'] for a in query['answers']} == right, row


@pytest.mark.parametrize('split', SPLITS)
def test_wic(split):
  for row in rows('wic', split):
    uses = [reading.USES[row[f'sentence{i}']] for i in '12']
    assert {word for word, _ in uses} == {row['word']}
    assert (uses[0] == uses[1]) is row['label'], row
    assert row['sentence1'] != row['sentence2']


@pytest.mark.parametrize('split', SPLITS)
def test_wsc(split):
  for row in rows('wsc', split):
    named = row['target']['span1_text']
    assert (named == reading.referent(row['text'])) is row['label'], row


def documents(kind: str) -> list[tuple[str, str]]:
  """(text, continuation) of a kind, from every phase that has it."""
  found = []
  for phase, shares in corpus.SHARES.items():
    if shares[corpus.KINDS.index(kind)]:
      made = corpus.documents('labels', phase=phase)
      of_kind = ((text, end) for k, text, end in made if k == kind)
      found += itertools.islice(of_kind, 300)
  return found


def test_verification():
  """A passage of marked or bare statements; a claim by one of four forms."""
  seen = set()
  for text, verdict in documents('verification'):
    facts, claims = [], []
    for sentence in reading.sentences(text):
      mark, _, said = sentence.rpartition(': ')
      if said in reading.STATEMENTS:
        claimed = f'{mark}:' in corpus.CLAIMS
        (claims if claimed else facts).append(reading.STATEMENTS[said])
      elif sentence in reading.YES_NO:
        claims.append(reading.YES_NO[sentence])
      elif sentence in reading.FOR_SUBJECT | reading.FOR_VALUE:
        claims.append(_replied(sentence, text))
    (claim,) = claims
    family, (asks, words) = next(
      item
      for item in corpus.VERDICTS.items()
      if any(ask in text for ask in item[1][0])
    )
    truth = world.holds(tuple(facts), claim)
    assert verdict == dict(zip((True, False, None), words))[truth], text
    seen.add((family, truth))
  assert seen >= {(f, t) for f in corpus.VERDICTS for t in (True, False)}
  assert {('careful', None), ('strict', None)} <= seen


def _replied(question: str, text: str) -> world.Fact:
  """The claim that a question and its reply make."""
  reply = re.search(re.escape(question) + r' ([\w ]+), they say\.', text)[1]
  if about := reading.FOR_SUBJECT.get(question):
    return world.Fact(about.relation, reading.plain(reply), about.value)
  about = reading.FOR_VALUE[question]
  return world.Fact(about.relation, about.subject, reading.plain(reply))


def test_consequence():
  seen = set()
  for text, end in documents('consequence'):
    question = 'effect' if any(a in text for a in corpus.EFFECT) else 'cause'
    told = re.search(r'On \w+, (\w+) ([^.]+)\.', text)
    both = [
      re.search(rf'{a} (\w+ [^.]+)\. {b} (\w+ [^.]+)\.', text)
      for a, b in corpus.ORDINALS
    ]
    both = next((match.groups() for match in both if match), None)
    said = end
    if both:
      names = next(names for _, names in corpus.WHICH if end in names)
      said = both[names.index(end)]
    pronoun, said = said.split(' ', 1)
    if told:
      assert reading.follows(told[2], said, question=question), text
      assert pronoun == world.pronoun(told[1]).capitalize()
      assert (
        not both
        or sum(
          reading.follows(told[2], c.split(' ', 1)[1], question=question)
          for c in both
        )
        == 1
      )
    else:
      assert f'{pronoun} {said}, they say.' in text
    seen.add((bool(told), end if both else '', question if told else ''))
  for names in (names for _, names in corpus.WHICH):
    for end in names:
      assert (False, end, '') in seen
      assert {(True, end, 'cause'), (True, end, 'effect')} <= seen
  assert {(True, '', 'cause'), (True, '', 'effect')} <= seen


def test_senses():
  seen = set()
  for text, end in documents('senses'):
    uses = [
      reading.USES[said]
      for sentence in reading.sentences(text)
      if (said := sentence.rpartition(': ')[2]) in reading.USES
    ]
    if len(uses) == 1:
      word, sense = uses[0]
      assert lexicon.SENSES[word][sense][0] == end, text
      continue
    same = {'True': True, 'Yes': True, 'False': False, 'No': False}[end]
    first, second = uses
    assert (first == second) is same and first[0] == second[0], text
    seen.add(end)
  assert len(seen) == 4


def test_pronouns():
  for text, end in documents('pronouns'):
    assert reading.referent(text) == end, text
