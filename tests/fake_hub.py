"""A model hub on this machine: the endpoints that hub clients call.

Serves `<root>/models/<owner>/<name>/…` and `<root>/datasets/<owner>/<name>/…`
on 127.0.0.1 at a free port, and keeps what was asked for. Knows the protocol
only: nothing of models, datasets or ptjax.
"""

import contextlib
import dataclasses
import hashlib
import http.server
import json
import pathlib
import re
import threading
import urllib.parse
from collections.abc import Iterator

_COMMIT = 'a' * 40
_FILE = re.compile(r'/(datasets/)?([^/]+/[^/]+)/resolve/[^/]+/(.+)')
_INFO = re.compile(r'/api/(models|datasets)/([^/]+/[^/]+)(?:/revision/[^/]+)?')
_TREE = re.compile(r'/api/(models|datasets)/([^/]+/[^/]+)/tree/[^/]+(?:/(.*))?')


@dataclasses.dataclass
class Hub:
  """Where it listens (`HF_ENDPOINT`) and the requests it has seen."""

  url: str
  requests: list[tuple[str, str]]

  def downloads(self) -> list[str]:
    """Names of the files whose content was sent, in order."""
    files = (_FILE.fullmatch(p) for verb, p in self.requests if verb == 'GET')
    return [match[3] for match in files if match]


@contextlib.contextmanager
def serve(root: pathlib.Path) -> Iterator[Hub]:
  """A hub over the folder `root`, for the length of the with block."""
  seen: list[tuple[str, str]] = []
  handler = type('Handler', (_Handler,), {'root': root, 'seen': seen})
  server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler)
  thread = threading.Thread(target=server.serve_forever, daemon=True)
  thread.start()
  try:
    yield Hub(f'http://127.0.0.1:{server.server_port}', seen)
  finally:
    server.shutdown()
    server.server_close()
    thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = 'HTTP/1.1'
  root: pathlib.Path
  seen: list[tuple[str, str]]

  def do_GET(self) -> None:
    path = urllib.parse.unquote(urllib.parse.urlparse(self.path).path)
    self.seen.append((self.command, path))
    if match := _FILE.fullmatch(path):
      kind = 'datasets' if match[1] else 'models'
      self._file(self.root / kind / match[2], match[3])
    elif match := _TREE.fullmatch(path):
      self._tree(self.root / match[1] / match[2], match[3] or '')
    elif match := _INFO.fullmatch(path):
      self._info(self.root / match[1] / match[2], match[2])
    else:
      self._missing('EntryNotFound')

  do_HEAD = do_GET

  def do_POST(self) -> None:
    self.rfile.read(int(self.headers.get('Content-Length', 0)))
    self.seen.append(('POST', self.path))
    self._missing('EntryNotFound')

  def _file(self, repo: pathlib.Path, name: str) -> None:
    if not repo.is_dir():
      return self._missing('RepoNotFound')
    if '..' in name or not (repo / name).is_file():
      return self._missing('EntryNotFound')
    body = (repo / name).read_bytes()
    etag = f'"{hashlib.sha1(body).hexdigest()}"'
    headers = {'ETag': etag, 'Accept-Ranges': 'bytes'}
    wanted = re.fullmatch(r'bytes=(\d+)-(\d*)', self.headers.get('Range', ''))
    if not wanted:
      return self._send(200, body, headers)
    first, last = int(wanted[1]), int(wanted[2] or len(body) - 1)
    last = min(last, len(body) - 1)
    headers['Content-Range'] = f'bytes {first}-{last}/{len(body)}'
    self._send(206, body[first : last + 1], headers)

  def _info(self, repo: pathlib.Path, name: str) -> None:
    if not repo.is_dir():
      return self._missing('RepoNotFound')
    files = sorted(p for p in repo.rglob('*') if p.is_file())
    siblings = [{'rfilename': str(p.relative_to(repo))} for p in files]
    self._json(
      {
        'id': name,
        'sha': _COMMIT,
        'siblings': siblings,
        'private': False,
        'gated': False,
        'disabled': False,
        'tags': [],
        'downloads': 0,
        'likes': 0,
        'lastModified': '2026-01-01T00:00:00.000Z',
      }
    )

  def _tree(self, repo: pathlib.Path, under: str) -> None:
    if not repo.is_dir():
      return self._missing('RepoNotFound')
    if '..' in under or not (repo / under).is_dir():
      return self._missing('EntryNotFound')
    query = urllib.parse.parse_qs(urllib.parse.urlparse(self.path).query)
    deep = query.get('recursive', ['false'])[0].lower() in ('true', '1')
    paths = (repo / under).rglob('*') if deep else (repo / under).iterdir()
    self._json([_node(repo, path) for path in sorted(paths)])

  def _json(self, value: object) -> None:
    headers = {'Content-Type': 'application/json'}
    self._send(200, json.dumps(value).encode(), headers)

  def _missing(self, code: str) -> None:
    self._send(404, b'{"error": "not found"}', {'X-Error-Code': code})

  def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
    self.send_response(status)
    self.send_header('Content-Length', str(len(body)))
    self.send_header('X-Repo-Commit', _COMMIT)
    for key, value in headers.items():
      self.send_header(key, value)
    self.end_headers()
    if self.command != 'HEAD':
      self.wfile.write(body)

  def log_message(self, *args: object) -> None:
    """Quiet: the requests are in `Hub.requests`."""


def _node(repo: pathlib.Path, path: pathlib.Path) -> dict[str, object]:
  name = str(path.relative_to(repo))
  oid = hashlib.sha1(name.encode()).hexdigest()
  if path.is_dir():
    return {'type': 'directory', 'path': name, 'size': 0, 'oid': oid}
  size = path.stat().st_size
  return {'type': 'file', 'path': name, 'size': size, 'oid': oid}
