"""The wish to stop: SIGTERM or Ctrl-C, noted for whoever asks.

Knows no run; what it means is said in `loop`.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator


class StopSignal:
  """SIGTERM or Ctrl-C, noted; the loop ends at the next step.

  A second one ends the process at once, as if nobody listened.
  """

  def __init__(self):
    self.asked = ''

  @contextlib.contextmanager
  def listen(self) -> Iterator['StopSignal']:
    def note(number, _):
      self.asked = signal.Signals(number).name
      signal.signal(number, signal.SIG_DFL)

    numbers = (signal.SIGTERM, signal.SIGINT)
    if threading.current_thread() is not threading.main_thread():
      numbers = ()  # Python lets no other thread listen
    before = {n: signal.signal(n, note) for n in numbers}
    try:
      yield self
    finally:
      for number, handler in before.items():
        signal.signal(number, handler)
