"""The models a configuration names, on disk or on a hub: a server of this machine that speaks the hub's language."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import torch

from companysim.config import EncoderConfig
from companysim.encoding.encode import encode
from companysim.encoding.models import encoder_settings, load_models, sae_path
from companysim.encoding.sae import SAE, save_sae
from companysim.encoding.sae_formats import CONFIG_FILE, SPARSIFY_FILE
from companysim.errors import WeightsError
from tests.encoding.corpus import encoder_config


@pytest.fixture
def config(llm_path: Path, sae: SAE, tmp_path: Path) -> EncoderConfig:
    return encoder_config(llm_path, sae, tmp_path)


# On disk


def test_models_follow_the_configuration(config: EncoderConfig, sae: SAE) -> None:
    stream, read = load_models(config)
    assert (stream.window, stream.overlap, stream.batch_tokens, stream.hook) == (64, 8, 1024, "layers.1")
    assert (read.n_latents, read.k) == (48, 5)
    found, expected = encode(stream, read, ["oil and gas"]), encode(stream, sae, ["oil and gas"])
    np.testing.assert_array_equal(found.pooled.matrix().toarray(), expected.pooled.matrix().toarray())


def test_dtypes_of_the_configuration_are_used(config: EncoderConfig) -> None:
    fine = encode(*load_models(config), ["oil and gas"])
    rough_stream, sae = load_models(config.model_copy(update={"dtype": "bfloat16"}))
    assert sae.encoder.dtype == torch.float32
    rough = encode(rough_stream, sae, ["oil and gas"])
    assert not np.array_equal(rough.residual_mean, fine.residual_mean)
    np.testing.assert_allclose(rough.residual_mean, fine.residual_mean, atol=0.1 * np.abs(fine.residual_mean).max())
    stream, rough_sae = load_models(config.model_copy(update={"sae_dtype": "bfloat16"}))
    assert rough_sae.encoder.dtype == torch.bfloat16
    found = encode(stream, rough_sae, ["oil and gas"])
    np.testing.assert_array_equal(found.residual_mean, fine.residual_mean)
    assert not np.array_equal(found.pooled.matrix().toarray(), fine.pooled.matrix().toarray())


def test_missing_sae_is_refused_before_any_weights_are_fetched(config: EncoderConfig, tmp_path: Path) -> None:
    said: list[str] = []
    lost = config.model_copy(update={"model": "smollm2-135m", "sae": str(tmp_path / "none")})
    with pytest.raises(WeightsError, match=re.escape(str(tmp_path / "none"))):
        load_models(lost, said.append)
    assert not said


def test_sample_sae_is_bundled_and_a_directory_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {file.name for file in sae_path(EncoderConfig()).iterdir()} >= {CONFIG_FILE, SPARSIFY_FILE}
    (tmp_path / "mine" / "layers.3").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for name in ("mine/layers.3", "mine", str(tmp_path / "mine")):
        assert sae_path(EncoderConfig(sae=name)) == Path(name)  # never asked for on the hub


def test_settings_change_with_whatever_changes_the_encoding(config: EncoderConfig, sae: SAE, tmp_path: Path) -> None:
    before = encoder_settings(config)
    assert before == encoder_settings(config.model_copy(update={"embedding": "another", "embedding_revision": "x"}))
    assert json.loads(json.dumps(before)) == before
    changes: list[dict[str, object]] = [
        {"hook": "layers.0"},
        {"window": 65},
        {"overlap": 9},
        {"dtype": "bfloat16"},
        {"sae_dtype": "bfloat16"},
        {"revision": "v1"},
        {"sae_revision": "v1"},
        {"model": "org/other"},
        {"sae": "org/other"},
    ]
    seen = [before, *(encoder_settings(config.model_copy(update=change)) for change in changes)]
    save_sae(sae, tmp_path / "sae", dtype="float16")  # other weights in the same place
    seen.append(encoder_settings(config))
    assert len({json.dumps(settings, sort_keys=True) for settings in seen}) == len(changes) + 2


# On the hub

FIRST, LATEST = "a" * 40, "b" * 40


class Hub(http.server.ThreadingHTTPServer):
    """Serves ``folder/<org>/<repo>/<commit>/...`` as a model hub does; ``v1`` and ``main`` name two commits."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.asked: list[str] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        self.server.asked.append(path)
        if found := re.fullmatch(r"api/models/(\w+/\w+)/revision/(\w+)", path):
            commit = self._commit(*found.groups())
            if commit:
                files = [{"rfilename": name} for name in self._files(found[1], commit)]
                return self._send(200, json.dumps({"id": found[1], "sha": commit, "siblings": files}).encode())
        elif found := re.fullmatch(r"api/models/(\w+/\w+)/tree/(\w+)", path):
            commit = self._commit(*found.groups())
            if commit:
                tree = [
                    {"type": "file", "path": name, "size": file.stat().st_size, "oid": _etag(file)}
                    for name, file in self._files(found[1], commit).items()
                ]
                return self._send(200, json.dumps(tree).encode())
        elif found := re.fullmatch(r"(\w+/\w+)/resolve/(\w+)/(.+)", path):
            commit = self._commit(found[1], found[2])
            file = self.server.folder / found[1] / commit / found[3] if commit else None
            if file is not None and file.is_file():
                return self._send(200, file.read_bytes(), {"ETag": f'"{_etag(file)}"', "X-Repo-Commit": str(commit)})
            if commit:
                return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
        elif re.fullmatch(r"api/models/\w+/\w+/tree/\w+/.+", path):  # chat templates
            return self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})
        unknown = "RevisionNotFound" if re.search(r"org/(repo|llm)", path) else "RepoNotFound"
        return self._send(404, b"{}", {"X-Error-Code": unknown})

    def _commit(self, repository: str, revision: str) -> str | None:
        commit = {"v1": FIRST, "main": LATEST}.get(revision, revision)
        return commit if (self.server.folder / repository / commit).is_dir() else None

    def _files(self, repository: str, commit: str) -> dict[str, Path]:
        root = self.server.folder / repository / commit
        return {str(file.relative_to(root)): file for file in sorted(root.rglob("*")) if file.is_file()}

    def _send(self, code: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _etag(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:40]


@pytest.fixture(scope="module")
def hub(llm_path: Path, sae: SAE, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub with an SAE repository of two layers and a Llama, in two commits that differ."""
    folder = tmp_path_factory.mktemp("hub")
    for factor, commit in enumerate((FIRST, LATEST), start=1):
        other = SAE(sae.encoder * factor, sae.bias, k=5, shift=sae.shift, decoder=sae.decoder, b_dec=sae.b_dec)
        for layer in ("layers.1", "layers.2"):
            save_sae(other, folder / "org" / "repo" / commit / layer, dtype="float32")
        (folder / "org" / "repo" / commit / "README.md").write_text("an SAE")
        shutil.copytree(llm_path, folder / "org" / "llm" / commit)
    # The latest commit's model has other weights of the same shape: those of a rescaled embedding.
    from safetensors.torch import load_file, save_file

    weights = folder / "org" / "llm" / LATEST / "model.safetensors"
    tensors = load_file(weights)
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"] * -1
    save_file(tensors, weights, metadata={"format": "pt"})
    with Hub(folder) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


# A process of its own, since the hub's address and cache are read at import. Prints what came of each request.
ASK = """
import json, sys
from companysim.config import EncoderConfig
from companysim.encoding.encode import encode
from companysim.encoding.models import load_models, sae_path
from companysim.errors import CompanySimError
answers = []
for request in json.loads(sys.argv[1]):
    said = []
    config = EncoderConfig(window=64, overlap=8, hook="layers.1", **request)
    try:
        found = str(sae_path(config, said.append))
        if "model" in request:
            found = encode(*load_models(config), ["oil and gas"]).pooled.matrix().toarray()[0].tolist()
        answers.append([found, said])
    except CompanySimError as error:
        answers.append([f"{type(error).__name__}: {error}", said])
print(json.dumps(answers))
"""


def ask(endpoint: str, home: Path, *requests: dict[str, str], **extra: str) -> list[Any]:
    drop = ("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE")
    environment = {name: value for name, value in os.environ.items() if name not in drop}
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"} | extra
    done = subprocess.run(
        [sys.executable, "-c", ASK, json.dumps(requests)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


@pytest.mark.slow
def test_sae_and_model_come_from_the_hub_at_their_revision_once(
    hub: Hub, llm_path: Path, tmp_path: Path
) -> None:
    pinned = {"sae": "org/repo/layers.1", "sae_revision": "v1"}
    answers = ask(
        hub.endpoint,
        tmp_path,
        pinned,
        {"sae": "org/repo/layers.1"},
        {"sae": "org/repo/layers.1", "sae_revision": FIRST},
        {"sae": "org/repo"},
        {**pinned, "model": "org/llm", "revision": "v1"},
        {**pinned, "model": "org/llm"},
        {**pinned, "model": str(llm_path)},
    )
    first, latest, by_commit, repository = (Path(found) for found, _ in answers[:4])
    assert first == by_commit != latest
    folder = hub.folder / "org" / "repo"
    for place, commit in ((first, FIRST), (latest, LATEST), (repository / "layers.2", LATEST)):
        original = folder / commit / place.name
        assert {file.name: file.read_bytes() for file in place.iterdir()} == {
            file.name: file.read_bytes() for file in original.iterdir()
        }
    assert {path.name for path in first.parent.iterdir()} == {"layers.1"}  # only what is needed
    assert all(place.is_relative_to(tmp_path) for place in (first, latest, repository))
    assert answers[0][1] == ["fetching the SAE org/repo/layers.1 from the hub unless it is there already"]
    # The revision of the language model is used too: v1 is the model on disk, main another.
    assert answers[4][0] == answers[6][0] != answers[5][0]

    # Without a connection what was fetched is still there, and nothing is fetched again.
    before = len(hub.asked)
    lost = {"sae": "org/never/layers.1", "sae_revision": "v1"}
    llm = {"model": "org/llm", "revision": "v1"}
    offline = ask(hub.endpoint, tmp_path, pinned, lost, {**pinned, **llm}, HF_HUB_OFFLINE="1")
    unreachable = ask("http://127.0.0.1:9", tmp_path, pinned, lost)  # the discard port: nobody answers
    for cached, missing in (offline[:2], unreachable):
        assert Path(cached[0]) == first
        assert missing[0].startswith("WeightsError: no SAE 'org/never/layers.1': it is no directory here, and the hub")
    assert offline[2][0] == answers[4][0]
    assert len(hub.asked) == before


@pytest.mark.slow
def test_what_the_hub_does_not_have_is_refused_with_a_sentence(hub: Hub, tmp_path: Path) -> None:
    answers = ask(
        hub.endpoint,
        tmp_path,
        {"sae": "org/nothing/layers.1"},
        {"sae": "org/repo/layers.1", "sae_revision": "v9"},
        {"sae": "org/repo/layers.1", "sae_revision": "v1", "model": "org/llm", "revision": "v9"},
        {"sae": "not a/name at all"},
        {"sae": "org/repo/layers.9", "sae_revision": "v1", "model": "org/llm"},
    )
    names = ("org/nothing", "org/repo", "org/llm", "not a/name", "layers.9")
    for (sentence, _), name in zip(answers, names, strict=True):
        assert sentence.startswith("WeightsError: ")
        assert name in sentence
        assert sentence.isprintable()
        assert len(sentence) < 500
