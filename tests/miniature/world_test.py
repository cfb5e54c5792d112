"""Facts, splits and claims."""

import random

import pytest

from ptjax.miniature import lexicon, world


@pytest.mark.parametrize('split', world.SPLITS)
@pytest.mark.parametrize('relation', world.RELATIONS)
def test_neighbouring_facts_belong_to_the_split(split, relation):
  rng = random.Random(0)
  for _ in range(50):
    facts = world.draw(
      rng,
      split,
      relation=relation,
      main=3,
      others=('likes', 'lies'),
      shared=0.5,
    )
    assert len(facts) == 5
    for a, b in zip(facts, facts[1:]):
      assert world.neighbours_split(a, b) == split
      assert world.neighbours_split(b, a) == split


@pytest.mark.parametrize('truth', (True, False, None))
def test_claims_have_the_wanted_truth(truth):
  rng = random.Random(0)
  for relation in world.RELATIONS:
    for _ in range(50):
      facts = world.draw(rng, 'train', relation=relation, main=3, shared=0.5)
      claim = world.claim(rng, facts, relation, truth=truth)
      assert world.holds(facts, claim) is truth


def test_a_false_claim_says_only_words_of_the_passage():
  rng = random.Random(0)
  for _ in range(100):
    facts = world.draw(rng, 'train', relation='at', main=3)
    claim = world.claim(rng, facts, 'at', truth=False)
    assert claim.subject in {f.subject for f in facts}
    assert claim.value in {f.value for f in facts}


def test_riddles_mean_one_of_two():
  rng = random.Random(0)
  for _ in range(200):
    riddle = lexicon.draw_riddle(rng, 'dev')
    assert riddle.split == 'dev' and riddle.referent != riddle.other
    for name in (riddle.referent, riddle.other):
      assert name in riddle.before
