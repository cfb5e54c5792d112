"""The wish to stop: SIGTERM or Ctrl-C, noted for whoever asks.

Of several processes, one that is asked stops all, at the same step. Knows no
run; what it means is said in `loop`.
"""

import _thread
import contextlib
import os
import signal
import threading
from collections.abc import Iterator

from ptjax import processes

_listeners: list['StopSignal'] = []


def ask() -> bool:
  """Stops a run in this process as SIGTERM would; False = none listens."""
  if not _listeners:
    return False
  if processes.several():
    os.kill(os.getpid(), signal.SIGTERM)  # jax tells the others
  else:
    _thread.interrupt_main(signal.SIGTERM)
  return True


class StopSignal:
  """SIGTERM or Ctrl-C, noted; the loop ends at the next step.

  A second one ends the process at once, as if nobody listened.
  """

  def __init__(self):
    self._noted, self._times = '', 0

  @property
  def asked(self) -> str:
    """The signal's name, or ''. Each process must ask equally often."""
    self._times += 1
    if processes.asked_to_stop(self._times):
      self._noted = 'SIGTERM'
    return self._noted

  @contextlib.contextmanager
  def listen(self) -> Iterator['StopSignal']:
    def note(number, _):
      if processes.several():
        os.kill(os.getpid(), signal.SIGTERM)  # jax tells the others
        return
      self._noted = signal.Signals(number).name
      signal.signal(number, signal.SIG_DFL)

    numbers = (signal.SIGTERM, signal.SIGINT)
    if processes.several():
      numbers = (signal.SIGINT,)  # jax listens to the other
    if threading.current_thread() is not threading.main_thread():
      numbers = ()  # Python lets no other thread listen
    before = {n: signal.signal(n, note) for n in numbers}
    _listeners.extend([self] if numbers else [])
    try:
      yield self
    finally:
      _listeners[:] = [one for one in _listeners if one is not self]
      for number, handler in before.items():
        signal.signal(number, handler)
