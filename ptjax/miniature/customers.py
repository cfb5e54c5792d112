"""What customers of the small world meet, and whether they are content.

Owns a few kinds of experience, how each is said in the first person, and the
split that each belongs to. Nobody says whether they are content: it follows
from what was wanted, from a 'not', from what came last or from who says it,
never from the words alone. Knows no task and no judge.
"""

import dataclasses
import random

from ptjax.miniature import world

SERVICES = 'market library station school hotel bakery post laundry'.split()

# What is as it should be, and what is not; of things and of foods.
QUALITIES = (
  (world.THINGS, (('clean', 'dirty'), ('whole', 'broken'), ('new', 'worn'))),
  (world.FOODS[:-1], (('warm', 'cold'), ('fresh', 'stale'), ('good', 'bad'))),
)

# {a} and {b} are what the writer's content depends on, in this order.
SAYINGS = {
  # Content where the two are the same.
  'thing': (
    'I wanted the {a} and got the {b}.',
    'I got the {b}, I wanted the {a}.',
    'You sent the {b}. I asked for the {a}.',
    'I asked for the {a}, you sent the {b}.',
  ),
  'colour': (
    'I wanted a {a} {item} and got a {b} {item}.',
    'I got a {b} {item}, I wanted a {a} {item}.',
    'You sent a {b} {item}. I asked for a {a} {item}.',
    'I asked for a {a} {item}, you sent a {b} {item}.',
  ),
  # Content where {b} is good; {a} is the other one.
  'change': (
    'First the {item} was {a}, then it was {b}.',
    'The {item} is {b} now, it was {a} before.',
    'It was {a} before, now the {item} is {b}.',
  ),
  'opinion': (
    'I say the {item} is {b}, {other} says it is {a}.',
    '{other} says the {item} is {a}, I say it is {b}.',
    'I found the {item} {b}, {other} found it {a}.',
    '{other} found the {item} {a}, I found it {b}.',
  ),
}
# Content where {b} is good, or bad behind a 'not'.
PLAIN = (
  'The {item} was {b}.',
  'My {item} was {b}.',
  'The {item} you sent is {b}.',
)
KINDS = (*SAYINGS, 'plain')

OPENINGS = ('Hello.', 'Good day.', 'I was here again.', 'On {day} I was here.')
ENDINGS = (
  'Just saying.',
  'That was my day.',
  'Thank you.',
  'Please read this.',
)


@dataclasses.dataclass(frozen=True)
class Experience:
  """What one customer met.

  Attributes:
    a, b: what was wanted and what came, or how it was called and is called;
      of a plain one, '' or 'not' and how it is called.
  """

  kind: str
  service: str
  item: str
  a: str
  b: str
  content: bool

  @property
  def split(self) -> str:
    parts = dataclasses.astuple(self)
    return world.split_of('experience', *parts[:-1])


def draw(
  rng: random.Random, split: str, *, kinds: tuple[str, ...] = KINDS
) -> Experience:
  """An experience of the split; every second customer is content."""
  kind, content = rng.choice(kinds), rng.random() < 0.5
  while True:
    experience = _any(rng, kind, content)
    if experience.split == split:
      return experience


def _any(rng: random.Random, kind: str, content: bool) -> Experience:
  service = rng.choice(SERVICES)
  if kind in ('thing', 'colour'):
    values = world.THINGS if kind == 'thing' else world.COLOURS
    item = '' if kind == 'thing' else rng.choice(world.THINGS)
    a, b = rng.sample(values, 2)
    b = a if content else b
  else:
    items, pairs = rng.choice(QUALITIES)
    item, (good, bad) = rng.choice(items), rng.choice(pairs)
    a, b = (bad, good) if content else (good, bad)
    if kind == 'plain':
      a, b = rng.choice((('', b), ('not', a)))
  return Experience(kind, service, item, a, b, content)


def say(rng: random.Random, experience: Experience, *, long: bool) -> str:
  """It in the first person, among words that say nothing where `long`."""
  e = experience
  if e.kind == 'plain':
    text = rng.choice(PLAIN).format(item=e.item, b=f'{e.a} {e.b}'.strip())
  else:
    text = rng.choice(SAYINGS[e.kind]).format(
      item=e.item, a=e.a, b=e.b, other=rng.choice(world.PEOPLE)
    )
  if long and rng.random() < 0.5:
    text = f'{rng.choice(OPENINGS)} {text}'.format(day=rng.choice(world.DAYS))
  if long and rng.random() < 0.5:
    text = f'{text} {rng.choice(ENDINGS)}'
  return text
