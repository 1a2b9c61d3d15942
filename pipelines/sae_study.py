"""How cheaply can an SAE be trained, and which serves company similarity? The study of docs/SAE_TRAINING.md.

Usage: ``python pipelines/sae_study.py --data ../shared/data --out runs/sae_study`` prints its tables as Markdown. Each
step leaves its figures in ``results.json`` and is not run again; a stopped step goes on from what it has on disk.
Held-out figures are of filings of companies that no training text is from.

1. ``groups``: angular distances of all layers, and the best groups.
2. ``transfer``: the SAE of one layer from scratch, and begun with that of the layer before or of the layer behind, with
   a half, a quarter or an eighth of the tokens; loss in training against tokens, and on held-out text at the end.
3. ``grouped``: one SAE for three neighbouring layers, with the tokens of one or of all, against one for each.
4. ``random``: the same SAE on a copy of the model with random weights.
5. ``patched``: cross-entropy recovered by the SAEs of the steps before.
6. ``companies``: depth and width against the yardsticks of METHOD.md, section 7. The choice is made on 2003 to 2013;
   only the chosen SAE, the bundled one and the baselines are scored on 2014 to 2020, with intervals.

Steps 2, 3, 4 and 6 train with several seeds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
import typer
from profile_study import LAST_CHOICE, final_look
from profile_yardsticks import Profiles, load_profiles, tfidf_similarity, yearly_yardsticks
from safetensors import safe_open
from safetensors.torch import save_file
from seed_stability import Tokens, summed

from companysim.config import EncoderConfig
from companysim.encoding.encode import clean
from companysim.encoding.layers import read_layers
from companysim.encoding.llm import ResidualStream, Window
from companysim.encoding.random_weights import random_weights
from companysim.encoding.sae import SAE, load_sae, save_sae
from companysim.encoding.weights import resolve
from companysim.errors import RunError
from companysim.sae_training.activations import StoredActivations
from companysim.sae_training.checkpoint import checkpoint_tokens
from companysim.sae_training.evaluate import evaluate
from companysim.sae_training.groups import angular_distances, shortened
from companysim.sae_training.quality import measure
from companysim.sae_training.spec import TrainingSpec
from companysim.sae_training.texts import StoredTexts
from companysim.sae_training.trainer import Record, train
from companysim.similarity import Cosine, StandardisedCosine
from companysim.universe import bundled
from companysim.workspace import write, write_text

BATCHES_A_PART = 8
HELD_OUT = 20  # one document in so many
SHARES = (2, 4, 8)
Trained = tuple[SAE, list[list[float]]]


@dataclass(frozen=True)
class Study:
    """What is studied, and where its files are.

    Attributes
    ----------
    model : str
        Directory of the language model.
    blocks : str
        Name of its list of blocks.
    layer : int
        The layer of steps 2 to 5; its two neighbours serve with it.
    depths, widths : tuple of int
        Layers and numbers of latents of step 6.
    corpus_tokens : int
        Activations collected for training.
    spec : TrainingSpec
        Of a whole run; step 6 trains with half its tokens.
    seeds : tuple of int
        Of the SAEs; the corpus is that of ``spec.seed``.
    out : path
    """

    model: str
    blocks: str
    layer: int
    depths: tuple[int, ...]
    widths: tuple[int, ...]
    corpus_tokens: int
    spec: TrainingSpec
    seeds: tuple[int, ...]
    window: int
    dtype: str
    out: Path

    def hook(self, layer: int) -> str:
        """Name of a layer."""
        return f"{self.blocks}.{layer}"

    @property
    def neighbours(self) -> tuple[int, int, int]:
        """The layer before, the layer itself, and the layer behind."""
        return self.layer - 1, self.layer, self.layer + 1

    def specs(self, share: int = 1) -> list[TrainingSpec]:
        """Of every seed, with a share of the tokens."""
        return [replace(self.spec, tokens=self.spec.tokens // share, seed=seed) for seed in self.seeds]

    def stream(self, model: str | None = None, *, cut: bool = True) -> ResidualStream:
        """Load the language model, cut behind the deepest layer needed."""
        deepest = self.hook(max(*self.depths, *self.neighbours)) if cut else ""
        return ResidualStream(
            model or self.model, deepest, window=self.window, overlap=0, batch_tokens=8192, dtype=self.dtype
        )


def collect(stream: ResidualStream, hooks: Sequence[str], windows: Sequence[Window], folder: Path) -> None:
    """Write the residual stream of counted tokens at several depths, in parts; parts that are there stay.

    A row of a layer that is massive there is all zeros, so that the layers' rows belong together.
    """
    folder.mkdir(parents=True, exist_ok=True)
    batches = stream.batches(windows)
    for start in range(0, len(batches), BATCHES_A_PART):
        path = folder / f"part-{start:05}.safetensors"
        if path.is_file():
            continue
        tensors: dict[str, list[torch.Tensor]] = {name: [] for name in (*hooks, "document")}
        for batch in batches[start : start + BATCHES_A_PART]:
            outputs, padded = read_layers(stream, hooks, batch)
            documents = torch.tensor([window.document for window in batch])[:, None].expand(padded.counted.shape)
            tensors["document"].append(documents[padded.counted])
            for name, hidden in outputs.items():
                kept = stream.kept(hidden, padded)[..., None]
                tensors[name].append(torch.where(kept, hidden, 0)[padded.counted].to(torch.bfloat16))
        ready = {name: torch.cat(parts).contiguous() for name, parts in tensors.items()}
        write(path, lambda temporary, ready=ready: save_file(ready, temporary))
        print(f"{folder.name}: {min(start + BATCHES_A_PART, len(batches))} of {len(batches)} batches", flush=True)


def stored(folder: Path, name: str) -> torch.Tensor:
    """One tensor of all parts of `collect`."""
    parts = []
    for path in sorted(folder.glob("part-*.safetensors")):
        with safe_open(path, framework="pt") as file:
            parts.append(file.get_tensor(name))
    return torch.cat(parts)


def rows_of(folder: Path, hook: str) -> torch.Tensor:
    """Activations of one layer without the massive ones."""
    rows = stored(folder, hook)
    return rows[rows.any(dim=1)]


def split(filings: pd.DataFrame, seed: int) -> tuple[list[str], list[str]]:
    """Texts to train on, in an order of their own, and texts of companies that none of these is from.

    One filing in 20 is left out of training; of these only the ones of companies without another are measured.
    """
    texts = list(StoredTexts(filings["text"].tolist(), seed).read(0))
    company = dict(zip(filings["text"], filings["company"], strict=True))
    train = [text for number, text in enumerate(texts) if number % HELD_OUT]
    known = {company[text] for text in train}
    return train, [text for text in texts[::HELD_OUT] if company[text] not in known]


def corpus(study: Study, texts: tuple[list[str], list[str]], model: str | None, hooks: Sequence[str], tag: str) -> None:
    """Collect training and held-out activations: random windows of the two parts of `split`."""
    folders = [study.out / f"{tag}-train", study.out / f"{tag}-held"]
    if all((folder / "done").exists() for folder in folders):
        return
    stream = study.stream(model)
    for held, (folder, own) in enumerate(zip(folders, texts, strict=True)):
        if (folder / "done").exists():
            continue
        windows = stream.windows([ids for ids, _ in stream.tokenise([clean(text) for text in own])])
        limit = study.corpus_tokens // (10 if held else 1)
        order = np.random.default_rng(study.spec.seed).permutation(len(windows))
        total = np.cumsum([len(windows[i].tokens) for i in order])
        chosen = [windows[i] for i in order[: int(np.searchsorted(total, limit)) + 1]]
        collect(stream, hooks, chosen, folder)
        (folder / "done").touch()


def trained(
    study: Study, name: str, rows: Callable[[], torch.Tensor], spec: TrainingSpec, init: SAE | None = None
) -> Trained:
    """Train an SAE with its loss curve, or read what an earlier call left."""
    folder = study.out / "saes" / f"{name}-seed{spec.seed}"
    curve: list[list[float]] = []
    if not (folder / "curve.json").exists():
        earlier = folder / "earlier.json"

        def report(record: Record) -> None:
            curve.append([record.tokens, record.unexplained])
            folder.mkdir(parents=True, exist_ok=True)
            write_text(earlier, json.dumps(curve))
            if len(curve) % 10 == 0:
                print(f"{folder.name}: {record.tokens:,} tokens, {record.unexplained:.4f} unexplained", flush=True)

        if earlier.exists():
            reached = checkpoint_tokens(folder)
            curve += [point for point in json.loads(earlier.read_text()) if point[0] <= reached]
        sae = train(StoredActivations(rows()), spec, init=init, folder=folder, report=report)
        save_sae(sae, folder, dtype="float32")
        (folder / "checkpoint.safetensors").unlink(missing_ok=True)
        write_text(folder / "curve.json", json.dumps(curve))
    return load_sae(folder, decoder=True), json.loads((folder / "curve.json").read_text())


def at_layer(study: Study, layer: int, spec: TrainingSpec, init: tuple[int, SAE] | None = None) -> Trained:
    """Train at one layer of the corpus, from scratch or begun with the SAE of another layer."""
    name = f"scratch-{layer}" if init is None else f"transfer-{init[0]}"
    share = study.spec.tokens // spec.tokens
    rows = partial(rows_of, study.out / "corpus-train", study.hook(layer))
    return trained(study, name if share == 1 else f"{name}-{share}", rows, spec, None if init is None else init[1])


def groups_step(study: Study, texts: Sequence[str]) -> dict[str, Any]:
    """Angular distances of all layers on 40 documents."""
    stream = study.stream(cut=False)
    some = [text[:4000] for text in texts[:40]]
    found = angular_distances(stream, some)
    near = {study.hook(layer): found.distances[study.layer, layer] for layer in study.neighbours}
    return {"tokens": found.tokens, "neighbours": near, "table": found.to_frame().to_dict("records")}


def transfer_step(study: Study) -> dict[str, Any]:
    """Scratch against transfer in both directions."""
    before, layer, behind = study.neighbours
    held = rows_of(study.out / "corpus-held", study.hook(layer))
    result: dict[str, Any] = {}
    for title, place in (("scratch", None), ("from the layer before", before), ("from the layer behind", behind)):
        for share in (1, *SHARES) if place is None else SHARES:
            found = []
            for spec in study.specs(share):
                init = None
                if place is not None:
                    init = place, at_layer(study, place, replace(spec, tokens=study.spec.tokens))[0]
                sae, curve = at_layer(study, layer, spec, init)
                found.append({"curve": curve, **figures(sae, held)})
            name = title if share == 1 else f"{title}, 1/{share} of the tokens"
            result[name] = {"tokens": study.spec.tokens // share, **seeds_together(found)}
    return result


def grouped_step(study: Study) -> dict[str, Any]:
    """One SAE for three layers, with the tokens of one of them and with those of all, against one for each."""
    train_rows = study.out / "corpus-train"

    def together() -> torch.Tensor:
        return torch.cat([rows_of(train_rows, study.hook(layer)) for layer in study.neighbours])

    result: dict[str, Any] = {}
    for layer in study.neighbours:
        held = rows_of(study.out / "corpus-held", study.hook(layer))
        own, one, three = [], [], []
        for spec in study.specs():
            own.append(figures(at_layer(study, layer, spec)[0], held))
            one.append(figures(trained(study, "group", together, spec)[0], held))
            many = replace(spec, tokens=len(study.neighbours) * spec.tokens)
            three.append(figures(trained(study, "group-all", together, many)[0], held))
        for title, found in (("own", own), ("group, tokens of one layer", one), ("group, tokens of all", three)):
            result[f"{study.hook(layer)}: {title}"] = seeds_together(found)
    return result


def random_step(study: Study, texts: tuple[list[str], list[str]]) -> dict[str, Any]:
    """Train the same SAE on random weights."""
    place = study.out / "random-model"
    if not place.exists():
        random_weights(study.model, place, study.spec.seed)
    hook = study.hook(study.layer)
    corpus(study, texts, str(place), [hook], "random")
    held = rows_of(study.out / "random-held", hook)
    found = []
    for spec in study.specs():
        sae, curve = trained(study, "random", partial(rows_of, study.out / "random-train", hook), spec)
        found.append({"curve": curve, **figures(sae, held)})
    return {"tokens": study.spec.tokens, **seeds_together(found)}


def patched_step(study: Study, held: Sequence[str]) -> dict[str, Any]:
    """Cross-entropy recovered on held-out documents, by the SAEs of the first seed."""
    before, layer, behind = study.neighbours
    some = [text[:4000] for text in held[:15]]
    result = {}
    for name in (f"scratch-{layer}", f"transfer-{before}-2", f"transfer-{behind}-2", "group", "group-all"):
        sae = load_sae(study.out / "saes" / f"{name}-seed{study.spec.seed}", decoder=True)
        found = evaluate(sae, study.model, study.hook(layer), some, window=study.window, dtype=study.dtype)
        result[name] = {key: value for key, value in found.to_dict().items() if key != "density"}
    return result


def companies_step(study: Study, profiles: Profiles) -> dict[str, Any]:
    """Depth and width by the yardsticks of companies."""
    folder, hooks = study.out / "profiles", [study.hook(depth) for depth in study.depths]
    texts = [clean(text) for text in profiles.companies["text"]]
    if not (folder / "done").exists():
        stream = study.stream()
        collect(stream, hooks, stream.windows([ids for ids, _ in stream.tokenise(texts)]), folder)
        (folder / "done").touch()
    document = stored(folder, "document").numpy()
    runs = [(depth, study.spec.latents) for depth in study.depths]
    runs += [(study.layer, width) for width in study.widths if width != study.spec.latents]
    similarities: dict[str, list[np.ndarray]] = {}
    for depth in study.depths:
        rows = stored(folder, study.hook(depth))
        kept = rows.any(dim=1)
        tokens = Tokens(rows[kept], document[kept.numpy()])
        for place, width in runs:
            if place != depth:
                continue
            name = f"SAE, block {depth}, {width:,} latents"
            for spec in study.specs(2):
                corpus_rows = partial(rows_of, study.out / "corpus-train", study.hook(depth))
                sae, _ = trained(study, f"companies-{depth}-{width}", corpus_rows, replace(spec, latents=width))
                similarities.setdefault(name, []).append(_cosine(Cosine(), summed(sae, tokens, len(texts))))
        if depth == study.layer:  # those of step 2, to see what more training does
            similarities[f"SAE, block {depth}, {study.spec.latents:,} latents, twice the tokens"] = [
                _cosine(Cosine(), summed(at_layer(study, depth, spec)[0], tokens, len(texts)))
                for spec in study.specs()
            ]
        means = _pool(tokens.company, tokens.rows.float().numpy(), len(texts))
        similarities[f"residual mean, block {depth}"] = [_cosine(StandardisedCosine(), means)]
        if depth == study.layer and study.model == resolve(EncoderConfig().model, print):
            similarities["the bundled SAE"] = [_cosine(Cosine(), summed(load_sae(bundled("sae")), tokens, len(texts)))]
    similarities["TF-IDF"] = [tfidf_similarity(profiles)]
    return judged(similarities, profiles)


def judged(similarities: dict[str, list[np.ndarray]], profiles: Profiles) -> dict[str, Any]:
    """Score every row on years to 2013; the best SAE and what was not trained here once more on later ones.

    The first is the mean of both yardsticks, over seeds; the second is `profile_study.final_look`, with differences to
    the last row.
    """
    early = {year: values for year, values in profiles.correlations.items() if year <= LAST_CHOICE}
    before = replace(profiles, correlations=early)
    found: dict[str, Any] = {}
    for name, seeds in similarities.items():
        yearly = [yearly_yardsticks(similarity, before).mean() for similarity in seeds]
        both = {figure: [float(one[figure]) for one in yearly] for figure in ("top", "peers")}
        found[name] = both | {"score": float(np.mean([*both.values()]))}
    trials = [name for name in found if name.startswith("SAE")]
    best = max(trials, key=lambda name: found[name]["score"])
    rows: dict[str, np.ndarray] = {}
    for name, seeds in similarities.items():
        if name == best or name not in trials:
            rows |= {name if len(seeds) == 1 else f"{name}, seed {i}": one for i, one in enumerate(seeds)}
    later = final_look(rows, profiles)
    parts = ("", "_more", "_more_low", "_more_high", "_p")
    later = later[[f"{figure}{part}" for figure in ("top", "peers") for part in parts]].astype(object)
    return {"to 2013": found, "chosen": best, "after": later.where(later.notna(), None).to_dict("index")}


def figures(sae: SAE, held: torch.Tensor) -> dict[str, float]:
    """Figures on held-out rows."""
    found = measure(sae, held)
    return {"unexplained": found.fraction_unexplained, "l0": found.l0, "dead": found.dead_share}


def seeds_together(found: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Collect each figure over seeds."""
    return {key: [one[key] for one in found] for key in found[0]}


def _pool(document: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    share = 1 / np.maximum(np.bincount(document, minlength=count), 1)
    matrix = sp.csr_array((share[document], (document, np.arange(len(rows)))), shape=(count, len(rows)))
    result: np.ndarray = matrix @ rows.astype(float)
    return result


def _cosine(estimator: Any, vectors: Any) -> np.ndarray:
    result: np.ndarray = estimator.similarity(estimator.fit(vectors).transform(vectors))
    return result


def markdown(results: dict[str, Any]) -> str:
    """Tables of all steps that have run; the mean of several seeds with the smallest and the largest."""
    parts = []
    if "groups" in results:
        frame = pd.DataFrame(results["groups"]["table"])
        frame["layers"] = frame["layers"].map(shortened)
        parts.append("## Layers that are close\n\n" + _table(frame.head(10), 4))
    if "transfer" in results:
        parts.append("## Scratch and transfer, held-out text\n\n" + _table(_frame(results["transfer"]), 4))
        curves = {name: dict(map(tuple, row["curve"][0])) for name, row in results["transfer"].items()}
        points = sorted(curves["scratch"])[:: max(1, len(curves["scratch"]) // 12)]
        shown = {name: {f"{at:,}": _nearest(curve, at) for at in points} for name, curve in curves.items()}
        parts.append("## Loss in training against tokens, first seed\n\n" + _table(_frame(shown), 3))
    if "grouped" in results:
        parts.append("## One SAE for three layers, and one for each\n\n" + _table(_frame(results["grouped"]), 4))
    if "random" in results:
        parts.append("## Control\n\n" + _table(_frame({"random weights": results["random"]}), 4))
    if "patched" in results:
        parts.append("## Patched into the language model\n\n" + _table(_frame(results["patched"]), 4))
    if "companies" in results:
        found = results["companies"]
        parts.append("## Company similarity, years to 2013\n\n" + _table(_frame(found["to 2013"]), 4))
        parts.append(f"## 2014 to 2020, chosen: {found['chosen']}\n\n" + _table(_frame(found["after"]), 4))
    return "\n\n".join(parts)


def _nearest(curve: dict[float, float], tokens: float) -> float:
    """Loss at about so many tokens; NaN behind the curve's end."""
    at = min(curve, key=lambda seen: abs(seen - tokens))
    return curve[at] if tokens <= 1.02 * max(curve) else float("nan")


def _frame(rows: dict[str, dict[str, Any]]) -> pd.DataFrame:
    plain = {name: {key: value for key, value in row.items() if key != "curve"} for name, row in rows.items()}
    return pd.DataFrame.from_dict(plain, orient="index").rename_axis("").reset_index()


def _table(frame: pd.DataFrame, digits: int) -> str:
    def cell(value: Any) -> str:
        if isinstance(value, list):
            spread = f" ({cell(min(value))} to {cell(max(value))})" if len(value) > 1 else ""
            return cell(float(np.mean(value))) + spread
        if value is None:
            return "-"
        if isinstance(value, float):
            return "-" if np.isnan(value) else f"{value:.{digits}f}"
        return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)

    lines = ["| " + " | ".join(map(str, frame.columns)) + " |", "|" + "---|" * len(frame.columns)]
    lines += ["| " + " | ".join(cell(value) for value in row) + " |" for row in frame.astype(object).to_numpy()]
    return "\n".join(lines)


def run(study: Study, filings: pd.DataFrame, profiles: Profiles | None) -> dict[str, Any]:
    """Run the steps that have no figures yet.

    Parameters
    ----------
    filings : DataFrame
        company, text.

    Raises
    ------
    RunError
        If the folder holds another study.
    """
    path = study.out / "results.json"
    study.out.mkdir(parents=True, exist_ok=True)
    choices = json.loads(json.dumps(asdict(replace(study, out=Path())), default=str))
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"choices": choices}
    if results["choices"] != choices:
        raise RunError(f"{study.out} holds a study with other choices: give another --out")
    texts = split(filings, study.spec.seed)
    hooks = [study.hook(layer) for layer in sorted({*study.depths, *study.neighbours})]
    corpus(study, texts, None, hooks, "corpus")
    steps: dict[str, Callable[[], dict[str, Any]]] = {
        "groups": lambda: groups_step(study, texts[0]),
        "transfer": lambda: transfer_step(study),
        "grouped": lambda: grouped_step(study),
        "random": lambda: random_step(study, texts),
        "patched": lambda: patched_step(study, texts[1]),
    }
    if profiles is not None:
        steps["companies"] = lambda: companies_step(study, profiles)
    for name, step in steps.items():
        if name not in results:
            results[name] = step()
            write_text(path, json.dumps(results, indent=1))
    return results


def main(
    data: Annotated[Path, typer.Option(help="Shared research data.")] = Path("../shared/data"),
    out: Annotated[Path, typer.Option(help="Folder of the study; a stopped one goes on there.")] = Path(
        "runs/sae_study"
    ),
    layer: Annotated[int, typer.Option(help="Layer of the transfer, group and control steps.")] = 26,
    corpus_tokens: Annotated[int, typer.Option(help="Tokens of text.")] = 400_000,
    tokens: Annotated[int, typer.Option(help="Activations seen by a whole run.")] = 2_000_000,
    precision: Annotated[str, typer.Option(help="Of the SAE's matrix products.")] = "bfloat16",
    seeds: Annotated[int, typer.Option(min=1, help="SAEs of each kind.")] = 3,
) -> None:
    """Run the study of SmolLM2-135M and print its tables."""
    study = Study(
        model=resolve(EncoderConfig().model, print),
        blocks="layers",
        layer=layer,
        depths=(20, 23, 26, 28),
        widths=(2048, 4096, 8192),
        corpus_tokens=corpus_tokens,
        spec=TrainingSpec(tokens=tokens, precision=precision, learning_rate=1e-3),  # type: ignore[arg-type]
        seeds=tuple(range(seeds)),
        window=256,
        dtype="bfloat16",
        out=out,
    )
    filings = pd.read_parquet(data / "item1_10k.parquet", columns=["cik", "item_1"])
    filings = filings.rename(columns={"cik": "company", "item_1": "text"}).fillna({"company": 0})
    print(markdown(run(study, filings, load_profiles(data))))


if __name__ == "__main__":
    typer.run(main)
