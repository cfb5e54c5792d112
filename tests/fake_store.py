"""As much of Google's object store as we ask for, on 127.0.0.1.

Objects are files under a folder, whose own folders are buckets.
"""

import contextlib
import http.server
import json
import os
import pathlib
import re
import threading
import urllib.parse
from collections.abc import Iterator
from unittest import mock


class Store(http.server.ThreadingHTTPServer):
  """Objects by the JSON interface: asked for, listed, written, deleted.

  Attributes:
    asked: each object whose bytes were asked for, as BUCKET/OBJECT.
    sent: how many bytes went out in answers to ranges.
    written: each object that was written or deleted, in order.
    status: what is answered instead, such as 403; 0 = what is asked for.
    lose: the answer to the next condition that holds is lost: it is asked
      again, and then holds no more.
  """

  def __init__(self, root: pathlib.Path):
    super().__init__(('127.0.0.1', 0), _Handler)
    self.root, self.status, self.lose = root, 0, False
    self.asked, self.sent, self.written = [], 0, []
    self.lock, self.changes = threading.Lock(), {}

  @property
  def url(self) -> str:
    return f'http://127.0.0.1:{self.server_port}'

  def generation(self, name: str) -> int:
    """0 = there is no such object."""
    there = (self.root / name).is_file()
    return self.changes.get(name, 1) if there else 0


class _Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = 'HTTP/1.1'

  def do_GET(self):
    name, asked = self._request()
    file = self.server.root / name
    if self.server.status:
      self._answer(self.server.status)
    elif name.endswith('/o'):
      self._list(name.removesuffix('/o'), asked)
    elif not file.is_file():
      self._answer(404)
    elif asked.get('alt') == 'media':
      self.server.asked.append(name)
      self._send(file.read_bytes(), self.server.generation(name))
    else:
      known = {'name': name, 'size': file.stat().st_size, 'generation': '1'}
      self._answer(200, json.dumps(known).encode())

  def do_POST(self):
    content = self.rfile.read(int(self.headers['Content-Length']))
    bucket, asked = self._request()
    name = f'{bucket.removesuffix("/o")}/{asked["name"]}'
    file = self.server.root / name
    with self.server.lock:
      now = self.server.generation(name)
      if int(asked.get('ifGenerationMatch', now)) != now or self.server.status:
        self._answer(self.server.status or 412)
        return
      file.parent.mkdir(parents=True, exist_ok=True)
      file.write_bytes(content)
      self._changed(name)
    if self.server.lose and 'ifGenerationMatch' in asked:
      self.server.lose = False
      self._answer(503)
      return
    known = {'name': name, 'generation': str(self.server.generation(name))}
    self._answer(200, json.dumps(known).encode())

  def do_DELETE(self):
    name, _ = self._request()
    (self.server.root / name).unlink(missing_ok=True)
    self._changed(name)
    self._answer(204)

  def _request(self) -> tuple[str, dict[str, str]]:
    """What it is about, as BUCKET/OBJECT, and how."""
    url = urllib.parse.urlsplit(self.path)
    found = re.fullmatch(
      '(?:/upload)?/storage/v1/b/([^/]+)/o(?:/(.+))?', url.path
    )
    name = f'{found[1]}/{urllib.parse.unquote(found[2] or "o")}'
    return name, dict(urllib.parse.parse_qsl(url.query))

  def _list(self, bucket: str, asked: dict[str, str]) -> None:
    root = self.server.root / bucket
    names = (p.relative_to(root).as_posix() for p in root.rglob('*'))
    first, last = asked.get('startOffset', ''), asked.get('endOffset')
    items = [
      {'name': name, 'generation': '1', 'size': '1'}
      for name in sorted(names)
      if (root / name).is_file()
      and first <= name
      and (last is None or name < last)
    ]
    self._answer(200, json.dumps({'items': items}).encode())

  def _changed(self, name: str) -> None:
    self.server.changes[name] = self.server.changes.get(name, 1) + 1
    self.server.written.append(name)

  def _send(self, content: bytes, generation: int) -> None:
    asked = re.fullmatch(r'bytes=(\d+)-(\d*)', self.headers['Range'] or '')
    if not asked:
      self._answer(200, content, generation)
      return
    start, last = int(asked[1]), int(asked[2] or len(content) - 1)
    part = content[start : last + 1]
    where = f'bytes {start}-{start + len(part) - 1}/{len(content)}'
    if part:
      self.server.sent += len(part)
      self._answer(206, part, generation, **{'Content-Range': where})
    else:
      self._answer(416)

  def _answer(
    self,
    status: int,
    content: bytes = b'',
    generation: int = 1,
    **headers: str,
  ) -> None:
    self.send_response(status)
    headers |= {'Content-Length': len(content)}
    headers |= {'x-goog-generation': generation}
    for key, value in headers.items():
      self.send_header(key, str(value))
    self.end_headers()
    self.wfile.write(content)

  def log_message(self, *_):
    """Says nothing."""


@contextlib.contextmanager
def serving(root: pathlib.Path) -> Iterator[Store]:
  """A store for as long as it is needed, which TensorStore asks meanwhile."""
  with Store(root) as store:
    told = {
      'TENSORSTORE_GCS_HTTP_URL': store.url,
      'GOOGLE_AUTH_TOKEN_FOR_TESTING': 'anybody',
    }
    thread = threading.Thread(target=store.serve_forever, daemon=True)
    thread.start()
    try:
      with mock.patch.dict(os.environ, told):
        yield store
    finally:
      store.shutdown()
      thread.join()
