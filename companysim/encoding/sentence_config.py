"""What a sentence-transformers directory says about its own use.

Such a directory holds a plain transformers model and, beside it, ``modules.json`` (the steps, with their folders), the
pooling step's ``config.json`` and ``sentence_bert_config.json`` (longest input). Both the flags of versions 0-4 and
the named modes of later ones are read. Only the steps Transformer, Pooling and Normalize can be run here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from companysim.errors import WeightsError

_STEPS = (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])
_FLAG = "pooling_mode_"


@dataclass(frozen=True)
class SentenceConfig:
    """How a model's token vectors become one vector a text; the defaults hold for a plain transformers directory.

    Attributes
    ----------
    pooling : str
        Name of the mode, such as ``mean``, ``cls`` or ``lasttoken``; several modes are joined by ``+``.
    normalise : bool
        Whether vectors are scaled to unit length.
    max_length : int or None
        Longest input in tokens, special tokens included; None if only the tokenizer and the model limit it.
    lower_case : bool
        Whether text is lower-cased whatever the tokenizer does.
    """

    pooling: str = "mean"
    normalise: bool = True
    max_length: int | None = None
    lower_case: bool = False


def read_sentence_config(folder: Path) -> SentenceConfig:
    """Read the sentence-transformers files of `folder`; those that are absent leave the defaults.

    Raises
    ------
    WeightsError
        If a file is damaged, or asks for a step or a prompt that is not supported.
    """
    modules = _read(folder / "modules.json", [])
    try:
        steps = [str(module["type"]).rpartition(".")[2] for module in modules]
        places = dict(zip(steps, [str(module.get("path", "")) for module in modules], strict=True))
    except (TypeError, KeyError, AttributeError) as error:
        raise WeightsError(f"{folder / 'modules.json'} is damaged: it must list modules with type and path") from error
    if steps and steps not in _STEPS:
        raise WeightsError(
            f"the embedding model in {folder} consists of {', '.join(steps)}: only Transformer, Pooling and Normalize, "
            "in this order, can be run"
        )
    sentence = _read(folder / "config_sentence_transformers.json", {})
    if prompt := (sentence.get("prompts") or {}).get(sentence.get("default_prompt_name")):
        raise WeightsError(
            f"the embedding model in {folder} puts the prompt {prompt!r} before every text, which is not supported: "
            "choose another model, or set default_prompt_name to null in its config_sentence_transformers.json"
        )
    transformer = _read(folder / "sentence_bert_config.json", {})
    return SentenceConfig(
        pooling=_pooling(_read(folder / places.get("Pooling", "1_Pooling") / "config.json", {})),
        normalise="Normalize" in steps or not steps,
        max_length=transformer.get("max_seq_length"),
        lower_case=bool(transformer.get("do_lower_case")),
    )


def _pooling(config: dict[str, Any]) -> str:
    """Name of the pooling mode: named outright, or by flags such as ``pooling_mode_mean_tokens``."""
    named = config.get("pooling_mode")
    if named is None:
        flags = [key.removeprefix(_FLAG) for key, on in config.items() if key.startswith(_FLAG) and on]
        named = [flag.removesuffix("_tokens").removesuffix("_token") for flag in flags] or "mean"
    return named if isinstance(named, str) else "+".join(named)


def _read(path: Path, absent: Any) -> Any:
    """Content of a JSON file of the type of `absent`, which stands in for a missing file."""
    if not path.is_file():
        return absent
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} is damaged ({error}): fetch the model again") from error
    if not isinstance(content, type(absent)):
        raise WeightsError(f"{path} is damaged: it holds no {'list' if absent == [] else 'settings'}")
    return content
