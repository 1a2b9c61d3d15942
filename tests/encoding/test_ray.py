"""A local Ray cluster writes the very bytes one process writes; killed, it goes on; it leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from companysim.config import EncoderConfig
from companysim.encoding.encode import encode
from companysim.encoding.filings import encode_filings
from companysim.encoding.llm import ResidualStream
from companysim.encoding.models import encoder_settings, load_models
from companysim.encoding.sae import SAE
from companysim.encoding.store import Store
from companysim.errors import ConfigError
from tests.encoding.corpus import content, encoder_config, filings

# Ray in a process of its own, with its files in a folder that is removed: config, filings, out, filings a shard.
WORKER = """
import sys
from functools import partial
import pandas as pd
import companysim.encoding.store as module
from companysim.config import EncoderConfig
from companysim.encoding.filings import encode_filings
from companysim.encoding.models import encoder_settings, load_models
from companysim.encoding.store import Store
from companysim.errors import CompanySimError
if __name__ == "__main__":
    config = EncoderConfig.model_validate_json(sys.argv[1])
    module.SHARD_FILINGS = int(sys.argv[4])
    store = Store.create(sys.argv[3], encoder_settings(config))
    say = lambda done, total: print(done, flush=True)
    try:
        failed = encode_filings(
            partial(load_models, config), pd.read_parquet(sys.argv[2]), store, ray=sys.argv[5], report=say
        )
        print(failed.to_json(orient="records"))
    except CompanySimError as error:
        print(f"{type(error).__name__}: {error}")
        sys.exit(2)
"""


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Ray's own files; the path is short, as those of sockets must be."""
    folder = Path(tempfile.mkdtemp(prefix="csray"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def config(llm_path: Path, sae: SAE, tmp_path_factory: pytest.TempPathFactory) -> EncoderConfig:
    return encoder_config(llm_path, sae, tmp_path_factory.mktemp("models"))


def start(
    config: EncoderConfig, table: Path, out: Path, scratch: Path, shard: int = 16, address: str = "local"
) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"RAY_TMPDIR": str(scratch), "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-c", WORKER, config.model_dump_json(), str(table), str(out), str(shard), address]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def left_behind(scratch: Path) -> list[str]:
    """Command lines of processes that still use Ray's files in `scratch`."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            command = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            own = str(scratch) in (place / "environ").read_text(errors="replace")
            zombie = ") Z " in (place / "stat").read_text(errors="replace")
        except OSError:
            continue
        if (str(scratch) in command or own) and not zombie:
            found.append(command[:200])
    return found


def soon_empty(scratch: Path, seconds: float = 180) -> list[str]:
    """Wait for processes to end; what is still there after `seconds`.

    Workers end with their driver at once; an agent of Ray's that was just starting only ends when it has waited
    in vain, up to a minute, for the node that is gone.
    """
    until = time.monotonic() + seconds
    while (found := left_behind(scratch)) and time.monotonic() < until:
        time.sleep(0.2)
    return found


@pytest.mark.slow
def test_a_local_cluster_writes_the_same_bytes_and_resumes(
    config: EncoderConfig, tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    table = filings(150)
    table.loc[7, "text"] = " \x00 "
    table.loc[8, "text"] = "🛢️ 天然ガス \x01"
    table.to_parquet(tmp_path / "filings.parquet")

    monkeypatch.setattr("companysim.encoding.store.SHARD_FILINGS", 16)
    store = Store.create(tmp_path / "one", encoder_settings(config))
    encode_filings(lambda: load_models(config), table, store)
    expected = content(tmp_path / "one")
    assert len(expected) == 1 + 2 * 10

    # Killed when at least two shards are done ...
    process = start(config, tmp_path / "filings.parquet", tmp_path / "ray", scratch)
    assert process.stdout is not None
    for line in process.stdout:
        if float(line) >= 32:
            break
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert soon_empty(scratch) == []
    done = Store(tmp_path / "ray").index()
    assert 32 <= len(done) < 150

    # ... and gone on with, the rows in another order.
    table.sample(frac=1, random_state=2).to_parquet(tmp_path / "filings.parquet")
    process = start(config, tmp_path / "filings.parquet", tmp_path / "ray", scratch)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    *said, failed = output.splitlines()
    numbers = [int(float(line)) for line in said]
    assert numbers[0] >= 32
    assert numbers == sorted(numbers)
    assert numbers[-1] == 150
    assert failed == '[{"filing_id":"f00007","reason":"the text is empty after cleaning"}]'
    assert content(tmp_path / "ray") == expected
    assert soon_empty(scratch) == []


@pytest.mark.slow
def test_a_mistake_inside_an_actor_ends_with_a_sentence(config: EncoderConfig, tmp_path: Path, scratch: Path) -> None:
    pytest.importorskip("ray")
    filings(3).to_parquet(tmp_path / "filings.parquet")
    wrong = config.model_copy(update={"hook": "layers.99"})
    process = start(wrong, tmp_path / "filings.parquet", tmp_path / "ray", scratch)
    output, errors = process.communicate()
    assert process.returncode == 2, errors
    assert output.splitlines()[-1].startswith("RunError: a Ray actor failed: WeightsError: model ")
    assert "has no module 'layers.99'" in output.splitlines()[-1]
    assert "Traceback" not in errors
    assert soon_empty(scratch) == []


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_named(config: EncoderConfig, tmp_path: Path, scratch: Path) -> None:
    pytest.importorskip("ray")
    filings(3).to_parquet(tmp_path / "filings.parquet")
    process = start(config, tmp_path / "filings.parquet", tmp_path / "ray", scratch, address="auto")
    output, errors = process.communicate()
    assert process.returncode == 2, errors
    assert output.splitlines()[-1].startswith("ConfigError: no Ray cluster at 'auto'")


def test_without_ray_there_is_a_sentence(
    stream: ResidualStream, sae: SAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name == "ray" or name.startswith("ray.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    with pytest.raises(ConfigError, match=r"Ray is not installed: pip install 'companysim\[ray\]'"):
        encode_filings(lambda: (stream, sae), filings(3), Store.create(tmp_path / "s", {}), ray="local")


def test_one_actor_does_what_one_process_does(config: EncoderConfig, tmp_path: Path) -> None:
    """The actor's own work, without a cluster, on what Ray hands it: arrays of arrays."""
    import numpy as np

    from companysim.encoding.ray_cluster import _Actor

    table = filings(5)
    stores = [Store.create(tmp_path / name, {}) for name in ("one", "other")]
    [shard] = stores[0].missing(table)
    stores[0].write(shard, encode(*load_models(config), shard["text"].tolist()))
    batch = {}
    for name in ("filing_id", "text", "print"):
        batch[name] = np.empty(1, dtype=object)
        batch[name][0] = np.array(shard[name].tolist())
    found = _Actor(lambda: load_models(config), str(tmp_path / "other"), 2**20)(batch)
    assert found["filings"].tolist() == [5]
    assert content(tmp_path / "one") == content(tmp_path / "other")
    pd.testing.assert_frame_equal(stores[0].index(), stores[1].index())
