"""Pretraining documents of the embedded GPT: letters, and all of T5's.

Owns what is asked about a customer's letter and what is answered, and their
share beside the documents of corpus.py. A document is a text and its
continuation. None has the task's format, and no letter is a row of the task's;
its label words are said only as verdicts, to sentences that ask for one.
Knows no ids.
"""

import random
from collections.abc import Iterator

from ptjax.miniature import complaints, corpus, customers, world

# How a letter begins; {n} is who writes, {s} to whom.
HEADS = (
  '{n} writes to the {s}:',
  '{n} tells the {s}:',
  '{n} writes to @{s}:',
  'To the {s}, from {n}:',
  'The {s} hears from {n}:',
)
# Who judges, and the words where the writer is content and where not.
VERDICTS = {
  'mood': (
    ('How does {n} feel?', 'Is {n} glad or angry?', 'The mood of {n}?'),
    ('glad', 'angry'),
  ),
  'plain': (('Is {n} content?', 'Is all well?', 'Yes or no?'), ('Yes', 'No')),
  'clerk': (
    ('What would a clerk call it?', 'The clerk judges.'),
    complaints.LABELS,
  ),
  'reply': (
    ('What does the {s} reply?', 'The {s} replies.'),
    ('We are glad', 'We are sorry'),
  ),
}
# Words of the task's format are words of the language, too.
MARKS = ('Tweet', 'text', 'Label', 'complaint')


class Letters:
  """Draws documents about letters from one stream of random numbers."""

  def __init__(self, rng: random.Random, *, split: str, phase: str):
    self.rng, self.split, self.wide = rng, split, phase == 'wide'
    # A narrow beginning: two judges, and what is asked comes last.
    self.first = phase == 'first'
    self.judges = ('mood', 'clerk') if self.first else tuple(VERDICTS)

  def letter(self, kinds=customers.KINDS):
    """An experience, its letter, and the names for what is asked."""
    rng = self.rng
    experience = customers.draw(rng, self.split, kinds=kinds)
    names = {'n': rng.choice(world.PEOPLE), 's': experience.service}
    head = rng.choice(HEADS).format(**names)
    text = customers.say(rng, experience, long=self.wide)
    if self.wide and rng.random() < 0.15:
      mark = rng.choice(MARKS)
      text = f'{text} {names["n"]} wrote the word {mark} on the wall.'
    return experience, f'{head} {text}', names

  def compose(self, text: str, asks: str) -> str:
    parts = [text, asks]
    # Most often what is asked comes last, where its answer is.
    if not self.first and self.rng.random() < 0.2:
      parts.reverse()
    return ' '.join(parts)

  def content(self) -> corpus.Document:
    """A letter, and whether its writer is content."""
    experience, text, names = self.letter()
    asks, words = VERDICTS[self.rng.choice(self.judges)]
    asks = self.rng.choice(asks).format(**names)
    return self.compose(text, asks), words[not experience.content]

  def detail(self) -> corpus.Document:
    """A letter, and something that it says."""
    kinds = tuple(customers.SAYINGS)
    e, text, names = self.letter(kinds)
    if e.kind in ('thing', 'colour'):
      pairs = ('What did {n} want?', e.a), ('What did {n} get?', e.b)
    elif e.kind == 'change':
      pairs = ('How was it before?', e.a), ('How is it now?', e.b)
    else:
      pairs = ('What do others say?', e.a), ('What does {n} say?', e.b)
    asks, answer = self.rng.choice(pairs)
    return self.compose(text, asks.format(**names)), answer


KINDS = ('content', 'detail')
# Shares in per cent; the rest are documents of corpus.py's phase of that name.
SHARES = {'first': (50, 30), 'narrow': (40, 20), 'wide': (45, 10)}


def documents(
  seed: int | str, *, phase: str = 'wide', split: str = 'pretrain'
) -> Iterator[tuple[str, str, str]]:
  """(kind, text, continuation), without end."""
  rng = random.Random(f'letters/{phase}/{split}/{seed}')
  source = Letters(rng, split=split, phase=phase)
  others = corpus.documents(f'letters/{seed}', phase=phase, split=split)
  rest = 100 - sum(SHARES[phase])
  while True:
    kind = rng.choices((*KINDS, ''), (*SHARES[phase], rest))[0]
    yield (kind, *getattr(source, kind)()) if kind else next(others)
