"""Small tables of texts, a small tokenizer and a small random encoder, for tests."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import torch

GOOD = ["good", "great", "lovely", "fine", "superb", "nice"]
BAD = ["bad", "awful", "poor", "dull", "terrible", "sad"]
FILL = ["the", "film", "was", "a", "story", "with", "music", "and", "people", "who", "went", "home"]
FILL += ["today", "again"]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def rows(count: int, extra: str, seed: int = 0) -> list[tuple[str, str]]:
    """Make texts of two classes, which words tell apart; ``extra`` is a domain's own word."""
    draw = random.Random(seed)
    made = []
    for number in range(count):
        kind = number % 2
        words = draw.sample(FILL, 4) + draw.sample((BAD, GOOD)[kind], 2) + [extra, f"no{number}"]
        draw.shuffle(words)
        made.append((" ".join(words), ("neg", "pos")[kind]))
    return made


def table(file: Path, count: int, extra: str = "movie", seed: int = 0) -> Path:
    """Write such texts as a CSV."""
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        writer.writerow(("text", "label"))
        writer.writerows(rows(count, extra, seed))
    return file


def tokenizer(pad: str = "[PAD]", first: str = "[PAD]") -> str:
    """Give a tokenizer of whole words; ``first`` has the id 0."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    special = [first, *(one for one in SPECIAL if one != first)]
    words = {word: at for at, word in enumerate([*special, *GOOD, *BAD, *FILL, "movie", "lol"])}
    made = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(
        ("[SEP]", words["[SEP]"]), ("[CLS]", words["[CLS]"])
    )
    made.enable_padding(pad_id=words[pad], pad_token=pad)  # which is not to be taken
    return made.to_str()


def encoder(folder: Path, *, pooling: str = "", **settings: object) -> Path:
    """Write a random BERT of 16 units as `save_pretrained` does, with its tokenizer."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 32}
    sizes |= {"num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 40}
    config = BertConfig(**(sizes | settings))
    BertModel(config).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer())
    if pooling:
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({pooling: True}))
    return folder


def causal_model(folder: Path) -> Path:
    """Write a random GPT-2 of 16 units, with a tokenizer of whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    words = {word: at for at, word in enumerate(["[END]", "[UNK]", *GOOD, *BAD, *FILL, "Text:"])}
    made = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    own = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="[END]", unk_token="[UNK]")
    own.save_pretrained(folder)
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    config = GPT2Config(
        vocab_size=len(words), n_positions=64, n_embd=16, n_layer=1, n_head=2, **ends
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder
