"""Scores of answers, ×100: of labels, of text, of numbers.

Owns the arithmetic only, in plain Python and numpy. Knows neither rows nor
tasks: targets come first, predictions second, both in the same order. A label
is its index; -1 is an answer that is no label and is wrong everywhere. What is
undefined (a correlation with a constant) is 0.
"""

import collections
import importlib.util
import re
import string
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from ptjax.config import UserError

_ARTICLES = re.compile(r'\b(a|an|the)\b')
_PUNCTUATION = str.maketrans('', '', string.punctuation)


def accuracy(targets: Sequence, predictions: Sequence) -> float:
  """Share of predictions that equal their targets; labels or text."""
  return _mean(t == p for t, p in zip(targets, predictions))


def f1(targets: Sequence[int], predictions: Sequence[int]) -> float:
  """F1 of the second label of two; no label counts as the wrong one."""
  flipped = [p if p in (0, 1) else 1 - t for t, p in zip(targets, predictions)]
  return 100 * _f1_of(targets, flipped, 1)


def macro_f1(
  targets: Sequence[int], predictions: Sequence[int], *, classes: int
) -> float:
  """Unweighted mean of the F1 of each label; 0 for one that never occurs."""
  return 100 * float(
    np.mean([_f1_of(targets, predictions, c) for c in range(classes)])
  )


def matthews(targets: Sequence[int], predictions: Sequence[int]) -> float:
  """Matthews correlation, of any number of labels; -1 is one more."""
  values, index = np.unique([*targets, *predictions], return_inverse=True)
  true, found = np.split(np.eye(len(values))[index.ravel()], 2)
  right, size = float((true * found).sum()), len(true)
  true_sum, found_sum = true.sum(0), found.sum(0)
  spread = (size**2 - true_sum @ true_sum) * (size**2 - found_sum @ found_sum)
  if spread == 0:
    return 0.0
  return 100 * float((right * size - true_sum @ found_sum) / np.sqrt(spread))


def pearson(targets: Sequence[float], predictions: Sequence[float]) -> float:
  """Linear correlation."""
  x, y = (np.asarray(v, np.float64) for v in (targets, predictions))
  x, y = x - x.mean(), y - y.mean()
  norm = np.sqrt((x @ x) * (y @ y))
  return 100 * float(x @ y / norm) if norm > 0 else 0.0


def spearman(targets: Sequence[float], predictions: Sequence[float]) -> float:
  """Correlation of ranks; ties share their mean rank."""
  return pearson(_ranks(targets), _ranks(predictions))


def squad(
  answers: Sequence[Sequence[str]], predictions: Sequence[str]
) -> dict[str, float]:
  """SQuAD's exact match and F1 over words, the best over the answers."""
  em, overlap = [], []
  for accepted, prediction in zip(answers, predictions):
    found = normalised(prediction)
    wanted = [normalised(answer) for answer in accepted]
    em.append(max(answer == found for answer in wanted))
    overlap.append(max(_word_f1(answer, found) for answer in wanted))
  return {'em': _mean(em), 'f1': _mean(overlap)}


def rouge(
  answers: Sequence[Sequence[str]], predictions: Sequence[str]
) -> dict[str, float]:
  """ROUGE-1, ROUGE-2 and ROUGE-L F-measure (Lin 2004), by rouge-score.

  The mean over texts, each against the best of its answers. Words are letters
  and digits of English, stemmed, as ROUGE-1.5.5's option -m has them.
  """
  from rouge_score import rouge_scorer  # late: nltk, a third of a second

  names = ('rouge1', 'rouge2', 'rougeL')
  scorer = rouge_scorer.RougeScorer(names, use_stemmer=True)
  each = [scorer.score_multi(a, p) for a, p in zip(answers, predictions)]
  return {name: _mean(found[name].fmeasure for found in each) for name in names}


def bleu(
  answers: Sequence[Sequence[str]], predictions: Sequence[str]
) -> dict[str, float]:
  """BLEU of the whole corpus (Papineni et al. 2002), by sacrebleu.

  Its defaults (Post 2018): tokenizer 13a, case kept, exponential smoothing. A
  text may have fewer answers than another.
  """
  import sacrebleu

  most = max(map(len, answers))
  filled = [[*a, *[None] * (most - len(a))] for a in answers]
  references = [list(stream) for stream in zip(*filled)]
  return {'bleu': sacrebleu.corpus_bleu(list(predictions), references).score}


def check(name: str) -> None:
  """Refuses a metric whose package is not there, before anything is trained."""
  package = _PACKAGES.get(name, '')
  if package and importlib.util.find_spec(package) is None:
    raise UserError(
      f'{name} is measured by the package {package}, which is not installed: '
      f'pip install {package.replace("_", "-")}'
    )


def normalised(text: str) -> str:
  """Lower case; without punctuation, articles and superfluous spaces."""
  text = text.lower().translate(_PUNCTUATION)
  return ' '.join(_ARTICLES.sub(' ', text).split())


def group_exact_match(
  targets: Sequence, predictions: Sequence, *, groups: Sequence[Hashable]
) -> float:
  """Share of groups in which every prediction is right."""
  right = collections.defaultdict(lambda: True)
  for target, prediction, group in zip(targets, predictions, groups):
    right[group] &= target == prediction
  return _mean(right.values())


def parity(predictions: Sequence[int], *, groups: Sequence[Hashable]) -> float:
  """Share of pairs whose two members got the same label.

  A pair with an answer that is no label is not the same; a member whose other
  is not there is left out.
  """
  members = collections.defaultdict(list)
  for prediction, group in zip(predictions, groups):
    members[group].append(prediction)
  pairs = [m for m in members.values() if len(m) == 2]
  return _mean(a == b and a >= 0 for a, b in pairs)


# What a task without code may name; each takes (targets, predictions).
OF_LABELS: dict[str, Callable] = {
  'accuracy': accuracy,
  'f1': f1,
  'macro_f1': macro_f1,
  'matthews': matthews,
}
# Of free text with one or several right answers: several scores at once.
OF_ANSWERS: dict[str, Callable] = {'squad': squad, 'rouge': rouge, 'bleu': bleu}
OF_TEXT: dict[str, Callable] = {
  'accuracy': accuracy,
  'exact_match': accuracy,
  **OF_ANSWERS,
}
OF_NUMBERS: dict[str, Callable] = {'pearson': pearson, 'spearman': spearman}

_PACKAGES = {'rouge': 'rouge_score', 'bleu': 'sacrebleu'}


def _mean(values) -> float:
  values = list(values)
  return 100 * float(np.mean(values)) if values else 0.0


def _f1_of(targets: Sequence, predictions: Sequence, label: int) -> float:
  both = sum(t == p == label for t, p in zip(targets, predictions))
  one = sum(t == label for t in targets) + sum(p == label for p in predictions)
  return 2 * both / one if one else 0.0


def _word_f1(answer: str, prediction: str) -> float:
  answer, prediction = answer.split(), prediction.split()
  shared = collections.Counter(answer) & collections.Counter(prediction)
  if not shared:
    return 0.0
  return 2 * shared.total() / (len(answer) + len(prediction))


def _ranks(values: Sequence[float]) -> np.ndarray:
  _, index, counts = np.unique(
    np.asarray(values, np.float64), return_inverse=True, return_counts=True
  )
  last = np.cumsum(counts)
  return (last - (counts - 1) / 2)[index.ravel()]
