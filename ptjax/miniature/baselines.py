"""What the miniature's tasks give away without a model: two baselines.

Owns the majority class and a bag-of-words classifier, which exposes a task
that one cue solves. Run as a module, it prints both for SuperGLUE's
eight tasks and for Twitter complaints:

  python -m ptjax.miniature.baselines
"""

import re
from collections.abc import Sequence

import numpy as np

from ptjax.miniature import complaints, superglue
from ptjax.tasks import base, metrics
from ptjax.tasks.base import Example, Task

STEPS, RATE, DECAY = 300, 0.05, 1e-3  # Adam's, over the whole training set


def bag_of_words(
  train: Sequence[Example], test: Sequence[Example]
) -> list[str]:
  """Answers of softmax regression over the words of an input.

  Its classes are the answers seen in training.
  """
  words = {w: i for i, w in enumerate(_vocabulary(train))}
  classes = sorted({e.targets for e in train})
  of_class = {text: i for i, text in enumerate(classes)}
  x_NxV = _counts(train, words)
  y_N = np.array([of_class[e.targets] for e in train])
  wanted_NxC = np.eye(len(classes))[y_N]
  w_VxC = np.zeros((len(words) + 1, len(classes)))
  mean, square = np.zeros_like(w_VxC), np.zeros_like(w_VxC)
  for t in range(1, STEPS + 1):
    slope = x_NxV.T @ (_softmax(x_NxV @ w_VxC) - wanted_NxC) / len(train)
    slope += DECAY * w_VxC
    mean = 0.9 * mean + 0.1 * slope
    square = 0.999 * square + 0.001 * slope**2
    step = (mean / (1 - 0.9**t)) / (np.sqrt(square / (1 - 0.999**t)) + 1e-8)
    w_VxC -= RATE * step
  chosen = np.argmax(_counts(test, words) @ w_VxC, axis=1)
  return [classes[i] for i in chosen]


def _vocabulary(examples: Sequence[Example]) -> list[str]:
  return sorted({w for e in examples for w in _words(e.inputs)})


def _words(text: str) -> list[str]:
  return re.findall(r'\w+', text.lower())


def _counts(examples: Sequence[Example], words: dict[str, int]) -> np.ndarray:
  x_NxV = np.zeros((len(examples), len(words) + 1))
  x_NxV[:, -1] = 1  # the classes' own shares
  for row, example in zip(x_NxV, examples):
    for word in _words(example.inputs):
      if word in words:
        row[words[word]] += 1
  return x_NxV


def _softmax(z: np.ndarray) -> np.ndarray:
  z = np.exp(z - z.max(axis=1, keepdims=True))
  return z / z.sum(axis=1, keepdims=True)


def scores(task: Task, split: str) -> tuple[float, float]:
  """(majority class, bag of words) of a task's split, x100."""
  rows = {
    s: superglue.rows(task.name.split('/')[-1], s) for s in ('train', split)
  }
  train = task.examples(rows['train'], 'train')
  test = task.examples(rows[split], split)
  answers = task.majority_answers(train, test), bag_of_words(train, test)
  return tuple(task.score(task.metrics(a, test)) for a in answers)


def of_complaints(split: str) -> tuple[float, float]:
  """The same of Twitter complaints, accuracy x100."""
  train, test = (
    [Example(row['Tweet text'], row['Label']) for row in complaints.rows(s)]
    for s in ('train', split)
  )
  labels = [e.targets for e in train]
  most = max(complaints.LABELS, key=labels.count)
  answers = [most] * len(test), bag_of_words(train, test)
  return tuple(metrics.accuracy([e.targets for e in test], a) for a in answers)


def main() -> None:
  print(f'{"task":8s} {"majority":>9s} {"words":>9s}   (test, ×100)')
  found = []
  for name in base.names('superglue'):
    found.append(scores(base.load(name), 'test'))
    print(f'{name[10:]:8s} {found[-1][0]:9.1f} {found[-1][1]:9.1f}')
  majority, words = np.mean(found, axis=0)
  print(f'{"all":8s} {majority:9.1f} {words:9.1f}')
  majority, words = of_complaints('test')
  print(f'Twitter complaints {majority:.1f}, {words:.1f} (accuracy)')


if __name__ == '__main__':
  main()
