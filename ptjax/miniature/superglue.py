"""Eight small tasks in SuperGLUE's own rows, made of the miniature's world.

Owns what a row of each task asks, under the field names, labels and special
cases of the original files. Test rows carry their labels here. Knows neither
how a row becomes a model's input nor how it is scored.
"""

import itertools
import random
from collections.abc import Iterator

from ptjax.config import UserError
from ptjax.miniature import lexicon, prose, world

SIZES = {'train': 2000, 'dev': 400, 'test': 400}
# Rows that hold several questions or are few, as in the original.
FEW = {
  'cb': {'train': 1000, 'dev': 300, 'test': 300},
  'multirc': {'train': 400, 'dev': 80, 'test': 80},
  'record': {'train': 800, 'dev': 200, 'test': 200},
}
CB_LABELS = ('entailment', 'contradiction', 'neutral')
CB_TRUTHS = dict(zip(CB_LABELS, (True, False, None)))
# The third class is the small one, as in the original.
CB_SHARES = (45, 40, 15)


def rows(
  task: str, split: str, *, size: int | None = None, seed: int = 0
) -> list[dict]:
  """The rows of one split, the same ones at every call."""
  if task not in MAKERS:
    raise UserError(
      f'The miniature has no task {task!r}; it has {", ".join(MAKERS)}.'
    )
  if split not in SIZES:
    raise UserError(
      f'The miniature has no split {split!r}; it has {", ".join(SIZES)}.'
    )
  rng = random.Random(f'miniature/{task}/{split}/{seed}')
  size = FEW.get(task, SIZES)[split] if size is None else size
  made = _different(MAKERS[task], rng, split)
  return [{**next(made), 'idx': i} for i in range(size)]


def _different(maker, rng, split) -> Iterator[dict]:
  """Rows without repetition, as far as the world has so many."""
  seen = set()
  for tries in itertools.count():
    row = maker(rng, split)
    key = repr(row)
    # A small world runs out: after many tries a repetition is let through.
    if key not in seen or tries > 20 * len(seen) + 1000:
      seen.add(key)
      yield row


def _pick_relation(rng) -> str:
  return rng.choice(tuple(world.RELATIONS))


def _others(rng, relation: str) -> tuple[str, ...]:
  """At most one fact of another kind, for distraction."""
  rest = [name for name in world.RELATIONS if name != relation]
  return tuple(rng.sample(rest, rng.randrange(2)))


def _boolq(rng, split) -> dict:
  relation = _pick_relation(rng)
  label = rng.random() < 0.5
  facts = world.draw(
    rng,
    split,
    relation=relation,
    main=rng.choice((2, 3)),
    others=_others(rng, relation),
  )
  claim = world.claim(rng, facts, relation, truth=label)
  return {
    'question': prose.ask_if(rng, claim),
    'passage': prose.passage(rng, facts),
    'label': label,
  }


def _inference(rng, split, truth) -> dict:
  relation = _pick_relation(rng)
  facts = world.draw(
    rng, split, relation=relation, main=2, others=_others(rng, relation)
  )
  claim = world.claim(rng, facts, relation, truth=truth)
  return {
    'premise': prose.passage(rng, facts),
    'hypothesis': prose.sentence(rng, claim),
  }


def _cb(rng, split) -> dict:
  label = rng.choices(CB_LABELS, CB_SHARES)[0]
  return {**_inference(rng, split, CB_TRUTHS[label]), 'label': label}


def _rte(rng, split) -> dict:
  follows = rng.random() < 0.5
  truth = True if follows else rng.choice((False, False, None))
  label = 'entailment' if follows else 'not_entailment'
  return {**_inference(rng, split, truth), 'label': label}


def _copa(rng, split) -> dict:
  drawn = lexicon.draw_choice(rng, split)
  choices = drawn.right, drawn.wrong
  label = rng.randrange(2)
  return {
    'premise': f'{drawn.told}.',
    'choice1': f'{choices[label]}.',
    'choice2': f'{choices[1 - label]}.',
    'question': drawn.asks,
    'label': label,
  }


def _multirc(rng, split) -> dict:
  relation = _pick_relation(rng)
  facts = world.draw(
    rng,
    split,
    relation=relation,
    main=4,
    shared=0.5,
  )
  questions = []
  subjects = prose.ask_subject
  for ask in (subjects, rng.choice((subjects, prose.ask_value))):
    fact = rng.choice(facts)
    by_subject = ask is subjects
    answers = _answers(rng, facts, fact, by_subject)
    questions.append(
      {'question': ask(rng, fact), 'answers': answers, 'idx': len(questions)}
    )
  text = '<br>'.join(prose.sentence(rng, fact) for fact in facts)
  return {'passage': {'text': text, 'questions': questions}}


def _answers(rng, facts, fact, by_subject: bool) -> list[dict]:
  """Every right answer and as many wrong ones from the same passage."""
  if by_subject:
    right = [prose.subject(f) for f in facts if f.value == fact.value]
    every = [prose.subject(f) for f in facts]
  else:
    right = [prose.value(fact)]
    every = sorted({prose.value(f) for f in facts})
  wrong = [answer for answer in every if answer not in right]
  wrong = rng.sample(wrong, min(len(wrong), max(1, len(right))))
  answers = right + wrong
  rng.shuffle(answers)
  return [
    {'text': prose.capital(text), 'label': int(text in right), 'idx': i}
    for i, text in enumerate(answers)
  ]


def _record(rng, split) -> dict:
  relation = rng.choice(('at', 'holds', 'likes'))
  facts = world.draw(
    rng,
    split,
    relation=relation,
    main=rng.choice((3, 4)),
    shared=0.3,
  )
  sentences = [prose.sentence(rng, fact) for fact in facts]
  text = ' '.join(sentences[:2]) + '\n@highlight\n' + ' '.join(sentences[2:])
  entities = [_span(text, f.subject) for f in facts]
  qas = []
  for fact in rng.sample(facts, 2):
    answers = [f.subject for f in facts if f.value == fact.value]
    qas.append(
      {
        'query': prose.with_gap(rng, fact, '@placeholder'),
        'answers': [{**_span(text, a), 'text': a} for a in answers],
        'idx': len(qas),
      }
    )
  return {'passage': {'text': text, 'entities': entities}, 'qas': qas}


def _span(text: str, name: str) -> dict:
  """Both ends are inside the span, as in ReCoRD's files."""
  start = text.index(name)
  return {'start': start, 'end': start + len(name) - 1}


def _wic(rng, split) -> dict:
  word = rng.choice(tuple(lexicon.SENSES))
  same = rng.random() < 0.5
  sense = rng.randrange(2)
  first = lexicon.draw_use(rng, split, word, sense)
  second = first
  while second == first:
    second = lexicon.draw_use(rng, split, word, sense if same else 1 - sense)
  row = {
    'word': word,
    'sentence1': first.text,
    'sentence2': second.text,
    'label': same,
  }
  for i in '12':
    row[f'start{i}'] = row[f'sentence{i}'].index(word)
    row[f'end{i}'] = row[f'start{i}'] + len(word)
  return row


def _wsc(rng, split) -> dict:
  # A man and a woman are told apart by the pronoun, without reading.
  riddle = lexicon.draw_riddle(rng, split, by_gender=False)
  label = rng.random() < 0.5
  named = riddle.referent if label else riddle.other
  words = riddle.text.split(' ')
  span = named.split(' ')
  start = words.index(span[-1]) - len(span) + 1
  return {
    'text': riddle.text,
    'target': {
      'span1_index': start,
      'span1_text': named,
      'span2_index': len(riddle.before.split(' ')),
      'span2_text': riddle.pronoun,
    },
    'label': label,
  }


MAKERS = {
  'boolq': _boolq,
  'cb': _cb,
  'copa': _copa,
  'multirc': _multirc,
  'record': _record,
  'rte': _rte,
  'wic': _wic,
  'wsc': _wsc,
}
