"""Tiny randomly initialised models, built once a session. The tokenizers are offline: bytes, or a list of words."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, LlamaModel, PreTrainedTokenizerFast

from companysim.encoding.llm import ResidualStream
from companysim.encoding.sae import SAE

BYTES = ["<s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
WORDS = "alpha beta gamma delta oil gas drug bank chip retail loans wells".split()


def llama_config(vocabulary: int, layers: int = 4) -> LlamaConfig:
    # A wide initialisation, so that every block changes the stream and attention is not uniform.
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=None,
    )


@pytest.fixture(scope="session")
def llm_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with its language-model head, and a tokenizer with one token a byte and a start token."""
    path = tmp_path_factory.mktemp("llama")
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(BYTES)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>").save_pretrained(path)
    torch.manual_seed(1)
    LlamaForCausalLM(llama_config(len(BYTES))).save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def whole(llm_path: Path) -> LlamaModel:
    """The same Llama as transformers runs it, all blocks and the final norm."""
    return LlamaModel.from_pretrained(llm_path).eval()


@pytest.fixture(scope="session")
def stream(llm_path: Path) -> ResidualStream:
    return ResidualStream(str(llm_path), "layers.1", window=32, overlap=8, batch_tokens=128)


@pytest.fixture(scope="session")
def sae() -> SAE:
    generator = torch.Generator().manual_seed(2)
    encoder, decoder = torch.randn(2, 48, 32, generator=generator)
    bias, b_dec = torch.randn(48, generator=generator), torch.randn(32, generator=generator)
    return SAE(encoder, bias, k=5, shift=b_dec, decoder=decoder, b_dec=b_dec)


@pytest.fixture(scope="session")
def bert_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT and a lower-case word tokenizer that adds [CLS] and [SEP] when asked."""
    path = tmp_path_factory.mktemp("bert")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {token: i for i, token in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(path)
    torch.manual_seed(3)
    BertModel(
        BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=256,
            initializer_range=0.3,
        )
    ).save_pretrained(path)
    return path
