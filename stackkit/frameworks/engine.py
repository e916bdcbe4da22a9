"""The engine: many requests, one model, one pass of it at a time.

    plan      the scheduler says which tokens of which requests
    forward   all of them in one row through the model; each attends to its own blocks
    draw      a token for each request whose last token was among them, with its own settings
    commit    the scheduler takes note; whoever is done leaves

It adds tensors and a clock to the scheduler, and knows nothing of what is inside the model. In
exact arithmetic each request gets the text that it would get alone; in floating point a sum over
more rows may round differently, which shows only where two tokens are all but equally likely.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch

from stackkit.frameworks.blocks import BlockPool
from stackkit.frameworks.interfaces import LanguageModel, Token, Tokenizer
from stackkit.frameworks.paged_cache import BlockStore, PagedCache
from stackkit.frameworks.requests import Request, Sampling, check_seed
from stackkit.frameworks.sampling import sample
from stackkit.frameworks.scheduler import Scheduler, Step
from stackkit.frameworks.text import TextStream, prompt_ids, token


class Engine:
    """Serve a model to many requests.

    Args:
        model, tokenizer: anything with the interfaces of this layer.
        n_blocks, block_size: of the KV cache.
        max_tokens: that one step computes at most.
        max_requests: that share a step at most.
        prefix_caching, chunked, continuous: as for ``Scheduler``.
        alternatives: how many likely tokens are reported beside each that is drawn.
        clock: seconds, for the times that requests carry.

    Raises:
        ValueError: when a size is below 1, ``alternatives`` below 0, or the model has tokens that
            the tokenizer has not.
    """

    def __init__(
        self,
        model: LanguageModel,
        tokenizer: Tokenizer,
        *,
        n_blocks: int = 256,
        block_size: int = 16,
        max_tokens: int = 256,
        max_requests: int = 32,
        prefix_caching: bool = True,
        chunked: bool = True,
        continuous: bool = True,
        alternatives: int = 0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if model.vocab_size > tokenizer.vocab_size:
            raise ValueError(
                f"The model has {model.vocab_size} tokens, the tokenizer {tokenizer.vocab_size}: "
                "they do not belong together."
            )
        if alternatives < 0:
            raise ValueError(f"alternatives must be 0 or more; got {alternatives}.")
        self.model, self.tokenizer = model, tokenizer
        self.alternatives, self.clock = alternatives, clock
        self.pool = BlockPool(n_blocks, block_size)
        self.scheduler = Scheduler(
            self.pool,
            max_tokens=max_tokens,
            max_requests=max_requests,
            end_ids=tokenizer.end_ids,
            prefix_caching=prefix_caching,
            chunked=chunked,
            continuous=continuous,
        )
        self._like = next(iter(model.parameters()))
        kept = model.new_cache(1).data  # (2, L, 1, K, 1, D): what the model keeps of a token
        self.store = BlockStore(
            kept.shape[1],
            kept.shape[3],
            kept.shape[5],
            n_blocks,
            block_size,
            dtype=kept.dtype,
            device=kept.device,
        )
        self._streams: dict[Request, TextStream] = {}  # of those that are not done
        self.n_steps = self.n_computed = 0  # passes so far, and tokens that went through them

    @property
    def busy(self) -> bool:
        """Whether there is anything to compute."""
        return self.scheduler.busy

    def submit(self, prompt: str | Sequence[int], **settings) -> Request:
        """Queue a request; it moves when someone calls ``step``.

        Args:
            prompt: text, or token ids.
            settings: as for ``Sampling``.

        Raises:
            ValueError: when it is empty, longer than the model's context, or can never fit in the
                blocks, or a setting is out of range.
        """
        sampling = Sampling(**settings)
        ids = prompt_ids(self.model, self.tokenizer, prompt, sampling.max_new_tokens)
        return self._arrived(self.scheduler.submit(ids, sampling))

    def fork(self, parent: Request, *, at: int | None = None, **settings) -> Request:
        """Another text that begins like one on its way, and shares the blocks of that beginning.

        Args:
            parent: not yet done.
            at: how many of its tokens both have; default all so far.
            settings: what is to be another than the parent's, ``seed`` above all.

        Raises:
            ValueError: when the parent is done, has not so many tokens, or the fork could leave
                the model's context.
        """
        self._check_ours(parent)
        sampling = replace(parent.sampling, **settings)
        longest = min(at or math.inf, len(parent.tokens)) + sampling.max_new_tokens
        if not parent.done and longest > self.model.max_context:
            raise ValueError(
                f"The fork could come to {longest} tokens; the model's context is "
                f"{self.model.max_context}. Ask for fewer new ones, or fork earlier."
            )
        return self._arrived(self.scheduler.fork(parent, sampling, at))

    def cancel(self, request: Request) -> None:
        """End a request now; what it has written stays with it.

        Raises:
            ValueError: when it is done already.
        """
        self._check_ours(request)
        self.scheduler.cancel(request)
        del self._streams[request]

    @torch.inference_mode()
    def step(self) -> list[tuple[Request, Token]]:
        """One pass of the model; the tokens that came of it, each with its request."""
        plan = self.scheduler.plan()
        if not plan.pieces:
            return []
        logits = self._forward(plan)  # (R, V), a row for each piece that writes
        writers = [piece.request for piece in plan.pieces if piece.writes]
        drawn = [_draw(request, row) for request, row in zip(writers, logits, strict=True)]
        # All that can fail comes before anyone takes note, so that a step that fails loses nothing.
        streams = {r: self._streams[r].copy() for r in writers if not r.done}  # not cancelled
        told = {
            request: token(self.tokenizer, row, id, streams[request], self.alternatives)
            for request, row, id in zip(writers, logits, drawn, strict=True)
            if request in streams
        }
        written, now = [], self.clock()
        for request in self.scheduler.commit(plan, drawn):
            self._streams[request] = streams[request]
            request.output.append(told[request])
            request.token_s.append(now)
            written.append((request, told[request]))
        for request in writers:
            if request.done:
                self._streams.pop(request, None)
        self.n_steps, self.n_computed = self.n_steps + 1, self.n_computed + plan.n_tokens
        return written

    def stream(self, request: Request) -> Iterator[Token]:
        """A request's tokens as they come; the others move along.

        Raises:
            ValueError: at once, when it is another engine's.
        """
        self._check_ours(request)
        return self._stream(request)

    def _stream(self, request: Request) -> Iterator[Token]:
        given = 0
        while given < len(request.output) or not request.done:
            if given == len(request.output):
                self.step()
            else:  # one by one: another stream may take a step before we are asked again
                given += 1
                yield request.output[given - 1]

    def run(self) -> None:
        """Step until every request is done."""
        while self.busy:
            self.step()

    def generate(
        self, prompts: Sequence[str | Sequence[int]], *, samples: int = 1, **settings
    ) -> list[list[Request]]:
        """Write on from many prompts, and wait for all.

        Args:
            prompts: texts, or lists of ids.
            samples: texts for each, with seeds that follow each other; those that run together
                share the prompt's blocks.
            settings: as for ``Sampling``.

        Returns:
            The requests of each prompt; ``.text`` and ``.output`` say what they wrote.

        Raises:
            ValueError: as for ``submit``; then nothing was queued.
        """
        if isinstance(prompts, str):
            raise ValueError(f"generate takes several prompts: give it [{prompts!r}].")
        if samples < 1:
            raise ValueError(f"samples must be 1 or more; got {samples}.")
        check_seed(settings.get("seed", 0) + samples - 1)
        found: list[list[Request]] = []
        try:
            for prompt in prompts:
                found.append([self.submit(prompt, **settings)])
        except Exception:
            for (request,) in found:
                self.cancel(request)
            raise
        for requests in found if samples > 1 else ():
            self._sample_more(requests, samples - 1)
        self.run()
        return found

    def _sample_more(self, requests: list[Request], n: int) -> None:
        """Further texts of a first one's prompt, forked as soon as the prompt is computed."""
        first = requests[0]
        while not first.done and first.n_computed < first.n_prompt - 1:
            self.step()
        for seed in range(first.sampling.seed + 1, first.sampling.seed + 1 + n):
            if first.done:  # so soon: the prefix cache, if there is one, still knows the prompt
                how = replace(first.sampling, seed=seed)
                prompt = first.tokens[: first.n_prompt]
                requests.append(self._arrived(self.scheduler.submit(prompt, how)))
            else:
                requests.append(self.fork(first, at=first.n_prompt, seed=seed))

    def _check_ours(self, request: Request) -> None:
        if not request.done and request not in self._streams:
            raise ValueError(f"Request {request.id} is on its way in another engine, not in this.")

    def _arrived(self, request: Request) -> Request:
        request.arrived_s = self.clock()
        self._streams[request] = TextStream(self.tokenizer, request.tokens)
        return request

    def _forward(self, plan: Step) -> torch.Tensor:
        self.store.copy(plan.copies)
        ids, last_rows = [], []
        for piece in plan.pieces:
            ids += piece.request.tokens[piece.start : piece.start + piece.n]
            if piece.writes:
                last_rows.append(len(ids) - 1)
        cache = PagedCache(
            self.store,
            [piece.request.blocks for piece in plan.pieces],
            [piece.start for piece in plan.pieces],
            [piece.n for piece in plan.pieces],
        )
        device = self._like.device
        rows = torch.tensor(last_rows, dtype=torch.long, device=device)
        return self.model(torch.tensor([ids], device=device), cache, rows=rows)[0]


def _draw(request: Request, logits: torch.Tensor) -> int:
    """A token by the request's own settings; it depends on its seed and place alone.

    Raises:
        ValueError: as for ``sample``, and says whose logits they are.
    """
    how = request.sampling
    try:
        return sample(
            logits,
            temperature=how.temperature,
            top_k=how.top_k,
            top_p=how.top_p,
            seed=how.seed,
            position=len(request.tokens),
        )
    except ValueError as error:
        raise ValueError(f"Request {request.id}: {error}") from None
