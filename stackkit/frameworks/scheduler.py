"""Who computes what in the next step: continuous batching, chunked prefill, preemption.

Before each step it asks of every request how many of its tokens are not computed yet: one for a
request that writes, many for one whose prompt is new. It hands out a budget of tokens, oldest
request first, and sees that there are blocks for them. Prompts longer than the budget go through
in chunks beside the others' single tokens. Where blocks run out the youngest gives up its own, and
computes them again later. A request that ends leaves at once, and another takes its place.

It knows no tensor and no clock, so that an engine and a simulation run the very same class:

    while scheduler.busy:
        step = scheduler.plan()
        ...                                  compute; draw a token for each piece that writes
        scheduler.commit(step, drawn)

Sources: iterations as the unit of scheduling: Yu et al. (Orca), OSDI 2022; chunks of prompts
beside decodes: Agrawal et al. (Sarathi-Serve), arXiv 2403.02310; recomputation: arXiv 2309.06180.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from stackkit.frameworks.blocks import BlockPool, chain
from stackkit.frameworks.requests import Request, Sampling, State


@dataclass(frozen=True)
class Piece:
    """Tokens [start, start + n) of a request, to be computed in one step."""

    request: Request
    start: int
    n: int
    writes: bool  # whether they are its last ones, so that a token can be drawn


@dataclass
class Step:
    """What one pass of the model computes."""

    pieces: list[Piece] = field(default_factory=list)
    copies: list[tuple[int, int]] = field(default_factory=list)  # (from, to) blocks, done first
    preempted: list[Request] = field(default_factory=list)

    @property
    def n_tokens(self) -> int:
        """Tokens that are computed."""
        return sum(piece.n for piece in self.pieces)


_turn = attrgetter("turn")


class Scheduler:
    """Requests in, steps out.

    Args:
        pool: the blocks; nobody else takes any.
        max_tokens: that one step computes at most; more for a prompt where ``chunked`` is off.
        max_requests: that share a step at most.
        end_ids: tokens after which a text is over.
        prefix_caching: look for blocks of an equal beginning.
        chunked: cut prompts that do not fit in a step.
        continuous: let new requests join while others run. Off, a batch begins when the last of
            the one before has ended, with all of its prompts at once, whatever ``max_tokens`` says.

    Raises:
        ValueError: when a limit is below 1.
    """

    def __init__(
        self,
        pool: BlockPool,
        *,
        max_tokens: int = 256,
        max_requests: int = 32,
        end_ids: Collection[int] = (),
        prefix_caching: bool = True,
        chunked: bool = True,
        continuous: bool = True,
    ) -> None:
        if max_tokens < 1 or max_requests < 1:
            raise ValueError(
                "A step needs room for 1 token and 1 request or more; "
                f"got {max_tokens} tokens and {max_requests} requests."
            )
        self.pool, self.end_ids = pool, frozenset(end_ids)
        self.max_tokens, self.max_requests = max_tokens, max_requests
        self.prefix_caching, self.chunked, self.continuous = prefix_caching, chunked, continuous
        self.waiting: list[Request] = []  # both in order of their turns
        self.running: list[Request] = []
        self._n_seen = 0

    @property
    def busy(self) -> bool:
        """Whether there is anything to compute."""
        return bool(self.waiting or self.running)

    def submit(self, prompt: Sequence[int], sampling: Sampling) -> Request:
        """Queue a request.

        Raises:
            ValueError: when the prompt is empty, or no pool of this size can ever hold the text.
        """
        if not len(prompt):
            raise ValueError("The prompt is empty: give at least one token to go on from.")
        request = Request(self._n_seen, list(prompt), len(prompt), sampling, self._n_seen)
        self._check_fits(request)
        self._n_seen += 1
        insort(self.waiting, request, key=_turn)
        return request

    def fork(self, parent: Request, sampling: Sampling, at: int | None = None) -> Request:
        """Another text that begins like one on its way, and shares the blocks of that beginning.

        It has its parent's turn, and goes before all who came later.

        Args:
            parent: waiting or running.
            sampling: of the new one.
            at: how many of the parent's tokens both have, its prompt; default all so far.

        Raises:
            ValueError: when the parent is done, or has not so many tokens.
        """
        if parent.done:
            raise ValueError(
                f"Request {parent.id} is {parent.state.value} and has given its blocks back. "
                "Submit its tokens as a new prompt: the prefix cache may still hold them."
            )
        at = len(parent.tokens) if at is None else at
        if not 1 <= at <= len(parent.tokens):
            raise ValueError(
                f"Request {parent.id} has {len(parent.tokens)} tokens; a fork can begin with 1 to "
                f"all of them, got {at}."
            )
        # One token is left to compute, for its logits are what the fork draws from.
        computed = min(parent.n_computed, at - 1)
        child = Request(
            self._n_seen,
            parent.tokens[:at],
            at,
            sampling,
            parent.arrival,
            n_computed=computed,
            blocks=parent.blocks[: self.pool.blocks_for(computed)],
            digests=parent.digests[: at // self.pool.block_size],
            n_named=min(parent.n_named, computed // self.pool.block_size),
        )
        self._check_fits(child)
        self._n_seen += 1
        for block in child.blocks:
            self.pool.share(block)
        insort(self.waiting, child, key=_turn)
        return child

    def cancel(self, request: Request) -> None:
        """End a request now and free its blocks; a step that is under way may still finish.

        Raises:
            ValueError: when it is done already.
        """
        if request.done:
            raise ValueError(f"Request {request.id} is {request.state.value} already.")
        self._end(request, State.CANCELLED)

    def plan(self) -> Step:
        """The next step; empty when there is nothing to do.

        Its copies must be made. Where its pieces cannot be computed, plan again.
        """
        step, left = Step(), self.max_tokens if self.continuous else math.inf
        # Those that write; who is preempted below still counts, and leaves a prompt a token less.
        single = sum(request.n_left == 1 for request in self.running)
        for request in list(self.running):
            if request.state is not State.RUNNING:
                continue  # preempted by one before it
            single -= request.n_left == 1
            # A prompt takes what the single tokens behind it leave.
            n = self._chunk(request.n_left, max(0, left - single), step)
            if n and self._make_room(request, n, step):
                left -= self._add(step, request, n)
        if step.preempted or (self.running and not self.continuous):
            return step
        while self.waiting and left > 0 and len(self.running) < self.max_requests:
            request = self.waiting[0]
            n = self._admit(request, left, step)
            if not n:
                break
            left -= self._add(step, request, n)
            if step.preempted:  # a fork that waited with blocks: it must not come straight back
                break
        return step

    def commit(self, step: Step, drawn: Sequence[int]) -> list[Request]:
        """Take note of what a step computed.

        Args:
            step: as planned.
            drawn: a token for each piece that writes, in their order.

        Returns:
            The requests that have a new token, those that are over included where it was one.

        Raises:
            ValueError: when there are fewer or more tokens than pieces that write.
        """
        writers = [piece for piece in step.pieces if piece.writes]
        if len(drawn) != len(writers):
            raise ValueError(f"{len(writers)} pieces write; got {len(drawn)} tokens.")
        written, tokens = [], iter(drawn)
        for piece in step.pieces:
            request, token = piece.request, next(tokens) if piece.writes else None
            if request.state is not State.RUNNING:
                continue  # cancelled while the step was under way
            request.n_computed = piece.start + piece.n
            self._name_full_blocks(request)
            if token is None:
                continue
            if token in self.end_ids:
                self._end(request, State.FINISHED)
                continue
            request.tokens.append(token)
            written.append(request)
            if len(request.tokens) == request.most_tokens:
                self._end(request, State.FINISHED)
        return written

    def check(self) -> None:
        """Hold every table against the pool.

        Raises:
            AssertionError: when a block is lost, or counted wrongly.
        """
        self.pool.check([request.blocks for request in (*self.waiting, *self.running)])

    # One request at a time

    def _chunk(self, n_left: int, left: int, step: Step) -> int:
        """How many of a request's tokens the next step takes.

        A prompt that may not be cut goes past the budget, if no other prompt is in the step.
        """
        if self.chunked or n_left <= left:
            return min(n_left, left)
        return n_left if all(piece.n == 1 for piece in step.pieces) else 0

    def _add(self, step: Step, request: Request, n: int) -> int:
        step.pieces.append(Piece(request, request.n_computed, n, n == request.n_left))
        return n

    def _admit(self, request: Request, left: int, step: Step) -> int:
        """Start a waiting request if its whole text finds room; how many tokens it computes.

        Where nothing runs it starts in any case, and takes blocks from those that wait with some.
        """
        pool, found = self.pool, []
        if self.prefix_caching and not request.blocks:
            # The last token is computed in any case: without it there are no logits to draw from.
            last = (len(request.tokens) - 1) // pool.block_size
            found = pool.find(self._digests(request)[:last])
        need = pool.blocks_for(len(request.tokens)) - len(found) - len(request.blocks)
        need += bool(request.blocks)  # a fork may have to copy the block that it writes next
        need += sum(pool.readers[block] == 0 for block in found)  # they leave the queue too
        start = len(found) * pool.block_size or request.n_computed
        n = self._chunk(len(request.tokens) - start, left, step)
        if not n or (self.running and pool.n_free < need):
            return 0
        if found:
            for block in found:
                pool.share(block)
            request.blocks, request.n_computed, request.n_named = found, start, len(found)
            request.n_cached += start
        if not self._make_room(request, n, step):
            return 0
        self.waiting.remove(request)
        request.state = State.RUNNING
        insort(self.running, request, key=_turn)
        return n

    def _make_room(self, request: Request, n: int, step: Step) -> bool:
        """Blocks of its own for the next n tokens; False when it had to give up all it had."""
        pool = self.pool
        end = pool.blocks_for(request.n_computed + n)
        first = request.n_computed // pool.block_size  # the block that is written next
        while pool.n_free < max(0, end - len(request.blocks)) + self._copies(request, first):
            victim = self._youngest_holder(request)
            self._preempt(victim, step)
            if victim is request:
                return False
        if self._copies(request, first):  # copy on write
            old, new = request.blocks[first], pool.take()
            step.copies.append((old, new))
            pool.release([old])
            request.blocks[first] = new
        elif first < len(request.blocks):
            pool.forget(request.blocks[first])  # it may be found no more by its old content
        request.blocks += [pool.take() for _ in range(end - len(request.blocks))]
        return True

    def _copies(self, request: Request, first: int) -> int:
        """1 when the block to write in has another reader."""
        return first < len(request.blocks) and self.pool.readers[request.blocks[first]] > 1

    def _youngest_holder(self, request: Request) -> Request:
        """Who gives up blocks: of those that wait, else of those that run, the youngest."""
        for other in reversed(self.waiting):
            if other.blocks:
                return other
        return self.running[-1] if self.running else request

    def _preempt(self, request: Request, step: Step) -> None:
        """Take its blocks, keep its tokens; it goes back to the others that wait, by its turn."""
        self._release(request)
        request.n_computed = request.n_named = 0
        request.n_preemptions += 1
        step.preempted.append(request)
        if request.state is State.RUNNING:
            self.running.remove(request)
            request.state = State.WAITING
            insort(self.waiting, request, key=_turn)

    def _end(self, request: Request, state: State) -> None:
        (self.running if request.state is State.RUNNING else self.waiting).remove(request)
        self._release(request)
        request.state = state

    def _release(self, request: Request) -> None:
        """Give its blocks back, under their names: another's that had one may be gone by now."""
        for block, digest in zip(request.blocks[: request.n_named], request.digests, strict=False):
            self.pool.name(block, digest)
        self.pool.release(request.blocks)
        request.blocks = []

    def _name_full_blocks(self, request: Request) -> None:
        full = request.n_computed // self.pool.block_size
        if self.prefix_caching and full > request.n_named:
            digests = self._digests(request)
            for i in range(request.n_named, full):
                self.pool.name(request.blocks[i], digests[i])
            request.n_named = full

    def _digests(self, request: Request) -> list[bytes]:
        """Names of all full blocks of its text; what was hashed before is not hashed again."""
        if len(request.digests) < len(request.tokens) // self.pool.block_size:
            request.digests = chain(request.tokens, self.pool.block_size, request.digests)
        return request.digests

    def _check_fits(self, request: Request) -> None:
        need = self.pool.blocks_for(request.most_tokens)
        if need > self.pool.n_blocks:
            raise ValueError(
                f"A prompt of {request.n_prompt} tokens with {request.sampling.max_new_tokens} new "
                f"ones needs {need} blocks of {self.pool.block_size} tokens; the pool has "
                f"{self.pool.n_blocks}. Make it larger, or ask for less."
            )
