"""Builds a tiny Llama that a real model server can serve: random weights, made in seconds, nothing downloaded.

    python tests/servers/tiny_llama.py DIR        # needs torch and transformers

2 layers of 64, a byte-level BPE tokenizer of 1,000 tokens trained on this repository's licence, a context of
8,192. It says nonsense, the same nonsense each time: it decodes greedily. It never ends by itself, so that a
reply has as many tokens as were asked for, or ends at a `stop`.
"""

import sys
from pathlib import Path
from typing import Any

TEXT = Path(__file__).resolve().parents[2] / "LICENSE"  # a text that does not change: neither do the replies
VOCABULARY = 1000
CONTEXT = 8192
START, END, PAD = "<s>", "</s>", "<pad>"
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def build(directory: Path, **larger: int) -> None:
    """Write model and tokenizer into `directory`; `larger` are numbers of its config that are others."""
    tokenizer = _tokenizer()
    tokenizer.save_pretrained(directory)
    _model(tokenizer, larger).save_pretrained(directory)


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[START, END, PAD, "<|system|>", "<|user|>", "<|assistant|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),  # any text can be encoded
        show_progress=False,
    )
    bpe.train([str(TEXT)], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=START, eos_token=END, pad_token=PAD)
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def _model(tokenizer: Any, larger: dict[str, int]) -> Any:
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    tokens: dict[str, Any] = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, **larger}
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        **shape,
        **tokens,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        # A score of 0, where the best of a thousand random ones is above it: never chosen.
        model.lm_head.weight[tokenizer.all_special_ids] = 0
    model.generation_config = GenerationConfig(do_sample=False, **tokens)
    return model


if __name__ == "__main__":
    build(Path(sys.argv[1]))
