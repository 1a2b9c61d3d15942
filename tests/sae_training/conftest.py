"""The tiny models of the encoding tests serve here too."""

from __future__ import annotations

from tests.encoding.conftest import bert_path, llm_path, sae, stream, whole

__all__ = ["bert_path", "llm_path", "sae", "stream", "whole"]
