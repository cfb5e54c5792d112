"""The figures of the T5 repository's tests, and sklearn's and scipy's."""

import numpy as np
import pytest

from ptjax.tasks import metrics

# (targets, predictions), with -1 for an answer that is no label.
CASES = [
  ([0, 1, 1, 2, 0], [0, 1, 2, 2, 1]),
  ([0, 1, 2, 1, 0], [-1, 1, 2, -1, 0]),
  ([1, 1, 1], [0, 0, 0]),
  ([0, 1, 0, 1], [0, 1, 0, 1]),
]


def test_accuracy_counts_equal_ones():
  assert metrics.accuracy([0, 0, 2, 1], [0, 1, 2, 1]) == 75


def test_f1_takes_an_answer_that_is_no_label_for_the_wrong_one():
  # One right positive, one of two missed, none invented but the flipped 0.
  assert metrics.f1([0, 1, 1, 0], [0, 1, 2, 2]) == pytest.approx(50)
  assert metrics.f1([0, 1], [-1, -1]) == 0
  assert metrics.f1([1, 1, 0], [1, 0, 1]) == pytest.approx(50)
  assert metrics.f1([0, 0], [0, 0]) == 0


def test_macro_f1_of_three_classes():
  found = metrics.macro_f1([0, 1, 1, 2], [0, 0, 2, 2], classes=3)
  assert found == pytest.approx(44.4444444)


def test_matthews_where_it_is_undefined():
  assert metrics.matthews([0, 0, 2, 1], [0, 1, 2, 1]) == pytest.approx(70)
  assert metrics.matthews([0, 1, 0], [1, 1, 1]) == 0


def test_correlations():
  assert metrics.pearson([0, 2], [0, 1]) == pytest.approx(100)
  assert metrics.spearman([0, 2, 1], [0, 1, 2]) == pytest.approx(50)
  assert metrics.pearson([0, 1, 2], [3, 3, 3]) == 0


def test_squad_takes_the_best_of_several_answers():
  found = metrics.squad(
    [
      ['big moose', 'hippo'],
      ['correct1'],
      ['correct2.1', 'correct2.2'],
      ['a', 'b'],
    ],
    ['‘a big  Moose!‘', 'wrong', 'correct2.2', 'c'],
  )
  # Curly quotes are no ASCII punctuation: '‘' and 'moose‘' are words.
  assert found == {'em': pytest.approx(25), 'f1': pytest.approx(35)}
  found = metrics.squad([['abc abd', '$$$$']], ['abd'])
  assert found == {'em': 0, 'f1': pytest.approx(200 / 3)}


def test_squad_of_nothing_said():
  ref = 'this is a string'
  assert metrics.squad([[ref, ref], [ref]], ['', '']) == {'em': 0, 'f1': 0}
  assert metrics.squad([['', ref], [ref]], [ref, ref]) == {'em': 100, 'f1': 100}


def test_normalised_leaves_words_only():
  assert metrics.normalised(' The U.S.  and an Other; theatre') == (
    'us and other theatre'
  )


def test_group_exact_match_wants_the_whole_group():
  for predictions in ([0, 0, 0], [1, 1, 0]):
    found = metrics.group_exact_match(
      [0, 1, 0], predictions, groups=['a', 'a', 'b']
    )
    assert found == 50


def test_parity_of_pairs():
  groups = [0, 0, 1, 1, 2, 2, 3]
  # Same and same; differing; twice no label; a single one that has no other.
  assert metrics.parity([1, 1, 0, 1, -1, -1, 0], groups=groups) == (
    pytest.approx(100 / 3)
  )


@pytest.mark.parametrize('targets, predictions', CASES)
def test_labels_against_sklearn(targets, predictions):
  oracle = pytest.importorskip('sklearn.metrics')
  assert metrics.accuracy(targets, predictions) == pytest.approx(
    100 * oracle.accuracy_score(targets, predictions)
  )
  assert metrics.matthews(targets, predictions) == pytest.approx(
    100 * oracle.matthews_corrcoef(targets, predictions)
  )
  want = oracle.f1_score(
    targets, predictions, labels=range(3), average='macro', zero_division=0
  )
  found = metrics.macro_f1(targets, predictions, classes=3)
  assert found == pytest.approx(100 * want)


def test_random_labels_and_numbers_against_the_oracles():
  oracle = pytest.importorskip('sklearn.metrics')
  stats = pytest.importorskip('scipy.stats')
  rng = np.random.default_rng(0)
  for _ in range(20):
    a, b = rng.integers(0, 2, (2, 30)).tolist()
    assert metrics.f1(a, b) == pytest.approx(100 * oracle.f1_score(a, b))
    # Coarse, so that there are ties.
    x, y = rng.normal(size=(2, 30)).round()
    assert metrics.pearson(x, y) == pytest.approx(100 * stats.pearsonr(x, y)[0])
    assert metrics.spearman(x, y) == pytest.approx(
      100 * stats.spearmanr(x, y)[0]
    )


# (answers, predictions) of texts; empty predictions, several answers.
TEXTS = [
  (
    [['it is sitting there', 'the cats sat on the mat'], ['It rains.']],
    ['A cat sits on the mat.', ''],
  ),
  (
    [['Two young men are outside near many bushes.'], ['He runs home today']],
    ['Two men are outside near bushes .', 'he runs home today'],
  ),
  ([['one two three four five']], ['']),
]


@pytest.mark.parametrize('answers, said', TEXTS)
def test_rouge_is_the_mean_of_the_best_by_the_package(answers, said):
  rouge_scorer = pytest.importorskip('rouge_score.rouge_scorer')
  names = ['rouge1', 'rouge2', 'rougeL']
  scorer = rouge_scorer.RougeScorer(names, use_stemmer=True)
  found = metrics.rouge(answers, said)
  assert list(found) == names
  for name in names:
    best = [
      max(scorer.score(answer, text)[name].fmeasure for answer in of_text)
      for of_text, text in zip(answers, said)
    ]
    assert found[name] == pytest.approx(100 * np.mean(best))


def test_rouge_by_hand():
  found = metrics.rouge([['the cats sat down']], ['a cat sat'])
  # Stems cat, sat of 4 and 3 words; one pair of 3 and 2; two in order.
  assert found['rouge1'] == pytest.approx(100 * 2 * 2 / 7)
  assert found['rouge2'] == pytest.approx(100 * 2 * 1 / 5)
  assert found['rougeL'] == pytest.approx(100 * 2 * 2 / 7)


@pytest.mark.parametrize('answers, said', TEXTS)
def test_bleu_is_the_package_s(answers, said):
  bleu = pytest.importorskip('sacrebleu.metrics').BLEU()
  most = max(map(len, answers))
  # An answer that is there twice changes nothing: each n-gram counts as often
  # as in the answer that has it most, and lengths are those of the nearest.
  streams = [
    [a[i] if i < len(a) else a[0] for a in answers] for i in range(most)
  ]
  expected = bleu.corpus_score(said, streams).score
  assert metrics.bleu(answers, said) == {'bleu': pytest.approx(expected)}


def test_bleu_by_hand_is_of_the_corpus_not_of_its_sentences():
  answers = [['a b c d e f'], ['x y z w']]
  said = ['a b c d e f', 'x y z v']
  # Precisions 9/10, 7/8, 5/6, 3/4; nothing is too short.
  product = (9 / 10) * (7 / 8) * (5 / 6) * (3 / 4)
  assert metrics.bleu(answers, said)['bleu'] == pytest.approx(
    100 * product**0.25
  )
  # The second answer of the second text is the one that is nearest.
  more = [answers[0], [*answers[1], 'x y z v']]
  assert metrics.bleu(more, said)['bleu'] == pytest.approx(100)
