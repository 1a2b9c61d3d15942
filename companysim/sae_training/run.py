"""From a model and a text to a folder with an SAE: what `companysim sae train` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from companysim.encoding.device import DEVICES, check_choice, check_device, check_dtype
from companysim.encoding.layers import deepest
from companysim.encoding.llm import ResidualStream
from companysim.encoding.random_weights import random_weights
from companysim.encoding.sae import SAE, load_sae
from companysim.errors import ConfigError, RunError
from companysim.sae_training.activations import HELD_OUT, TextActivations
from companysim.sae_training.checkpoint import CHECKPOINT, checkpoint_tokens
from companysim.sae_training.log import Log
from companysim.sae_training.output import FIGURES, save_trained, write_card
from companysim.sae_training.quality import measure
from companysim.sae_training.spec import TrainingSpec
from companysim.sae_training.texts import Texts
from companysim.sae_training.trainer import Record, train
from companysim.workspace import fingerprint, hold, remove_partial, writing


@dataclass(frozen=True)
class Surroundings:
    """How activations are made and kept; results depend on these choices but little.

    Attributes
    ----------
    buffer : int
        Activations shuffled at once.
    on_disk : bool
        Keep them in a file beside the SAE rather than in memory.
    window, batch_tokens : int
        See `companysim.encoding.llm.ResidualStream`.
    device, dtype : str
        Of the language model; the SAE trains on the same device, in float32.
    held_out : int
        One document in so many is left out of training, and measured afterwards.
    save_dtype : str
        Of the SAE on disk.
    checkpoint_every : int
        Activations between checkpoints.
    tensorboard : bool

    Raises
    ------
    ConfigError
        If device or dtype are unknown or not to be had here, the buffer is empty, or all documents are held out.
    """

    buffer: int = 500_000
    on_disk: bool = False
    window: int = 256
    batch_tokens: int = 8192
    device: str = "cpu"
    dtype: str = "float32"
    held_out: int = HELD_OUT
    save_dtype: str = "float32"
    checkpoint_every: int = 500_000
    tensorboard: bool = False

    def __post_init__(self) -> None:
        check_choice("device", self.device, DEVICES)  # without a number: accelerate chooses among several
        check_device(self.device)
        check_dtype(self.dtype)
        check_dtype(self.save_dtype)
        if self.buffer < 1:
            raise ConfigError(f"the buffer is {self.buffer}: it must hold at least 1 activation")
        if self.held_out == 1:
            raise ConfigError("one document in 1 is all of them: hold out one in 2 or more, or 0 for none")


DEFAULT = Surroundings()
BUFFER = "buffer"


def train_on_text(
    model: str,
    hooks: Sequence[str],
    texts: Texts,
    out: Path,
    spec: TrainingSpec,
    surroundings: Surroundings = DEFAULT,
    *,
    name: str | None = None,
    revision: str | None = None,
    init: SAE | None = None,
    random: bool = False,
    report: Callable[[Record], None] = lambda record: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    say: Callable[[str], None] = lambda message: None,
) -> Path:
    """Train an SAE and write it with its configuration, loss curve, figures and card.

    A run stopped in any way goes on when called again with the same arguments. Started by ``accelerate launch``, the
    processes share the work.

    Parameters
    ----------
    model : str
        Local directory or hub id (see `companysim.encoding.weights.resolve`).
    hooks : sequence of str
        Modules to read; several give one SAE for the group.
    texts : Texts
    out : path
        The SAE goes to a folder in it that is named after its hooks, as sparsify does.
    spec : TrainingSpec
    surroundings : Surroundings
    name : str, optional
        Of the model, on the card; `model` by default.
    revision : str, optional
        Of a hub id.
    init : SAE, optional
        To begin with, see `companysim.sae_training.transfer`.
    random : bool
        Train on a copy of the model with random weights, the control; it is written to ``out``.
    report, progress, say : callable
        Receive records of training, batches of the language model done and in all, and single lines.

    Returns
    -------
    Path
        Folder of the SAE.

    Raises
    ------
    RunError
        If the folder holds a trained SAE already, or cannot be written to.
    ConfigError, DataError, WeightsError
        See `companysim.sae_training.trainer.train`.
    """
    from accelerate import Accelerator  # type: ignore[import-untyped]
    from accelerate.utils import GradientAccumulationPlugin  # type: ignore[import-untyped]

    # Not what `accelerate config` may say: the trainer has its own precision, and clips every gradient.
    accelerator = Accelerator(
        cpu=surroundings.device == "cpu",
        mixed_precision="no",
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
    )
    main = accelerator.is_main_process
    folder = out / "_".join(hooks)
    if (folder / FIGURES).exists():
        if main:
            _tidy(folder)  # the run may have been killed before it did
        raise RunError(f"{folder} already holds a trained SAE: choose another --out or remove it")
    with ExitStack() as stack:
        if main:
            with writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(hold(folder))
            remove_partial(folder)
            remove_partial(folder / BUFFER)
        accelerator.wait_for_everyone()
        shown = name or model
        if random:
            place = out / f"random-weights-{spec.seed}-{fingerprint(model, revision)[:8]}"
            if main and not place.exists():
                random_weights(model, place, spec.seed, revision=revision)
            accelerator.wait_for_everyone()
            shown += f" with random weights, seed {spec.seed}"
            model, name, revision = str(place), str(place), None
        stream = ResidualStream(
            model,
            deepest(hooks),
            revision=revision,
            window=surroundings.window,
            overlap=0,
            batch_tokens=surroundings.batch_tokens,
            device=str(accelerator.device),
            dtype=surroundings.dtype,
        )
        source = TextActivations(
            stream,
            hooks,
            texts,
            buffer=surroundings.buffer,
            folder=folder / BUFFER if surroundings.on_disk else None,
            held_out=surroundings.held_out,
            process=accelerator.process_index,
            processes=accelerator.num_processes,
            report=progress if main else lambda done, total: None,
        )
        log = Log(folder, checkpoint_tokens(folder), tensorboard=surroundings.tensorboard) if main else None

        def keep(record: Record) -> None:
            if log is not None:
                log(record)
                report(record)

        sae = train(
            source,
            spec,
            init=init,
            folder=folder,
            checkpoint_every=surroundings.checkpoint_every,
            report=keep,
            say=say if main else lambda message: None,
            accelerator=accelerator,
        )
        if main:
            save_trained(sae, folder, model=name or model, hooks=list(hooks), dtype=surroundings.save_dtype)
            facts = _facts(source, load_sae(folder, decoder=True), spec, list(hooks))
            begun = None if init is None else "another SAE"
            write_card(folder, {"model": shown, **facts, "begun_with": begun, "spec": asdict(spec)})
            _tidy(folder)
        accelerator.wait_for_everyone()
    return folder


def _facts(source: TextActivations, sae: SAE, spec: TrainingSpec, hooks: list[str]) -> dict[str, Any]:
    """Figures of the card, on documents held out, as the SAE is on disk."""
    facts: dict[str, Any] = {"hooks": hooks, "latents": sae.n_latents, "activation": sae.activation}
    held_out = source.held_out()
    if len(held_out) < 2:
        return facts | {"tokens_seen": spec.steps * spec.batch, "held_out_tokens": 0}
    found = measure(sae, held_out)
    return facts | {
        "tokens_seen": spec.steps * spec.batch,
        "held_out_tokens": found.tokens,
        "fraction_unexplained": found.fraction_unexplained,
        "l0": found.l0,
        "dead_share": found.dead_share,
    }


def _tidy(folder: Path) -> None:
    """Remove what only an unfinished run needs."""
    (folder / CHECKPOINT).unlink(missing_ok=True)
    if (folder / BUFFER).is_dir():
        for path in (folder / BUFFER).iterdir():
            path.unlink()
        (folder / BUFFER).rmdir()
