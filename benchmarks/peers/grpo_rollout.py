"""Conversations as trl's GRPOTrainer plays them without vLLM: one ``generate`` a turn, for all."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import torch
from desk_peer import MAX_NEW_TOKENS, MAX_TOKENS, Template
from transformers import PreTrainedTokenizerBase
from trl import GRPOTrainer
from trl.models import unwrap_model_for_generation

import rlchat_envs


@dataclass
class Episode:
    """One conversation: its tokens, and what the environment said of it."""

    env: gym.Env[str, str]
    conversation: tuple[rlchat_envs.Message, ...]
    prompt: list[int]
    completion: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    sampled: list[int] = field(default_factory=list)
    score: float = 0.0
    success: bool = False
    over: bool = False

    @property
    def ids(self) -> list[int]:
        """Everything that was said so far, up to where the agent speaks."""
        return self.prompt + self.completion


class Rollout:
    """Play conversations side by side, turn by turn; trl's ``rollout_func``."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        """Start with no environments; they are made when first needed, and kept."""
        self.tokenizer, self.template = tokenizer, Template(tokenizer)
        self.end, self.pad = int(tokenizer.eos_token_id), int(tokenizer.pad_token_id)
        self.envs: list[gym.Env[str, str]] = []
        self.seconds = 0.0
        self.episodes: list[Episode] = []

    def __call__(self, prompts: list[str], trainer: GRPOTrainer) -> dict[str, Any]:
        """Play an episode for each prompt, which is nothing but the environment's seed."""
        begun = time.perf_counter()
        while len(self.envs) < len(prompts):
            self.envs.append(gym.make("rlchat/Support-v0", split="train", disable_env_checker=True))
        self.episodes = [self._begin(e, int(p)) for e, p in zip(self.envs, prompts, strict=False)]
        running = self.episodes
        with (
            unwrap_model_for_generation(
                trainer.model_wrapped,
                trainer.accelerator,
                generation_kwargs=trainer.generation_kwargs,
            ) as model,
            torch.no_grad(),
        ):
            while running:
                replies = self._sample(model, trainer, [e.ids for e in running])
                for episode, (ids, logprobs) in zip(running, replies, strict=True):
                    self._play(episode, ids, logprobs)
                running = [e for e in running if not e.over]
        self.seconds = time.perf_counter() - begun
        return {
            "prompt_ids": [e.prompt for e in self.episodes],
            "completion_ids": [e.completion for e in self.episodes],
            "logprobs": [e.logprobs for e in self.episodes],
            "env_mask": [e.sampled for e in self.episodes],
            "score": [e.score for e in self.episodes],
        }

    def _begin(self, env: gym.Env[str, str], seed: int) -> Episode:
        _, info = env.reset(seed=seed)
        opening = self.template.opening(info["conversation"])
        return Episode(env, info["conversation"], self._encode(opening))

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _following(self, episode: Episode, last: int) -> list[int]:
        """Tokens from the last sampled one to where the agent speaks again.

        The end of the turn is written here unless ``last`` is that.
        """
        ids = self._encode(self.template.following(episode.conversation))
        return ids[1:] if ids[0] == last == self.end else ids

    def _sample(
        self, model: Any, trainer: GRPOTrainer, rows: list[list[int]]
    ) -> list[tuple[list[int], list[float]]]:
        """Sample a turn for every row; give its tokens, end included, and their log-probs."""
        width = max(len(row) for row in rows)
        ids = torch.tensor([[self.pad] * (width - len(r)) + r for r in rows])
        mask = torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows])
        config = copy.deepcopy(trainer.generation_config)
        config.return_dict_in_generate = True
        config.output_logits = True  # temperature 1, nothing cut off: these were sampled from
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=config,
        )
        said = out.sequences[:, width:]
        logprobs = torch.stack(
            [
                logits.gather(1, said[:, i : i + 1]).squeeze(1) - logits.logsumexp(1)
                for i, logits in enumerate(out.logits)
            ],
            dim=1,
        )
        replies = []
        for reply, row in zip(said.tolist(), logprobs.tolist(), strict=True):
            length = reply.index(self.end) + 1 if self.end in reply else len(reply)
            replies.append((reply[:length], row[:length]))
        return replies

    def _play(self, episode: Episode, ids: list[int], logprobs: list[float]) -> None:
        """Say a turn, hear what follows, and write down both."""
        episode.completion += ids
        episode.logprobs += logprobs
        episode.sampled += [1] * len(ids)
        text = str(self.tokenizer.decode(ids, skip_special_tokens=True))
        _, reward, terminated, truncated, info = episode.env.step(text.strip())
        episode.score += float(reward)
        episode.success = bool(info["success"])
        episode.conversation = info["conversation"]
        episode.over = terminated or truncated
        if episode.over:
            return
        following = self._following(episode, ids[-1])
        if len(episode.ids) + len(following) > MAX_TOKENS - MAX_NEW_TOKENS:
            episode.over = True
            return
        episode.completion += following
        episode.logprobs += [0.0] * len(following)
        episode.sampled += [0] * len(following)
