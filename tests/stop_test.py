"""Who listens to signals, and when."""

import os
import signal
import threading

from ptjax import stop as stop_lib
from ptjax.stop import StopSignal


def test_a_signal_is_noted_and_the_old_listener_comes_back():
  before = signal.getsignal(signal.SIGTERM)
  with StopSignal().listen() as stop:
    assert not stop.asked
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.asked == 'SIGTERM'
    # A second one is not ours to hold back.
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
  assert signal.getsignal(signal.SIGTERM) is before


def test_a_run_in_another_thread_does_not_listen():
  """Python lets only the main one; a notebook's server may use others."""
  seen = []

  def run():
    with StopSignal().listen() as stop:
      seen.append(stop.asked)

  thread = threading.Thread(target=run)
  thread.start()
  thread.join()
  assert seen == ['']


def test_a_run_can_be_asked_from_within_if_it_listens():
  assert not stop_lib.ask()
  with StopSignal().listen() as stop:
    assert stop_lib.ask() and stop.asked == 'SIGTERM'
  assert not stop_lib.ask()
