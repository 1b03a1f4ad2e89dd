"""Whatever upstream does and readers do: right bytes, once each, an end for all, and no leaks.

Hypothesis draws the mirrors, the policy, and any interleaving of readers that come, crawl and
leave with an upstream that pauses, truncates, resets, stalls, lies, is overloaded or changes. Time
is virtual, so that the same choices give the same run.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from forebay.errors import ForebayError, UpstreamUnreachable
from forebay.model import Fields, Interval, TransferPolicy, WhenAlone
from forebay.rules import coverage as cov
from tests.fakes.clock import VirtualTimeLoop
from tests.fakes.upstream import Act, Ending, Gate, Representation
from tests.leaks import open_descriptors
from tests.streaming.rig import KEY, OTHER, THIRD, URL, Rig, content, take

LENGTH = 16_000
LONG_SECONDS = 3600.0
"""More than all the patience in the code taken together."""

policies = st.builds(
    TransferPolicy,
    max_segments=st.integers(1, 4),
    min_segment_bytes=st.sampled_from([500, 2000, 8000]),
    read_ahead_bytes=st.sampled_from([0, 0, 1500]),
    complete_ranges=st.booleans(),
    when_alone=st.sampled_from(WhenAlone),
    finish_bytes=st.just(2000),
    max_tries=st.integers(1, 3),
)
chunk_sizes = st.sampled_from([100, 700, 5000])
pauses = st.sampled_from([0.0, 0.02, 0.3])
gentle = st.builds(Act, chunk_bytes=chunk_sizes, pause_seconds=pauses)
broken = st.builds(
    Act,
    chunk_bytes=chunk_sizes,
    pause_seconds=pauses,
    ends_after_bytes=st.integers(0, 6000),
    ending=st.sampled_from(Ending),
)
lying = st.sampled_from(
    [
        Act(replaced=(("content-range", None),)),
        Act(replaced=(("content-range", f"bytes 5-{LENGTH}/{LENGTH + 1}"),)),
        Act(replaced=(("etag", '"other"'),)),
        Act(replaced=(("content-encoding", "gzip"),)),
        Act(ignores_range=True, pause_seconds=0.02),
        Act(most_bytes=300),
        Act(surplus=b"surplus" * 100),
    ]
)
unwilling = st.sampled_from(
    [
        Act(status=429, retry_after="1"),
        Act(status=503),
        Act(status=503, retry_after="3600"),
        Act(status=404),
        Act(refuse=UpstreamUnreachable("Refused.")),
        Act(head_after_seconds=3.0),
    ]
)
kinds = st.sampled_from(
    [
        {"etag": '"v%d"'},
        {"etag": '"v%d"'},
        {"etag": '"v%d"', "has_ranges": False},
        {"etag": '"v%d"', "declares_length": False},
        {"etag": None},
        {"etag": 'W/"v%d"'},
    ]
)
slices = st.tuples(st.integers(0, LENGTH - 1), st.integers(1, LENGTH)).map(
    lambda pair: Interval(pair[0], min(LENGTH, pair[0] + pair[1]))
)


@dataclass
class Visitor:
    """A client, and what it has seen."""

    wanted: Interval | None
    gate: Gate = field(default_factory=Gate)
    got: bytes = b""
    error: ForebayError | None = None
    task: asyncio.Task[None] | None = None
    has_left: bool = False

    async def visit(self, rig: Rig) -> None:
        try:
            body = await rig.read(self.wanted)
            try:
                while True:
                    await self.gate.wait()
                    piece = await take(body, 1)
                    if not piece:
                        return
                    self.got += piece
            finally:
                await body.aclose()
        except ForebayError as error:
            self.error = error

    def slice_of(self, whole: bytes) -> bytes:
        return whole if self.wanted is None else whole[self.wanted.start : self.wanted.stop]


class Transfers(RuleBasedStateMachine):
    """One object, its mirrors, its readers."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(inline_threads=True))
        self.descriptors_before: dict[int, str] = {}
        self.visitors: list[Visitor] = []
        self.versions: list[bytes] = []
        self.is_honest = True
        self.has_changed = False
        self.restarts = 0
        self.faults: list[object] = []

    @initialize(
        mirrors=st.integers(1, 3),
        policy=policies,
        kind=kinds,
        with_digest=st.booleans(),
        default=gentle,
    )
    def begin(
        self,
        mirrors: int,
        policy: TransferPolicy,
        kind: dict[str, str | bool | None],
        with_digest: bool,
        default: Act,
    ) -> None:
        self.runner.get_loop().set_exception_handler(lambda _, what: self.faults.append(what))
        self.descriptors_before = open_descriptors()
        self.urls = (URL, OTHER, THIRD)[:mirrors]
        self.kind = kind
        self.policy = policy
        digest = hashlib.sha256(content(LENGTH)).hexdigest()
        self.digests = (("sha-256", digest),) if with_digest else ()
        self.runner.run(self._build(default))
        self._publish(self.urls)

    async def _build(self, default: Act) -> None:
        self.rig = Rig(urls=self.urls, policy=self.policy, digests=self.digests)
        self.rig.upstream.choose = lambda _: default

    def _publish(self, urls: tuple[str, ...]) -> None:
        version = len(self.versions)
        self.versions.append(content(LENGTH - 1000 * (version % 3), version))
        etag = self.kind["etag"]
        representation = Representation(
            self.versions[-1],
            etag=etag % version if isinstance(etag, str) else None,
            has_ranges=bool(self.kind.get("has_ranges", True)),
            declares_length=bool(self.kind.get("declares_length", True)),
            fields=Fields([("content-type", "x/y")]),
        )
        self.rig.hold(representation, *urls)

    # What readers do.

    @precondition(lambda self: sum(not v.has_left for v in self.visitors) < 6)
    @rule(wanted=st.none() | slices, hurries=st.booleans())
    def come(self, wanted: Interval | None, hurries: bool) -> None:
        async def arrive() -> None:
            visitor = Visitor(wanted)
            if hurries:
                visitor.gate.open()
            visitor.task = asyncio.create_task(visitor.visit(self.rig))
            self.visitors.append(visitor)
            await asyncio.sleep(0)

        self.runner.run(arrive())

    @precondition(lambda self: self.visitors)
    @rule(index=st.integers(0, 20), pieces=st.integers(1, 5))
    def crawl(self, index: int, pieces: int) -> None:
        async def step() -> None:
            self.visitors[index % len(self.visitors)].gate.let(pieces)
            await asyncio.sleep(0)

        self.runner.run(step())

    @precondition(lambda self: self.visitors)
    @rule(index=st.integers(0, 20))
    def leave(self, index: int) -> None:
        async def go() -> None:
            visitor = self.visitors[index % len(self.visitors)]
            assert visitor.task is not None
            if not visitor.task.done():
                visitor.has_left = True
                visitor.task.cancel()
                await asyncio.wait([visitor.task])

        self.runner.run(go())

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.15, 0.7, 3.0, 40.0]))
    def wait(self, seconds: float) -> None:
        self.runner.run(asyncio.sleep(seconds))

    # What upstream does.

    @rule(index=st.integers(0, 2), acts=st.lists(gentle | broken | unwilling, max_size=4))
    def trouble(self, index: int, acts: list[Act]) -> None:
        self.is_honest = False
        self.rig.upstream.then(self.urls[index % len(self.urls)], *acts)

    @rule(index=st.integers(0, 2), act=lying)
    def lie(self, index: int, act: Act) -> None:
        self.is_honest = False
        self.rig.upstream.then(self.urls[index % len(self.urls)], act)

    @rule(index=st.integers(0, 3))
    def change(self, index: int) -> None:
        """Upstream has something new, at one mirror or at all."""
        self.is_honest = False
        self.has_changed = True
        self._publish((self.urls[index],) if index < len(self.urls) else self.urls)

    @rule()
    def restart(self) -> None:
        """The service stops in an orderly way, and goes on with what it has stored."""
        self.is_honest = False
        self.restarts += 1
        self.runner.run(self.rig.flights.close())
        assert self.rig.upstream.open_responses == 0
        assert self.rig.store.drafts == set()

    # What is always so.

    @invariant()
    def nothing_of_ours_fails(self) -> None:
        assert not self.faults

    @invariant()
    def every_reader_sees_one_representation(self) -> None:
        for visitor in self.visitors:
            slices_ = [visitor.slice_of(version) for version in self.versions]
            assert any(whole.startswith(visitor.got) for whole in slices_), visitor

    @invariant()
    def what_is_stored_is_one_representation(self) -> None:
        if not self.versions:
            return
        entry = next(iter(self.rig.store.find_cached(KEY) or ()), None)
        if entry is None:
            return
        fileno = self.rig.store.open_reader(entry)
        try:
            parts = [(os.pread(fileno, b - a, a), a, b) for a, b in entry.coverage]
        finally:
            os.close(fileno)
        fitting = [v for v in self.versions if all(v[a:b] == part for part, a, b in parts)]
        assert fitting
        if entry.complete:
            whole = b"".join(part for part, _, _ in parts)
            assert whole in self.versions
            assert not self.digests or whole == self.versions[0]

    @invariant()
    def connections_are_bounded(self) -> None:
        if self.versions and self.rig.running is not None:
            assert len(self.rig.running.view().segments) <= self.policy.max_segments

    @invariant()
    def no_byte_is_written_twice(self) -> None:
        if not self.versions or self.has_changed or self.kind.get("has_ranges") is False:
            return  # then, a connection that starts over is all that there may be
        if self._was_given_the_whole_again:
            return
        # A whole that was to be proved is claimed but for one byte until it is.
        allowance = self.restarts if self.digests else 0
        for entry_id, written in self.rig.written.items():
            twice = sum(part.length_bytes for part in written)
            twice -= cov.total_bytes(cov.normalise(written))
            assert twice <= allowance, entry_id

    @property
    def _was_given_the_whole_again(self) -> bool:
        """Or went on through it: where the last mirror looks changed, a connection at work brings
        what nobody may be asked for any more, and on its way there what another has brought."""
        return any(r.act.ignores_range or r.act.replaced for r in self.rig.upstream.responses)

    def teardown(self) -> None:
        if not self.versions:
            self.runner.close()
            return
        try:
            self.runner.run(self._end())
            self.every_reader_sees_one_representation()
            self.what_is_stored_is_one_representation()
            self.no_byte_is_written_twice()
            self._check_ends()
            self.runner.run(self.rig.close())
            loop = self.runner.get_loop()
            assert not asyncio.all_tasks(loop)
            assert open_descriptors().items() <= self.descriptors_before.items()
        finally:
            # Also where an example has failed: the next is not to find its memory files.
            with contextlib.closing(self.runner):
                self.runner.run(self.rig.close())

    async def _end(self) -> None:
        """Let everything run to its end: it must have one."""
        for visitor in self.visitors:
            visitor.gate.open()
        await asyncio.sleep(LONG_SECONDS)
        assert all(v.task is not None and v.task.done() for v in self.visitors), "a reader hangs"
        assert self.rig.running is None, "a transfer hangs"
        assert self.rig.upstream.open_responses == 0
        assert self.rig.store.drafts == set()
        assert self.rig.slots.used == 0
        assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]

    def _check_ends(self) -> None:
        for visitor in self.visitors:
            if visitor.has_left:
                continue
            assert not self.is_honest or visitor.error is None, visitor.error
            if visitor.error is None:
                wholes = [visitor.slice_of(version) for version in self.versions]
                assert visitor.got in wholes
                if self.digests and visitor.wanted is None:
                    assert visitor.got == self.versions[0]


TestTransfers = Transfers.TestCase
TestTransfers.settings = settings(max_examples=300, stateful_step_count=30, deadline=None)
