"""What the miniature's words mean: causes, senses, and who 'she' is.

Owns three small tables and the sentences made from one entry of them each;
each such sentence belongs to one split. Knows no passage and no task.
"""

import dataclasses
import random

from ptjax.miniature import world

# What somebody did, and what came of it.
CAUSES = (
  ('stood in the rain', 'got wet'),
  ('ate too much', 'felt sick'),
  ('ran all day', 'was tired'),
  ('lost a key', 'stayed outside'),
  ('told a joke', 'made people laugh'),
  ('missed the bus', 'came late'),
  ('touched the stove', 'burned a finger'),
  ('won the race', 'got a prize'),
  ('worked hard', 'earned money'),
  ('heard a sad story', 'cried'),
  ('drank nothing', 'was thirsty'),
  ('woke up early', 'saw the sun rise'),
  ('planted a seed', 'grew a flower'),
  ('robbed a bank', 'went to prison'),
  ('learned every night', 'passed the test'),
  ('slipped on ice', 'broke an arm'),
  ('saw a ghost', 'ran away'),
  ('opened the window', 'felt cold'),
  ('dropped a glass', 'swept the floor'),
  ('forgot the date', 'bought no gift'),
)

# A word, and for each of its two senses what it is and where it is met.
SENSES = {
  'bank': (
    ('money', ('{n} took money from the bank.',
               'The bank lent {n} some coins.',
               '{n} works in a bank with gold.')),
    ('river', ('{n} fished from the bank.',
               '{n} sat on the bank by the water.',
               'The boat of {n} came to the bank.')),
  ),
  'bat': (
    ('animal', ('{n} saw a bat fly at night.',
                'The bat above {n} has wings.',
                '{n} fed a small brown bat.')),
    ('club', ('{n} hit the ball with a bat.',
              '{n} swung the wooden bat.',
              'The bat helped {n} to score.')),
  ),
  'ring': (
    ('jewel', ('{n} wore a gold ring.',
               '{n} has a ring on a finger.',
               'The ring of {n} has a stone.')),
    ('sound', ('{n} heard the phone ring.',
               'The bells ring for {n}.',
               '{n} let the clock ring.')),
  ),
  'match': (
    ('fire', ('{n} lit the fire with a match.',
              '{n} burned a match in the dark.',
              'The match of {n} was wet.')),
    ('game', ('{n} won the match.',
              'The match between {n} and the team was long.',
              '{n} played in a match.')),
  ),
  'spring': (
    ('season', ('{n} plants seeds in spring.',
                '{n} waits for spring after winter.',
                'In spring {n} sees new leaves.')),
    ('water', ('{n} drank from the spring.',
               'The spring gave {n} cold water.',
               '{n} washed in the spring.')),
  ),
  'bark': (
    ('dog', ('{n} heard the dog bark.',
             'The dogs bark at {n}.',
             '{n} was woken by a loud bark.')),
    ('tree', ('{n} cut the bark of the oak.',
              'The bark of the tree hid {n}.',
              '{n} made paper from bark.')),
  ),
  'nail': (
    ('finger', ('{n} bit a nail.',
                '{n} painted one nail pink.',
                'The nail on the thumb of {n} is long.')),
    ('iron', ('{n} drove a nail into the wall.',
              '{n} needs a hammer and a nail.',
              'The iron nail cut {n}.')),
  ),
  'light': (
    ('lamp', ('{n} turned on the light.',
              'The light of the moon woke {n}.',
              '{n} read by the light.')),
    ('weight', ('{n} carried a light load.',
                'The bag of feathers is light for {n}.',
                '{n} packed light things.')),
  ),
}  # fmt: skip

# Why somebody did something to somebody: for the doer's sake, or the other's.
DEEDS = (
  ('carried', 'was strong', 'was weak'),
  ('asked', 'was curious', 'knew the way'),
  ('paid', 'was rich', 'had worked'),
  ('fed', 'was kind', 'was hungry'),
  ('taught', 'was wise', 'was young'),
  ('feared', 'was shy', 'was cruel'),
)
MEETINGS = ('met', 'saw', 'called')
STATES = ('was happy', 'was late', 'was busy', 'was ill', 'was lost')
SIZES = ('big', 'small')


@dataclasses.dataclass(frozen=True)
class Event:
  """Something that somebody did, and what came of it."""

  person: str
  day: str
  pair: int

  @property
  def split(self) -> str:
    return world.split_of('event', self.person, self.day, self.pair)

  @property
  def who(self) -> str:
    return f'On {self.day}, {self.person}'

  def cause(self, subject: str) -> str:
    return f'{subject} {CAUSES[self.pair][0]}'

  def effect(self, subject: str) -> str:
    return f'{subject} {CAUSES[self.pair][1]}'


def draw_event(rng: random.Random, split: str) -> Event:
  while True:
    event = Event(
      rng.choice(world.PEOPLE),
      rng.choice(world.DAYS),
      rng.randrange(len(CAUSES)),
    )
    if event.split == split:
      return event


@dataclasses.dataclass(frozen=True)
class Choice:
  """An event half told, and two ways to tell the other half.

  Attributes:
    asks: what is sought, 'effect' or 'cause'.
    right, wrong: without a full stop, of 'She' or 'He'.
  """

  asks: str
  told: str
  right: str
  wrong: str


def draw_choice(rng: random.Random, split: str) -> Choice:
  event = draw_event(rng, split)
  wrong = rng.randrange(len(CAUSES) - 1)
  wrong += wrong >= event.pair
  other = Event(event.person, event.day, wrong)
  she = world.pronoun(event.person).capitalize()
  if rng.random() < 0.5:
    told = event.cause(event.who)
    return Choice('effect', told, event.effect(she), other.effect(she))
  told = event.effect(event.who)
  return Choice('cause', told, event.cause(she), other.cause(she))


@dataclasses.dataclass(frozen=True)
class Use:
  """A word used in one of its senses."""

  word: str
  sense: int
  context: int
  person: str

  @property
  def split(self) -> str:
    return world.split_of(
      'use', self.word, self.sense, self.context, self.person
    )

  @property
  def gloss(self) -> str:
    return SENSES[self.word][self.sense][0]

  @property
  def text(self) -> str:
    contexts = SENSES[self.word][self.sense][1]
    return contexts[self.context].format(n=self.person)


def draw_use(rng: random.Random, split: str, word: str, sense: int) -> Use:
  while True:
    use = Use(
      word,
      sense,
      rng.randrange(len(SENSES[word][sense][1])),
      rng.choice(world.PEOPLE),
    )
    if use.split == split:
      return use


@dataclasses.dataclass(frozen=True)
class Riddle:
  """A sentence with a pronoun, who it means, who else it might have meant."""

  before: str
  pronoun: str
  after: str
  referent: str
  other: str

  @property
  def text(self) -> str:
    return f'{self.before} {self.pronoun} {self.after}.'

  @property
  def split(self) -> str:
    return world.split_of('riddle', self.text)


def draw_riddle(
  rng: random.Random, split: str, *, by_gender: bool = True
) -> Riddle:
  """Of three kinds; without `by_gender`, none that its words alone solve."""
  kinds = (_by_gender, _by_reason, _by_size)[0 if by_gender else 1 :]
  while True:
    riddle = rng.choice(kinds)(rng)
    if riddle.split == split:
      return riddle


def _by_gender(rng) -> Riddle:
  pair = [rng.choice(world.WOMEN), rng.choice(world.MEN)]
  rng.shuffle(pair)
  who = rng.randrange(2)
  place = rng.choice(world.PLACES)
  return Riddle(
    f'{pair[0]} {rng.choice(MEETINGS)} {pair[1]} in the {place} because',
    world.pronoun(pair[who]),
    rng.choice(STATES),
    pair[who],
    pair[1 - who],
  )


def _by_reason(rng) -> Riddle:
  pair = rng.sample(rng.choice((world.WOMEN, world.MEN)), 2)
  verb, *reasons = rng.choice(DEEDS)
  who = rng.randrange(2)
  place = rng.choice(world.PLACES)
  return Riddle(
    f'{pair[0]} {verb} {pair[1]} in the {place} because',
    world.pronoun(pair[0]),
    reasons[who],
    pair[who],
    pair[1 - who],
  )


def _by_size(rng) -> Riddle:
  pair = rng.sample(world.THINGS, 2)
  place = rng.choice(world.PLACES)
  who = rng.randrange(2)
  names = [f'the {thing}' for thing in pair]
  return Riddle(
    f'In the {place}, the {pair[0]} does not fit into the {pair[1]} because',
    'it',
    f'is too {SIZES[who]}',
    names[who],
    names[1 - who],
  )
