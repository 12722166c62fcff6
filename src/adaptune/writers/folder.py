"""Language models of a local folder, without running any code in it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adaptune.writers.writer import NoAnswerError, Writing


class FolderWriter:
    """A causal language model that `save_pretrained` wrote, with its tokenizer.

    Prompts are answered one by one, so that an answer depends on its prompt, its number and the
    settings alone. In a conversation the tokenizer's own template is put around a prompt. Settings
    for generation in the folder do not count, but for the tokens that end a text.

    Raises:
        ValueError: If transformers is not installed, the folder holds no such model that it can
            open without running code of its own, or weights are missing.
    """

    def __init__(self, folder: Path, writing: Writing, device: torch.device | str = "cpu") -> None:
        if importlib.util.find_spec("transformers") is None:
            raise ValueError("--writer hf:FOLDER needs transformers: pip install 'adaptune[text]'")
        if not (folder / "config.json").is_file():
            raise ValueError(
                f"no config.json in {folder}: give hf:FOLDER, with a folder that save_pretrained "
                "wrote"
            )
        self.folder, self.writing = folder, writing
        self.model, self.tokenizer = _opened(folder)
        self.model.to(device).eval()

    @torch.no_grad()
    def __call__(self, prompt: str, times: int) -> str:
        """Answer a prompt.

        Raises:
            NoAnswerError: If the prompt is longer than the model reads.
        """
        ids = self._ids(prompt).to(self.model.device)
        places = getattr(self.model.config, "max_position_embeddings", None)
        if isinstance(places, int) and ids.shape[1] + self.writing.tokens > places:
            raise NoAnswerError(
                f"the prompt has {ids.shape[1]} tokens, and {self.folder} reads {places} with the "
                f"answer's {self.writing.tokens}: give a shorter prompt, or fewer --tokens"
            )
        devices = [ids.device] if ids.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(self.writing.drawn_by(prompt, times))
            found: Tensor = self.model.generate(
                ids, attention_mask=torch.ones_like(ids), generation_config=self._settings()
            )
        answer = self.tokenizer.decode(found[0, ids.shape[1] :], skip_special_tokens=True)
        return str(answer).strip()

    def _ids(self, prompt: str) -> Tensor:
        if self.writing.chat and getattr(self.tokenizer, "chat_template", None):
            said = [{"role": "user", "content": prompt}]
            prompt = self.tokenizer.apply_chat_template(
                said, tokenize=False, add_generation_prompt=True
            )
            found = self.tokenizer(prompt, add_special_tokens=False)
        else:
            found = self.tokenizer(prompt)
        return torch.tensor([found["input_ids"]], dtype=torch.int64)

    def _settings(self) -> Any:
        from transformers import GenerationConfig

        own, heat = self.model.generation_config, self.writing.temperature
        ends = own.eos_token_id if own.eos_token_id is not None else self.tokenizer.eos_token_id
        first = ends[0] if isinstance(ends, list) else ends
        draws = {"do_sample": True, "temperature": heat, "top_k": 0, "top_p": 1.0} if heat else {}
        return GenerationConfig(
            max_new_tokens=self.writing.tokens,
            eos_token_id=ends,
            pad_token_id=first or 0,
            **draws or {"do_sample": False},
        )


def _opened(folder: Path) -> tuple[Any, Any]:
    """Open a model and its tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    how: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    logging.disable_progress_bar()
    said = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **how)
        model, found = AutoModelForCausalLM.from_pretrained(
            folder, output_loading_info=True, dtype="auto", **how
        )
        if missing := sorted(found["missing_keys"]):
            raise ValueError(f"{len(missing)} weights are missing, such as {missing[0]}")
    except Exception as error:  # a folder of another kind makes it raise anything
        reason = " ".join(str(error).split()).rstrip(".")[:300] or type(error).__name__
        raise ValueError(
            f"{folder} is no language model that transformers can open without running code of its "
            f"own ({reason}): give a folder that save_pretrained wrote, tokenizer included"
        ) from error
    finally:
        logging.set_verbosity(said)
    return model, tokenizer
