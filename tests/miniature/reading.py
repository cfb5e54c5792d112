"""Reads the miniature's sentences back: what a person would make of them.

By tables of everything that can be said, so that a label can be held against
the text it was given to, whatever was drawn to make both.
"""

import re

from ptjax.miniature import lexicon, prose, world
from ptjax.miniature.world import Fact


def _sayings(form: int) -> dict[str, Fact]:
  """Every sentence of a form, and the fact that it says or asks for."""
  found: dict[str, Fact] = {}
  for relation, (subjects, values) in world.RELATIONS.items():
    for template in prose.FORMS[relation][form]:
      for subject in subjects:
        for value in values:
          text = template.format(s=subject, v=value)
          found[text] = Fact(relation, subject, value)
  return found


STATEMENTS = _sayings(prose.STATE)
YES_NO = _sayings(prose.ASK_IF)
# Of the fact that is given with such a question, the other half counts only.
FOR_VALUE = _sayings(prose.ASK_VALUE)
FOR_SUBJECT = _sayings(prose.ASK_SUBJECT)

_NAMES = {
  name.lower(): name
  for subjects, values in world.RELATIONS.values()
  for name in subjects + values
}
USES = {
  context.format(n=person): (word, sense)
  for word, senses in lexicon.SENSES.items()
  for sense, (_, contexts) in enumerate(senses)
  for context in contexts
  for person in world.PEOPLE
}


def sentences(text: str) -> list[str]:
  return re.findall(r'[^.?]+[.?]', text.replace('. ', '.').replace('? ', '?'))


def facts(text: str) -> tuple[Fact, ...]:
  """What a passage says, all of whose sentences are statements."""
  return tuple(STATEMENTS[sentence] for sentence in sentences(text))


def plain(answer: str) -> str:
  """The world's own name for what an answer names: 'The kitchen', 'Plums'."""
  return _NAMES[answer.lower().removeprefix('the ')]


def follows(told: str, said: str, *, question: str) -> bool:
  """Whether `said` is the effect, or the cause, of what was `told`."""
  pair = (told, said) if question == 'effect' else (said, told)
  return pair in lexicon.CAUSES


def referent(text: str) -> str:
  """Whom or what the pronoun of a riddle means."""
  fit = re.search(r'(the \w+) does not fit into (the \w+) because it is', text)
  if fit:  # what does not fit is too big, or what it is put into too small
    return fit[1] if 'is too big' in text else fit[2]
  doer, verb, other, pronoun, reason = re.search(
    r'(\w+) (\w+) (\w+) in the \w+ because (she|he) ([^.]+)\.', text
  ).groups()
  of_doer = {(v, own): True for v, own, _ in lexicon.DEEDS}
  of_doer |= {(v, others): False for v, _, others in lexicon.DEEDS}
  if (verb, reason) in of_doer:
    return doer if of_doer[verb, reason] else other
  fitting = [n for n in (doer, other) if world.pronoun(n) == pronoun]
  (found,) = fitting  # or nobody could tell
  return found
