"""How the miniature's facts are said: sentences, questions and answers.

Owns the templates. Knows neither how facts are drawn (world.py) nor what
the sentences are for (corpus.py and superglue.py).
"""

import random
from collections.abc import Iterable

from ptjax.miniature.world import Fact

# Per relation: plain sentences; yes/no questions; questions for the value and
# for the subject; how the value and the subject are named in an answer.
STATE, ASK_IF, ASK_VALUE, ASK_SUBJECT, VALUE, SUBJECT = range(6)
FORMS = {
  'at': (
    ('{s} is in the {v}.', '{s} went to the {v}.', '{s} waits in the {v}.'),
    ('Is {s} in the {v}?', 'Did {s} go to the {v}?'),
    ('Where is {s}?', 'Where did {s} go?'),
    ('Who is in the {v}?', 'Who went to the {v}?'),
    'the {v}',
    '{s}',
  ),
  'holds': (
    ('{s} has the {v}.', '{s} found the {v}.', '{s} holds the {v}.'),
    ('Does {s} have the {v}?', 'Did {s} find the {v}?'),
    ('What does {s} have?', 'What did {s} find?'),
    ('Who has the {v}?', 'Who found the {v}?'),
    'the {v}',
    '{s}',
  ),
  'likes': (
    ('{s} likes {v}.', '{s} eats {v}.'),
    ('Does {s} like {v}?', 'Does {s} eat {v}?'),
    ('What does {s} like?', 'What does {s} eat?'),
    ('Who likes {v}?', 'Who eats {v}?'),
    '{v}',
    '{s}',
  ),
  'colour': (
    ('The {s} is {v}.', 'The {s} looks {v}.'),
    ('Is the {s} {v}?', 'Does the {s} look {v}?'),
    ('What colour is the {s}?', 'How does the {s} look?'),
    ('What is {v}?', 'What looks {v}?'),
    '{v}',
    'the {s}',
  ),
  'lies': (
    ('The {s} is in the {v}.', 'The {s} lies in the {v}.'),
    ('Is the {s} in the {v}?', 'Does the {s} lie in the {v}?'),
    ('Where is the {s}?', 'Where does the {s} lie?'),
    ('What is in the {v}?', 'What lies in the {v}?'),
    'the {v}',
    'the {s}',
  ),
}


def _say(template: str, fact: Fact) -> str:
  return template.format(s=fact.subject, v=fact.value)


def sentence(rng: random.Random, fact: Fact) -> str:
  return _say(rng.choice(FORMS[fact.relation][STATE]), fact)


def passage(rng: random.Random, facts: Iterable[Fact]) -> str:
  return ' '.join(sentence(rng, fact) for fact in facts)


def ask_if(rng: random.Random, fact: Fact) -> str:
  return _say(rng.choice(FORMS[fact.relation][ASK_IF]), fact)


def ask_value(rng: random.Random, fact: Fact) -> str:
  return _say(rng.choice(FORMS[fact.relation][ASK_VALUE]), fact)


def ask_subject(rng: random.Random, fact: Fact) -> str:
  return _say(rng.choice(FORMS[fact.relation][ASK_SUBJECT]), fact)


def value(fact: Fact) -> str:
  return _say(FORMS[fact.relation][VALUE], fact)


def subject(fact: Fact) -> str:
  return _say(FORMS[fact.relation][SUBJECT], fact)


def with_gap(rng: random.Random, fact: Fact, gap: str) -> str:
  """The fact's sentence with its subject left out."""
  template = rng.choice(FORMS[fact.relation][STATE])
  head = 'The {s}' if template.startswith('The') else '{s}'
  return _say(template.replace(head, gap, 1), fact)


def capital(text: str) -> str:
  return text[0].upper() + text[1:]
