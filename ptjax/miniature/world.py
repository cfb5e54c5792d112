"""The small world of the miniature: who is where and who has what.

Owns the people, places and things, the facts drawn among them and the split
that each pair of neighbouring facts belongs to. Knows no sentence (prose.py
has those) and no task.
"""

import dataclasses
import random
import zlib

SPLITS = ('pretrain', 'train', 'dev', 'test')

WOMEN = tuple('Anna Mary Lucy Emma Ruth Kate Jane Nora Rosa Ella'.split())
MEN = tuple('Tom John Paul Peter Mark Sam Ben Luke Hugo Max'.split())
PEOPLE = WOMEN + MEN
PLACES = tuple(
  'kitchen garden office school library park market station church barn'
  ' cellar tower'.split()
)
THINGS = tuple('cup book key hat ball lamp coat bag box drum map rope'.split())
COLOURS = tuple('red blue green white black yellow'.split())
FOODS = tuple('bread soup cake fish rice cheese honey plums'.split())
DAYS = tuple('Monday Tuesday Wednesday Thursday Friday Saturday'.split())

# What can be said of whom: subjects and values of each relation.
RELATIONS = {
  'at': (PEOPLE, PLACES),
  'holds': (PEOPLE, THINGS),
  'likes': (PEOPLE, FOODS),
  'colour': (THINGS, COLOURS),
  'lies': (THINGS, PLACES),
}


@dataclasses.dataclass(frozen=True, order=True)
class Fact:
  relation: str
  subject: str
  value: str


def split_of(*parts: object) -> str:
  """The split that a piece of the world belongs to, for good."""
  # Half of the world is pretrained on; dev and test get an eighth each.
  bucket = zlib.crc32('|'.join(map(str, parts)).encode()) % 1009 % 16
  return SPLITS[0 if bucket < 8 else 1 if bucket < 12 else 2 + bucket % 2]


def neighbours_split(a: Fact, b: Fact) -> str:
  return split_of(*sorted((a, b)))


def pronoun(person: str) -> str:
  return 'she' if person in WOMEN else 'he'


def draw(
  rng: random.Random,
  split: str,
  *,
  relation: str,
  main: int = 2,
  others: tuple[str, ...] = (),
  shared: float = 0.0,
) -> tuple[Fact, ...]:
  """Draws `main` facts of one relation, and one of each of `others`.

  Any two neighbouring facts belong to `split`, so that no two neighbouring
  sentences of a passage are ever found in a passage of another split. With
  the chance `shared` a fact takes the value of an earlier one; at least two
  values differ.
  """
  order = [relation] * main + list(others)
  rng.shuffle(order)
  facts: list[Fact] = []
  tries = 0
  while len(facts) < len(order):
    # A fact may have no fitting neighbour left: begin anew.
    if tries % 100 == 99:
      facts = []
    tries += 1
    name = order[len(facts)]
    fact = _next_fact(rng, name, facts, shared)
    if not facts or neighbours_split(facts[-1], fact) == split:
      facts.append(fact)
  return tuple(facts)


def _next_fact(rng, name, facts, shared) -> Fact:
  subjects, values = RELATIONS[name]
  taken = {f.subject for f in facts if f.relation == name}
  used = [f.value for f in facts if f.relation == name]
  subject = rng.choice(subjects)
  while subject in taken:
    subject = rng.choice(subjects)
  if len(set(used)) > 1 and rng.random() < shared:
    return Fact(name, subject, rng.choice(used))
  value = rng.choice(values)
  while value in used:
    value = rng.choice(values)
  return Fact(name, subject, value)


def holds(facts: tuple[Fact, ...], claim: Fact) -> bool | None:
  """Whether the claim is so; None where the facts do not tell."""
  if claim in facts:
    return True
  known = any(
    f.relation == claim.relation and f.subject == claim.subject for f in facts
  )
  return False if known else None


def claim(
  rng: random.Random,
  facts: tuple[Fact, ...],
  relation: str,
  *,
  truth: bool | None,
) -> Fact:
  """A claim about `relation` of the wanted truth, out of the passage's words.

  A false claim gives a subject the value of another one, so that the words
  of a claim tell nothing about its truth; where there is no other one, any
  value of the world.
  """
  group = [f for f in facts if f.relation == relation]
  fact = rng.choice(group)
  if truth is True:
    return fact
  if truth is False:
    values = [f.value for f in group if f.value != fact.value]
    if not values:
      values = [v for v in RELATIONS[relation][1] if v != fact.value]
    return Fact(relation, fact.subject, rng.choice(values))
  subjects = RELATIONS[relation][0]
  known = {f.subject for f in group}
  named = [
    f.subject for f in facts if f.subject in subjects and f.subject not in known
  ]
  others = [s for s in subjects if s not in known]
  pool = named if named and rng.random() < 0.6 else others
  return Fact(relation, rng.choice(pool), fact.value)
