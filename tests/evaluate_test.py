"""Answers in the order of the examples, by two ways, and their files."""

import dataclasses
import json
import random

import jax
import numpy as np
import pytest
import tiny

from ptjax import assemble, evaluate, parts, step
from ptjax import config as config_lib
from ptjax.config import UserError
from ptjax.data import batch, split
from ptjax.tasks.base import Example


@pytest.fixture(scope='module')
def made(tmp_path_factory):
  """(parts, task, dev, tuned, frozen) of a random prompt on CB."""
  path = tmp_path_factory.mktemp('evaluate')
  c = config_lib.default()
  c.model = str(tiny.model_folder(path / 'model'))
  c.data = str(tiny.data_folder(path / 'data', rows=11))
  c.task, c.eval.batch_size = 'cb', 4
  c.method.length, c.method.init = 5, 'uniform'
  c.buckets = (32,)  # one shape: compiled once
  built = assemble.parts(c)
  (task,) = split.tasks(c)
  dev = split.load(c, task, ['dev'], built.tokenizer)['dev']
  return built, task, dev, *built.init()


def answer(*args, **kwargs):
  """One member's answers."""
  found = evaluate.answer(*args, **kwargs)
  assert found.members == [found.ensemble]
  return found.ensemble


def turned(dev):
  return dataclasses.replace(
    dev, examples=dev.examples[::-1], encoded=dev.encoded[::-1]
  )


def of_words(built, dev):
  """The same questions, each with three words of its own to choose from."""
  rng = random.Random(0)
  examples = [
    dataclasses.replace(e, choices=tuple(rng.sample(tiny.WORDS, 3)))
    for e in dev.examples
  ]
  encoded, _ = batch.encode(examples, built.tokenizer, input_length=32)
  return dataclasses.replace(dev, examples=examples, encoded=encoded)


@pytest.mark.parametrize('by', ['generate', 'rank'])
def test_answers_stand_in_the_order_of_the_examples(made, by):
  """Batches are sorted by length; the last one has filler rows."""
  built, _, dev, tuned, frozen = made
  dev = of_words(built, dev)
  answers = answer(built, tuned, frozen, dev, by=by)
  back = answer(built, tuned, frozen, turned(dev), by=by)
  assert len(answers) == 11 and answers == back[::-1]
  assert len(set(answers)) > 1


@pytest.mark.parametrize('count,offered', [(0, False), (4, True), (5, False)])
def test_greedy_text_is_looked_for_among_a_few_choices(
  made, count, offered, monkeypatch
):
  built, _, dev, tuned, frozen = made
  want = answer(built, tuned, frozen, dev, by='generate')
  words = tuple(tiny.WORDS[:count])
  examples = [dataclasses.replace(e, choices=words) for e in dev.examples]
  examples[1] = dataclasses.replace(examples[1], choices=words[:-1])
  encoded, _ = batch.encode(examples, built.tokenizer, input_length=32)
  other = dataclasses.replace(dev, examples=examples, encoded=encoded)
  assert evaluate.guessable(other) == offered
  asked = []

  def spy(tuned, frozen, batch, **options):
    asked.append('choices' in batch)
    return built.answers(tuned, frozen, batch, **options)

  watched = dataclasses.replace(built)
  monkeypatch.setitem(watched.__dict__, 'answers', spy)
  assert set(want) - set(words)  # what some rows say is none of them
  assert answer(watched, tuned, frozen, other, by='generate') == want
  assert set(asked) == {offered}


def test_rank_takes_the_likeliest_choice(made):
  """As three data sets whose examples have one of the choices as target."""
  built, _, dev, tuned, frozen = made
  dev = of_words(built, dev)
  answers = answer(built, tuned, frozen, dev, by='rank')
  log_probs = step.make_log_probs(built.tuned_model)
  nats = np.zeros((11, 3))
  one = jax.tree.map(lambda x: x[0], tuned)
  for c in range(3):
    rows = [batch.Encoded(e.inputs, e.choices[c]) for e in dev.encoded]
    some = dataclasses.replace(dev, encoded=rows)
    for part in some.eval_batches(batch_size=4, with_choices=False):
      found, _ = log_probs(one, frozen, part)
      for index, value in zip(part['index'], found):
        if index >= 0:
          nats[index, c] = value
  best = nats.argmax(axis=1)
  assert answers == [e.choices[c] for e, c in zip(dev.examples, best)]


def test_without_its_prompt_the_answers_are_the_models(made):
  built, _, dev, tuned, frozen = made
  bare = answer(built, tuned, frozen, dev, by='rank', prompted=False)
  settings = built.config.method.copy_and_resolve_references()
  settings.name = 'none'
  none = built.of_method(settings)
  own, rest = none.place([])
  assert bare == answer(none, own, rest, dev, by='rank')
  assert none.of_method(settings) is none


def test_evaluation_is_greedy_whatever_predict_draws_with(made):
  built, _, dev, tuned, frozen = made
  want = answer(built, tuned, frozen, dev, by='generate')
  config = built.config.copy_and_resolve_references()
  config.temperature = 5.0
  hot = dataclasses.replace(built, config=config)
  assert answer(hot, tuned, frozen, dev, by='generate') == want


def test_predictions_are_written_whole_or_not_at_all(made, tmp_path):
  dev = made[2].head(2)
  path = tmp_path / 'predictions' / 'cb-dev.jsonl'
  texts = ['é – “ü”', '\ud800']
  answers = {'generate': evaluate.Answers([texts], texts)}
  evaluate.write_predictions(path, dev, answers)
  before = path.read_text('utf-8')
  lines = [json.loads(line) for line in before.splitlines()]
  assert [line['generate'] for line in lines] == texts
  assert 'é – “ü”' in before  # a person can read it
  assert lines[0]['target'] == dev.examples[0].targets
  with pytest.raises(IndexError):
    few = evaluate.Answers([['one too few']], ['one too few'])
    evaluate.write_predictions(path, dev, {'rank': few})
  assert path.read_text('utf-8') == before
  assert [p.name for p in path.parent.iterdir()] == ['cb-dev.jsonl']


def test_what_could_not_be_scored_is_refused_first(made):
  built, task, dev, *_ = made
  evaluate.check(built, task, dev)
  silent = Example('a', '', ('entailment',), {'label': None})
  unlabelled = dataclasses.replace(dev, name='test', examples=[silent])
  with pytest.raises(UserError, match='eval.split=test: .* have no labels'):
    evaluate.check(built, task, unlabelled)
  config = built.config.copy_and_resolve_references()
  config.eval.by = 'rank'
  ranked = dataclasses.replace(built, config=config)
  free = dataclasses.replace(
    dev, examples=[Example('a', 'b', meta={'label': 'b'})]
  )
  with pytest.raises(UserError, match='eval.by=rank: .* no choices to rank'):
    evaluate.check(ranked, task, free)


def test_final_writes_both_ways_and_scores_the_chosen_one(made, tmp_path):
  built, task, dev, tuned, frozen = made
  found = evaluate.final(
    *(built, task, tuned, frozen, dev),
    folder=tmp_path,
    members=[{'step': 7}],
  )
  text = (tmp_path / 'predictions/cb-dev.jsonl').read_text()
  lines = [json.loads(line) for line in text.splitlines()]
  right = np.mean([line['generate'] == line['target'] for line in lines])
  assert found['metrics']['accuracy']['average'] == pytest.approx(
    100 * right, abs=1e-3
  )
  ranked = np.mean([line['rank'] == line['target'] for line in lines])
  assert found['rank']['accuracy']['average'] == pytest.approx(
    100 * ranked, abs=1e-3
  )
  assert found['steps'] == [7] and found['by'] == 'generate'


@pytest.fixture(scope='module')
def many(made):
  """(parts, tuned of five members that disagree, frozen)."""
  built, _, _, _, frozen = made
  rows = np.random.default_rng(3).normal(size=(5, 5, 24)) * 3
  owns = [{'prompt': {'encoder': r.astype(np.float32)}} for r in rows]
  return built, parts.stack(owns), frozen


def one_of(tuned, i):
  return jax.tree.map(lambda x: x[i : i + 1], tuned)


@pytest.mark.parametrize('by', ['generate', 'rank'])
def test_each_member_says_what_it_says_alone(made, many, by):
  built, tuned, frozen = many
  dev = of_words(built, made[2])
  together = evaluate.answer(built, tuned, frozen, dev, by=by)
  assert len(together.members) == 5
  for i, said in enumerate(together.members):
    assert said == answer(built, one_of(tuned, i), frozen, dev, by=by)
  pairs = [
    np.mean([x == y for x, y in zip(a, b)])
    for i, a in enumerate(together.members)
    for b in together.members[:i]
  ]
  assert together.agreement == pytest.approx(100 * np.mean(pairs))
  assert together.agreement < 100


def sums(built, tuned, frozen, dev):
  """log-probability [E, N, C] of each example's choices."""
  out = None
  for part in dev.eval_batches(batch_size=4, with_choices=True):
    found, _ = built.choices(tuned, frozen, part)
    if out is None:
      out = np.zeros((found.shape[0], len(dev), found.shape[2]))
    for row, index in enumerate(part['index']):
      if index >= 0:
        out[:, index] = found[:, row]
  return out


def test_under_rank_the_ensemble_has_the_highest_mean_probability(made, many):
  built, tuned, frozen = many
  dev = of_words(built, made[2])
  nats = sums(built, tuned, frozen, dev)
  probs = np.exp(nats - nats.max(-1, keepdims=True))
  probs /= probs.sum(-1, keepdims=True)
  best = probs.mean(0).argmax(-1)
  found = evaluate.answer(built, tuned, frozen, dev, by='rank')
  assert found.ensemble == [e.choices[c] for e, c in zip(dev.examples, best)]
  assert found.ensemble != found.members[0]


def test_the_majority_wins_and_log_probability_breaks_ties(made, many):
  built, tuned, frozen = many
  dev = of_words(built, made[2]).head(3)
  a, b, c = dev.examples[0].choices
  members = [[a, a, a], [a, b, b], [b, b, c], [c, a, a], [a, c, b]]
  said = evaluate._vote(built, tuned, frozen, dev, members)
  assert said[0] == a
  # Rows 1 and 2 are two against two against one.
  for row in (1, 2):
    open_ = evaluate._choices(built, dev, {row: [a, b]})
    total = sums(built, tuned, frozen, open_).sum(0)[0]
    assert said[row] == (a, b)[int(total.argmax())]


def test_a_tie_is_between_answers_as_a_decoder_only_model_says_them(tmp_path):
  """With the space in front, or other pieces would be weighed."""
  c = config_lib.default()
  c.model = str(tiny.gpt_folder(tmp_path / 'model'))
  c.data, c.task = str(tiny.data_folder(tmp_path / 'data', rows=3)), 'cb'
  built = assemble.parts(c)
  (task,) = split.tasks(c)
  dev = split.load(c, task, ['dev'], built.tokenizer, causal=True)['dev']
  offered = [*dev.examples[1].choices, '']
  (row,) = evaluate._choices(built, dev, {1: offered}).encoded
  want = [ids.tolist() for ids in dev.encoded[1].choices]
  assert [ids.tolist() for ids in row.choices] == [
    *want,
    [built.tokenizer.eos_id],
  ]


def test_predictions_of_several_tell_each(made, many, tmp_path):
  built, tuned, frozen = many
  task, dev = made[1], made[2]
  found = evaluate.final(
    *(built, task, tuned, frozen, dev),
    folder=tmp_path,
    members=[{'dev_score': float(i == 3)} for i in range(5)],
  )
  text = (tmp_path / 'predictions/cb-dev.jsonl').read_text()
  lines = [json.loads(line) for line in text.splitlines()]
  right = np.array(
    [[x == line['target'] for x in line['rank_members']] for line in lines]
  )
  metric = found['rank']['accuracy']
  assert metric['members'] == pytest.approx(100 * right.mean(0), abs=1e-3)
  assert metric['best'] == metric['members'][3]
  assert metric['average'] == pytest.approx(100 * right.mean(), abs=1e-3)
  assert {len(line['generate_members']) for line in lines} == {5}


@pytest.fixture(scope='module')
def hard(made):
  """(parts, weights, dev as three members read it, each one's dev alone)."""
  config = made[0].config.copy_and_resolve_references()
  config.method.name, config.method.demonstrations = 'hard_prompt', 2
  config.buckets = (64,)
  built = dataclasses.replace(made[0].of_method(config.method), config=config)

  def load(**changes):
    changed = config_lib.update(config.copy_and_resolve_references(), changes)
    dev = split.load(changed, made[1], ['dev'], built.tokenizer)['dev']
    words = of_words(built, dev)
    choices = [row.choices for row in words.encoded]
    encoded = [
      dataclasses.replace(row, choices=own)
      for row, own in zip(dev.encoded, choices)
    ]
    return dataclasses.replace(dev, examples=words.examples, encoded=encoded)

  alone = [load(seed=seed) for seed in range(3)]
  # Larger weights: a model that minds what it reads.
  frozen = jax.tree.map(lambda x: 3 * x, made[-1])
  return built, frozen, load(**{'population.seeds': 3}), alone


@pytest.mark.parametrize('by', ['generate', 'rank'])
def test_members_that_read_other_words_are_as_if_alone(hard, by):
  """Each with its demonstrations; together by votes and by probabilities."""
  built, frozen, dev, alone = hard
  found = evaluate.answer(built, {}, frozen, dev, by=by)
  own = [answer(built, {}, frozen, each, by=by) for each in alone]
  assert found.members == own
  assert own[0] != own[1] != own[2] != own[0]
  if by == 'rank':
    nats = np.concatenate([sums(built, {}, frozen, each) for each in alone])
    probs = np.exp(nats - nats.max(-1, keepdims=True))
    best = (probs / probs.sum(-1, keepdims=True)).mean(0).argmax(-1)
    said = [e.choices[c] for e, c in zip(dev.examples, best)]
    assert found.ensemble == said != own[0]


def test_a_tie_of_members_that_read_other_words_is_broken_by_all(hard):
  built, frozen, dev, alone = hard
  said = [e.choices for e in dev.examples]
  members = [[own[i] for own in said] for i in range(3)]
  for texts in members:
    texts[::2] = ['here'] * len(texts[::2])  # of the others nobody agrees
  nats = sum(sums(built, {}, frozen, each)[0] for each in alone)
  want = [own[int(c)] for own, c in zip(said, nats.argmax(-1))]
  want[::2] = members[0][::2]
  assert evaluate._vote(built, {}, frozen, dev, members) == want
  assert len(set(nats.argmax(-1)[1::2])) > 1


def test_predictions_tell_how_many_demonstrations_were_read(
  made, hard, tmp_path
):
  _, _, dev, alone = hard
  path = tmp_path / 'cb-dev.jsonl'
  texts = [''] * len(dev)
  for found, want in ((dev, [2, 2, 2]), (alone[0], 2)):
    evaluate.write_predictions(
      path, found, {'generate': evaluate.Answers([texts], texts)}
    )
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line['demonstrations'] for line in lines] == [want] * len(dev)
    # The input stands there as any method has it.
    assert lines[0]['inputs'] == made[2].examples[0].inputs
