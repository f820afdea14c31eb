"""A model hub on this machine: the routes that `huggingface_hub` 2.4.0 asks for repositories, commits, lists and files.

1. Repositories are lists of commits, each the whole set of files; a branch is the last one that was written to it.
2. Faults are switched on by a test: a status for every answer, files whose connection is cut, something that happens between the listing
   and the fetching.
3. Files are kept in commits. Those whose name ends as a test says go through large file storage (git LFS, in one part); Xet is not spoken.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

_API = re.compile(r"/api/(?:models|(datasets))/([^/]+/[^/]+)(?:/(revision|tree|preupload|commit)/([^/]+))?")
_FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
_BATCH = re.compile(r"/(?:datasets/)?[^/]+/[^/]+\.git/info/lfs/objects/batch")
DATASETS = "datasets/"
"""What the names of data set repositories begin with here; those of models are bare."""
Files = dict[str, bytes]
LICENCES = ("apache-2.0", "mit", "other")
"""Identifiers that the hub takes; the real one takes some eighty."""


@dataclass
class Repository:
    """Commits in order, and what the branches point at."""

    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    private: bool = False

    def commit(self, files: Files, branch: str = "main", gone: set[str] | None = None) -> str:
        """A new commit: what the branch held, with these files and without those that go. Its id."""
        before = self.commits.get(self.branches.get(branch, ""), {})
        facts = json.dumps([len(self.commits), branch, sorted(files)])
        oid = hashlib.sha1(facts.encode() + b"".join(files[name] for name in sorted(files))).hexdigest()
        self.commits[oid] = {name: data for name, data in {**before, **files}.items() if name not in (gone or ())}
        self.branches[branch] = oid
        return oid

    def at(self, revision: str) -> str | None:
        """The commit that a revision means."""
        return revision if revision in self.commits else self.branches.get(revision)


@dataclass
class FakeHub:
    """The hub's state and faults, and what it was asked."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of every request."""
    refuse: int = 0
    """Status of every answer; 0 for none."""
    cut: set[str] = field(default_factory=set)
    """Files whose connection is closed before their first byte."""
    large: tuple[str, ...] = ()
    """Ends of the names of files that go through large file storage."""
    stored: dict[str, bytes] = field(default_factory=dict)
    """What large file storage holds, by sha256."""
    after_listing: Callable[[], None] | None = None
    """What happens once a tree was listed."""

    def put(self, name: str, files: Files, branch: str = "main") -> str:
        """A commit by somebody. Its id."""
        return self.repositories.setdefault(name, Repository()).commit(files, branch)

    def files(self, name: str, revision: str = "main") -> Files:
        """What a repository holds at a revision."""
        held = self.repositories[name]
        return held.commits[held.at(revision) or ""]


def blob_id(data: bytes) -> str:
    """What git calls a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def front_matter(readme: bytes) -> dict[str, Any]:
    """The YAML between the dashes of a card."""
    found = re.match(r"---\n(.*?)\n?---", readme.decode(), flags=re.S)
    return yaml.safe_load(found[1]) if found else {}


def tags_of(files: Files) -> list[str]:
    """What a hub makes of a card's front matter."""
    facts = front_matter(files.get("README.md", b""))
    tags = list(facts.get("tags", []))
    if base := facts.get("base_model"):
        tags += [f"base_model:{base}", f"base_model:{facts.get('base_model_relation', 'finetune')}:{base}"]
    return [*tags, *([f"license:{facts['license']}"] if "license" in facts else [])]


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""

    def do_HEAD(self) -> None:
        self._answer("HEAD")

    def do_GET(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def _answer(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        where = urlsplit(self.path)
        path, query = where.path, parse_qs(where.query)
        self.hub.asked.append((method, path))
        if self.hub.refuse:
            self._json({"error": "refused"}, self.hub.refuse)
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif path == "/api/repos/delete" and method == "DELETE":
            asked = json.loads(body)
            kind = DATASETS if asked.get("type") == "dataset" else ""
            del self.hub.repositories[f"{kind}{asked['organization']}/{asked['name']}"]
            self._json({})
        elif path == "/api/validate-yaml":
            licence = front_matter(json.loads(body)["content"].encode()).get("license", "other")
            wrong = [] if licence in LICENCES else [{"message": f'"license" must be one of {list(LICENCES)}'}]
            self._json({"errors": wrong, "warnings": []}, 400 if wrong else 200)
        elif path == "/api/models":
            self._models(query)
        elif found := _API.fullmatch(path):
            name = (DATASETS if found[1] else "") + found[2]
            self._model(name, found[3] or "revision", unquote(found[4] or "main"), body)
        elif _BATCH.fullmatch(path):
            self._batch(json.loads(body))
        elif method == "PUT" and path.startswith("/lfs/"):
            self._store(path.removeprefix("/lfs/"), body)
        elif found := _FILE.fullmatch(path):
            self._file(method, (found[1] or "") + found[2], unquote(found[3]), unquote(found[4]))
        else:
            self._json({"error": f"no route {path}"}, 404)

    def _create(self, asked: dict[str, Any]) -> None:
        kind = DATASETS if asked.get("type") == "dataset" else ""
        name = f"{kind}{asked['organization']}/{asked['name']}"
        url = f"{self.hub.url}/{name}"
        if name in self.hub.repositories:
            self._json({"error": "You already created this model repo", "url": url}, 409)
            return
        self.hub.repositories[name] = Repository(private=asked.get("visibility") == "private")
        self.hub.put(name, {".gitattributes": b"*.bin filter=lfs\n"})
        self._json({"url": url})

    def _models(self, query: dict[str, list[str]]) -> None:
        wanted = set(query.get("filter", []))
        public = {name for name, held in self.hub.repositories.items() if not held.private}
        found = [self._info(name, "main") for name in sorted(public) if not name.startswith(DATASETS)]
        kept = [info for info in found if wanted <= set(info["tags"])]
        self._json(kept[: int(query.get("limit", ["1000"])[0])])

    def _info(self, name: str, revision: str) -> dict[str, Any]:
        files = self.hub.files(name, revision)
        return {
            "id": name.removeprefix(DATASETS), "private": False, "sha": self.hub.repositories[name].at(revision),
            "downloads": 7, "likes": 2,
            "tags": tags_of(files), "library_name": front_matter(files.get("README.md", b"")).get("library_name"),
            "lastModified": "2026-02-03T04:05:06.000Z", "siblings": [{"rfilename": file} for file in files],
        }  # fmt: skip

    def _model(self, name: str, verb: str, revision: str, body: bytes) -> None:
        held = self.hub.repositories.get(name)
        if held is None or (held.private and "Authorization" not in self.headers):
            self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        elif verb == "commit":
            self._commit(name, held, revision, body)
        elif held.at(revision) is None:
            self._json({"error": "Invalid rev id"}, 404, {"X-Error-Code": "RevisionNotFound"})
        elif verb == "preupload":
            self._preupload(name, revision, json.loads(body))
        elif verb == "tree":
            files = self.hub.files(name, revision)
            self._json(
                [{"type": "file", "path": p, "size": len(data), "oid": blob_id(data)} for p, data in files.items()]
            )
            if self.hub.after_listing is not None:
                happens, self.hub.after_listing = self.hub.after_listing, None
                happens()
        else:
            self._json(self._info(name, revision))

    def _preupload(self, name: str, revision: str, asked: dict[str, Any]) -> None:
        held = self.hub.files(name, revision)
        self._json({
            "files": [
                {
                    "path": file["path"], "shouldIgnore": False,
                    "uploadMode": "lfs" if file["path"].endswith(self.hub.large or ("/",)) else "regular",
                    "oid": blob_id(held[file["path"]]) if file["path"] in held else None,
                }
                for file in asked["files"]
            ]
        })  # fmt: skip

    def _batch(self, asked: dict[str, Any]) -> None:
        """Git LFS: where each object is to be put; those that are there need not be."""
        assert asked["operation"] == "upload" and asked["hash_algo"] == "sha256"
        self._json({
            "transfer": "basic",
            "objects": [
                one if one["oid"] in self.hub.stored else one | {"actions": {"upload": {"href": f"{self.hub.url}/lfs/{one['oid']}"}}}
                for one in asked["objects"]
            ],
        })  # fmt: skip

    def _store(self, oid: str, body: bytes) -> None:
        right = hashlib.sha256(body).hexdigest() == oid
        if right:
            self.hub.stored[oid] = body
        self._json({}, 200 if right else 400)

    def _commit(self, name: str, held: Repository, revision: str, body: bytes) -> None:
        lines = [json.loads(line) for line in body.splitlines() if line.strip()]
        assert lines[0]["key"] == "header" and lines[0]["value"]["summary"]
        files = {
            line["value"]["path"]: base64.b64decode(line["value"]["content"])
            for line in lines[1:]
            if line["key"] == "file"
        }
        for line in lines[1:]:
            if line["key"] == "lfsFile":
                assert len(self.hub.stored[line["value"]["oid"]]) == line["value"]["size"], (
                    "stored before it is committed"
                )
                files[line["value"]["path"]] = self.hub.stored[line["value"]["oid"]]
        gone = {line["value"]["path"] for line in lines[1:] if line["key"] == "deletedFile"}
        oid = held.commit(files, revision, gone)
        self._json({"commitUrl": f"{self.hub.url}/{name}/commit/{oid}", "commitOid": oid})

    def _file(self, method: str, name: str, revision: str, path: str) -> None:
        held = self.hub.repositories.get(name)
        oid = held.at(revision) if held is not None else None
        if held is None or oid is None or path not in held.commits[oid]:
            code = "RepoNotFound" if held is None else "RevisionNotFound" if oid is None else "EntryNotFound"
            self._json({"error": code}, 404, {"X-Error-Code": code})
            return
        data = held.commits[oid][path]
        self.send_response(200)
        self.send_header("X-Repo-Commit", oid)
        self.send_header("ETag", f'"{blob_id(data)}"')
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if method == "GET" and path in self.hub.cut:
            self.close_connection = True
        elif method == "GET":
            self.wfile.write(data)

    def _json(self, answer: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(answer).encode()
        self.send_response(status)
        for key, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """A hub that answers while the block runs."""
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
