"""Seconds, hours and money by hand."""

import pytest

from ptjax.plan import cost, products, targets

V5E = targets.parse('v5e:2x4')


def test_a_device_has_its_share():
  work = products.Work(operations=80, frozen=16, moved=40)
  assert cost.share(work, devices=8, tensor=2) == cost.Share(10, 8 + 5)


def test_a_step_takes_what_is_longer_of_computing_and_reading():
  compute = cost.Share(operations=197e12, bytes=1)
  assert cost.seconds(compute, V5E, reached=0.5) == pytest.approx(2)
  read = cost.Share(operations=1, bytes=819e9)
  assert cost.seconds(read, V5E, reached=0.5) == pytest.approx(1)


def test_a_device_is_as_fast_as_its_part_of_a_chip():
  half = targets.parse('tpu7x:2x2x1')
  work = cost.Share(operations=2307e12, bytes=1)
  assert cost.seconds(work, half, reached=1) == pytest.approx(2)


def test_a_run_is_its_tasks():
  run = cost.Run(tasks=2, steps=100, evaluations=3, batches=10)
  assert cost.hours(run, step=36, evaluation=12) == pytest.approx(2 * 1.1)
