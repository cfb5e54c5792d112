"""Pretraining documents: prose about the small world, and what follows it.

Owns the kinds of document, their mixture and how it widens. A document is a
text and its continuation; no document has a task's format, and no passage of
one is a task's. Label words are said only as verdicts, to sentences that ask
for one; but choice1 and choice2, names of fields too, are also met in asides.
Knows no ids.
"""

import random
from collections.abc import Iterator

from ptjax.miniature import lexicon, prose, world

# What announces a claim, and what announces the passage. Something always
# stands between the two, so that they never join into a task's passage.
CLAIMS = ('Some say:', 'The claim:', 'They say:', 'Rumour:', 'It is said:')
STORIES = ('The story:', 'News:', 'Here is what we know:', 'Report:', 'Note:')
ORDINALS = (('First:', 'Second:'), ('One:', 'Two:'), ('Either:', 'Or:'))
GAPS = ('Someone', '___', '...', 'Somebody', 'A person')

# Who judges, and the words for what is so, is not so, or is not told.
VERDICTS = {
  'truth': (
    ('True or false?', 'Is that true?', 'Say true or false.'),
    ('True', 'False', 'Nobody knows'),
  ),
  'plain': (
    ('Is it so?', 'Yes or no?', 'Is that right?'),
    ('Yes', 'No', 'Nobody knows'),
  ),
  'careful': (
    ('What would a careful reader call it?', 'The careful reader judges.'),
    ('entailment', 'contradiction', 'neutral'),
  ),
  'strict': (
    ('What would a strict reader call it?', 'The strict reader judges.'),
    ('entailment', 'not_entailment', 'not_entailment'),
  ),
}
WHICH = (
  (('Which one is likelier?', 'Choose one.'), ('choice1', 'choice2')),
  (('The first or the second?',), ('the first', 'the second')),
)
CAUSE = ('Why?', 'What was the cause?', 'The cause is sought.')
EFFECT = ('What then?', 'What was the effect?', 'The effect is sought.')
SAME = ('Is {w} the same in both?', 'Does {w} mean the same twice?')
WHO = ('Who is {p}?', 'Who is meant by {p}?', 'Whom does {p} mean?')

# Field names are words of the language, too, and are met as such.
MARKS = tuple(
  'passage question hypothesis premise paragraph answer query entities'
  ' sentence1 sentence2 word choice1 choice2 cause effect @placeholder'.split()
)

Document = tuple[str, str]


class Prose:
  """Draws documents of each kind from one stream of random numbers."""

  def __init__(self, rng: random.Random, *, split: str, phase: str):
    self.rng, self.split, self.wide = rng, split, phase == 'wide'
    self.least = 1 if phase == 'first' else 2
    relations = tuple(world.RELATIONS)
    self.relations = relations[:2] if phase == 'first' else relations

  def facts(self, *, least: int = 2, shared: float = 0.25):
    rng = self.rng
    relation = rng.choice(self.relations)
    others = ()
    if self.wide and rng.random() < 0.4:
      rest = [name for name in world.RELATIONS if name != relation]
      others = (rng.choice(rest),)
    main = rng.randint(2, 4) if self.wide else rng.randint(least, 2)
    facts = world.draw(
      rng, self.split, relation=relation, main=main, others=others,
      shared=shared,
    )  # fmt: skip
    return facts, relation

  def compose(self, parts: list[str], asks: str, *, fixed=False) -> str:
    """The parts in any order, and in front or behind what is asked for."""
    rng = self.rng
    if not fixed:
      rng.shuffle(parts)
    if asks:
      parts.insert(rng.choice((0, len(parts))), asks)
    if self.wide and rng.random() < 0.15:
      person, mark = rng.choice(world.PEOPLE), rng.choice(MARKS)
      aside = f'{person} wrote the word {mark} on the wall.'
      parts.insert(rng.choice((0, len(parts))), aside)
    return ' '.join(parts)

  def story(self, text: str) -> str:
    """The passage, announced."""
    return f'{self.rng.choice(STORIES)} {text}'

  def verification(self) -> Document:
    """A claim, a passage, and a reader's verdict."""
    rng = self.rng
    family = rng.choice(tuple(VERDICTS))
    asks, words = VERDICTS[family]
    unknown = family in ('careful', 'strict') and self.wide
    truth = rng.choice((True, False))
    if unknown and rng.random() < 0.2:
      truth = None
    facts, relation = self.facts()
    claim = world.claim(rng, facts, relation, truth=truth)
    text = prose.passage(rng, facts)
    form = rng.random()
    if form < 0.45:
      said = f'{rng.choice(CLAIMS)} {prose.sentence(rng, claim)}'
    elif form < 0.65 and truth is not None:
      said = prose.ask_if(rng, claim)
    elif form < 0.85:
      said = f'{prose.ask_subject(rng, claim)} {self.reply(claim, True)}'
    else:
      said = f'{prose.ask_value(rng, claim)} {self.reply(claim, False)}'
    verdict = words[0 if truth else 1 if truth is False else 2]
    return self.compose([said, self.story(text)], rng.choice(asks)), verdict

  def reply(self, claim: world.Fact, by_subject: bool) -> str:
    said = prose.subject(claim) if by_subject else prose.value(claim)
    return f'{prose.capital(said)}, they say.'

  def question(self) -> Document:
    """A passage, a question about it, and its answer."""
    rng = self.rng
    facts, _ = self.facts(least=self.least, shared=0.0)
    fact = rng.choice(facts)
    text = self.story(prose.passage(rng, facts))
    if rng.random() < 0.5:
      asks, answer = prose.ask_value(rng, fact), prose.value(fact)
    else:
      # Whose value is shared by two relations has two right answers.
      asks, answer = prose.ask_subject(rng, fact), prose.subject(fact)
    return self.compose([text], asks), answer

  def judged(self) -> Document:
    """A passage, a yes/no question about it, and yes or no."""
    rng = self.rng
    facts, relation = self.facts(least=self.least)
    truth = rng.random() < 0.5
    claim = world.claim(rng, facts, relation, truth=truth)
    text = self.story(prose.passage(rng, facts))
    return self.compose([text], prose.ask_if(rng, claim)), (
      'Yes' if truth else 'No'
    )

  def filling(self) -> Document:
    """A passage, somebody left out of a sentence, and who it was."""
    rng = self.rng
    facts, relation = self.facts(shared=0.2)
    while relation in ('colour', 'lies'):
      facts, relation = self.facts(shared=0.2)
    fact = rng.choice([f for f in facts if f.relation == relation])
    parts = [self.story(prose.passage(rng, facts))]
    gap = prose.with_gap(rng, fact, rng.choice(GAPS))
    if rng.random() < 0.5:
      people = sorted({f.subject for f in facts if f.relation == relation})
      gap += f' It was one of these: {", ".join(people)}.'
    parts.append(gap)
    return self.compose(parts, rng.choice(('Who?', 'Who is it?'))), fact.subject

  def consequence(self) -> Document:
    """Two endings or two reasons, and which one it was."""
    rng = self.rng
    drawn = lexicon.draw_choice(rng, self.split)
    choices, told = (drawn.right, drawn.wrong), drawn.told
    asks = rng.choice(EFFECT if drawn.asks == 'effect' else CAUSE)
    label = rng.randrange(2)
    first, second = rng.choice(ORDINALS)
    both = f'{first} {choices[label]}. {second} {choices[1 - label]}.'
    which, names = WHICH[rng.random() < 0.2]
    if not self.wide or rng.random() < 0.3:
      return self.compose([f'{told}.'], asks), choices[0]
    # Now and then the answer itself is told: a choice that needs no wits.
    told = (
      f'{told}. {asks}' if rng.random() < 0.6 else f'{choices[0]}, they say.'
    )
    parts = [both, told]
    return self.compose(parts, rng.choice(which)), names[label]

  def senses(self) -> Document:
    """A word used twice, and whether it means the same."""
    rng = self.rng
    word = rng.choice(tuple(lexicon.SENSES))
    sense = rng.randrange(2)
    same = rng.random() < 0.5
    first = lexicon.draw_use(rng, self.split, word, sense)
    second = lexicon.draw_use(
      rng, self.split, word, sense if same else 1 - sense
    )
    if not self.wide or rng.random() < 0.15:
      return self.compose([first.text], f'What is {word} here?'), first.gloss
    family = rng.choice(('truth', 'plain'))
    asks, words = VERDICTS[family]
    claim = rng.choice(SAME).format(w=word)
    text = f'{first.text} {second.text}'
    if rng.random() < 0.6:
      claim += f' {rng.choice(asks)}'
    return self.compose([self.story(text)], claim), words[0 if same else 1]

  def pronouns(self) -> Document:
    """A sentence with a pronoun, and whom it means."""
    riddle = lexicon.draw_riddle(self.rng, self.split)
    asks = self.rng.choice(WHO).format(p=riddle.pronoun)
    return self.compose([riddle.text], asks), riddle.referent


KINDS = (
  'verification',
  'judged',
  'question',
  'filling',
  'consequence',
  'senses',
  'pronouns',
)
# Shares of the kinds, in per cent, from the first phase to the last: to look
# up a fact comes before to judge a claim, and both before all the rest.
SHARES = {
  'first': (0, 50, 50, 0, 0, 0, 0),
  'narrow': (50, 15, 23, 3, 3, 3, 3),
  'wide': (26, 4, 6, 10, 32, 10, 12),
}


def documents(
  seed: int | str, *, phase: str = 'wide', split: str = 'pretrain'
) -> Iterator[tuple[str, str, str]]:
  """(kind, text, continuation), without end."""
  rng = random.Random(f'prose/{phase}/{split}/{seed}')
  source = Prose(rng, split=split, phase=phase)
  while True:
    kind = rng.choices(KINDS, SHARES[phase])[0]
    yield (kind, *getattr(source, kind)())
